"""k nearest neighbours, in plain ONNX: all distances, the least of them, and a vote."""

from __future__ import annotations

import numpy as np

from coremlops.dialects.classic.neighbors import NearestNeighbors
from coremlops.errors import ModelFormatError
from coremlops.lower.classic.context import MAX_ELEMENTS, ClassicLowering
from coremlops.lower.registry import Value
from coremlops.model.labels import unique_labels


def lower_neighbors(low: ClassicLowering, model: NearestNeighbors) -> None:
    """The label with the most votes; of several the least (scikit-learn's rule; Apple names none)."""
    row, width = low.vector()
    if width != model.samples.shape[1]:
        raise ModelFormatError(f"{low.where}: samples of {model.samples.shape[1]} numbers for {width} inputs")
    if not len(model.samples):
        assert model.default is not None  # noqa: S101  the reader saw to that
        low.classify((model.default,), low.constant([1]))
        return
    labels = unique_labels(model.sample_labels)
    if len(labels) * min(model.k, len(model.samples)) > MAX_ELEMENTS:
        raise ModelFormatError(f"{low.where}: {model.k} neighbours of {len(labels)} classes are too many")
    place = {label: number for number, label in enumerate(labels)}
    classes = low.ctx.ints([place[label] for label in model.sample_labels])
    weights, nearest = _weights(low, model, row)
    votes = low.ctx.node(
        "Equal", low.ctx.node("Gather", classes, nearest), low.ctx.ints(np.arange(len(labels))[:, None])
    )
    tally = low.product(low.double(votes), low.reshape(weights, [-1, 1]))
    total = low.ctx.node("ReduceSum", tally, keepdims=0)
    low.classify(labels, low.ctx.node("Div", tally, total))


def _weights(low: ClassicLowering, model: NearestNeighbors, row: Value) -> tuple[Value, Value]:
    """What the votes of the nearest samples weigh [k], and their places [k].

    By inverse distance, samples at the very place of the input vote alone: their weight has no bound.
    """
    node, k = low.ctx.node, min(model.k, len(model.samples))
    apart = node("Sub", low.double(low.ctx.constant(model.samples)), row)
    squares = node("ReduceSum", node("Mul", apart, apart), low.ctx.ints([1]), keepdims=0)
    distances, nearest = low.ctx.nodes("TopK", 2, squares, low.ctx.ints([k]), largest=0)
    if not model.inverse_distance:
        return low.constant(np.ones(k)), nearest
    same = low.double(node("Equal", distances, low.constant(0)))
    any_same = node("Greater", node("ReduceMax", same, keepdims=0), low.constant(0))
    return node("Where", any_same, same, node("Reciprocal", distances)), nearest
