"""Generalised linear models, in plain ONNX: its own LinearClassifier computes in float32."""

from __future__ import annotations

import math

import numpy as np

from coremlops.dialects.classic.linear import LinearModel
from coremlops.errors import ModelFormatError
from coremlops.lower.classic.context import ClassicLowering
from coremlops.lower.registry import Value

_TERMS = 140
_FAR = 8.3  # beyond it the distribution is one in all bits of a double


def lower_linear(low: ClassicLowering, model: LinearModel) -> None:
    """A transform of `weights @ x + offset`; see `dialects.classic.linear`."""
    row, width = low.vector()
    if model.weights.shape[1] != width:
        raise ModelFormatError(f"{low.where}: {model.weights.shape[1]} weights for {width} inputs")
    product = low.product(row, low.constant(model.weights.T))
    scores = low.ctx.node("Add", product, low.constant(model.offsets[None]))
    if model.labels is None:
        low.give(low.only_output(), _squashed(low, model.transform, scores), len(model.offsets))
    elif len(model.offsets) == 1:
        second = _squashed(low, model.transform, scores)
        first = _squashed(low, model.transform, low.ctx.node("Neg", scores))
        chosen = low.ctx.node("Greater", scores, low.constant(0))
        low.classify(model.labels, low.ctx.node("Concat", first, second, axis=1), chosen)
    elif model.encoding == "ReferenceClass":
        scores = low.ctx.node("Concat", low.constant([[0]]), scores, axis=1)
        low.classify(model.labels, low.ctx.node("Softmax", scores, axis=1))
    else:
        each = _squashed(low, model.transform, scores)
        total = low.ctx.node("ReduceSum", each, low.ctx.ints([1]))
        # By the scores: far from the border two of the probabilities may both round to one.
        low.classify(model.labels, low.ctx.node("Div", each, total), low.ctx.node("ArgMax", scores, axis=1))


def _squashed(low: ClassicLowering, transform: str, scores: Value) -> Value:
    if transform == "Probit":
        return normal_distribution(low, scores)
    return low.ctx.node("Sigmoid", scores) if transform == "Logit" else scores


def normal_distribution(low: ClassicLowering, x: Value) -> Value:
    """The standard normal distribution function of x [1, n], to about 1e-15.

    ONNX Runtime's Erf has no double. erf(x / sqrt(2)) = x sqrt(2 / pi) exp(-x^2 / 2) times the sum of
    x^2n / (2n + 1)!!, in which all terms are positive. Source: Abramowitz and Stegun, 7.1.6.
    """
    node = low.ctx.node
    x = node("Clip", x, low.constant(-_FAR), low.constant(_FAR))
    square = node("Mul", x, x)
    powers = node("Pow", node("Unsqueeze", square, low.ctx.ints([2])), low.constant(np.arange(_TERMS)))
    factors = low.constant(np.cumprod(1.0 / np.arange(1, 2 * _TERMS, 2)))
    series = node("ReduceSum", node("Mul", powers, factors), low.ctx.ints([2]), keepdims=0)
    bell = node("Exp", node("Mul", square, low.constant(-0.5)))
    erf = node("Mul", node("Mul", node("Mul", bell, low.constant(math.sqrt(2 / math.pi))), x), series)
    return node("Mul", node("Add", erf, low.constant(1)), low.constant(0.5))
