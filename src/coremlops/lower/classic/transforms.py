"""Transforms of numbers, in plain ONNX and double. Those of strings and dictionaries run on the host."""

from __future__ import annotations

import math

import numpy as np

from coremlops.dialects.classic.transforms import (
    ArrayFeatureExtractor,
    FeatureVectorizer,
    Imputer,
    Normalizer,
    Scaler,
)
from coremlops.errors import ModelFormatError
from coremlops.lower.classic.context import ClassicLowering
from coremlops.lower.registry import Unsupported


def lower_imputer(low: ClassicLowering, model: Imputer) -> None:
    """What is missing, by NaN or by the value that says so, becomes what is imputed."""
    name, size = low.only_input()
    if not isinstance(model.imputed, np.ndarray | float | int):
        raise Unsupported("an imputer of strings or dictionaries")
    row, imputed = low.vector([name])[0], np.ravel(model.imputed)
    if len(imputed) not in (1, size):
        raise ModelFormatError(f"{low.where}: {len(imputed)} values to impute for {size} inputs")
    missing = low.ctx.node("IsNaN", row)
    if isinstance(model.replace, float | int) and not math.isnan(model.replace):
        marked = low.ctx.node("Equal", row, low.constant(model.replace))
        # An input that is not given arrives as NaN.
        optional = low.description.input(name).optional
        missing = low.ctx.node("Or", missing, marked) if optional else marked
    low.give(low.only_output(), low.ctx.node("Where", missing, low.constant(imputed), row), size)


def lower_scaler(low: ClassicLowering, model: Scaler) -> None:
    """`scale * (x + shift)`."""
    name, size = low.only_input()
    if not {len(model.shift), len(model.scale)} <= {1, size}:
        raise ModelFormatError(
            f"{low.where}: {len(model.shift)} shifts and {len(model.scale)} scales for {size} inputs"
        )
    moved = low.ctx.node("Add", low.vector([name])[0], low.constant(model.shift))
    low.give(low.only_output(), low.ctx.node("Mul", moved, low.constant(model.scale)), size)


def lower_normalizer(low: ClassicLowering, model: Normalizer) -> None:
    """x divided by its norm; zeros stay what they are, as in scikit-learn."""
    name, size = low.only_input()
    row = low.vector([name])[0]
    axis, node = low.ctx.ints([1]), low.ctx.node
    match model.norm:
        case "L1":
            norm = node("ReduceSum", node("Abs", row), axis)
        case "L2":
            norm = node("Sqrt", node("ReduceSum", node("Mul", row, row), axis))
        case _:
            norm = node("ReduceMax", row, axis)
    norm = node("Where", node("Equal", norm, low.constant(0)), low.constant(1), norm)
    low.give(low.only_output(), node("Div", row, norm), size)


def lower_feature_vectorizer(low: ClassicLowering, model: FeatureVectorizer) -> None:
    """Features one after another."""
    for name, size in model.columns:
        if low.size(name) != size:
            raise ModelFormatError(
                f"{low.where}: {size} elements of the input {name!r}; it has {low.size(name)}"
            )
    row, size = low.vector([name for name, _ in model.columns])
    low.give(low.only_output(), row, size)


def lower_array_feature_extractor(low: ClassicLowering, model: ArrayFeatureExtractor) -> None:
    """The elements at some places."""
    name, size = low.only_input()
    if model.indices.max() >= size:
        raise ModelFormatError(f"{low.where}: element {model.indices.max()} of an array of {size}")
    picked = low.ctx.node("Gather", low.vector([name])[0], low.ctx.ints(model.indices), axis=1)
    low.give(low.only_output(), picked, len(model.indices))
