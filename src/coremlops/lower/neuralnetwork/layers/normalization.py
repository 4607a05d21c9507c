"""Normalizations, and softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coremlops.dialects.neuralnetwork import Weights
from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.layers.matrix import given
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.registry import Ints, Value


@layer("batchnorm")
def batchnorm(
    ctx: NetworkLowering,
    x: Value,
    *,
    channels: int,
    computeMeanVar: bool,
    instanceNormalization: bool,
    epsilon: float,
    gamma: Weights | None,
    beta: Weights | None,
    mean: Weights | None,
    variance: Weights | None,
) -> Value:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, by channel. x: [..., C, H, W] -> same shape.

    `computeMeanVar`: mean and variance are those of each instance (`instanceNormalization`) or of the whole
    batch. `epsilon` 0 means 1e-5.
    """
    epsilon = epsilon or 1e-5
    scale = given(gamma, "gamma").array(channels)
    offset = given(beta, "beta").array(channels)
    if not computeMeanVar:
        center, spread = given(mean, "mean").array(channels), given(variance, "variance").array(channels)
        values = [ctx.weight(array) for array in (scale, offset, center, spread)]
        return ctx.on_images(x, lambda v: ctx.node("BatchNormalization", v, *values, epsilon=epsilon))
    axes = (2, 3) if instanceNormalization else (0, 2, 3)

    def function(view: Value) -> Value:
        normal = standardized(ctx, view, axes, epsilon)
        scaled = ctx.node("Mul", normal, ctx.weight(scale.reshape(channels, 1, 1)))
        return ctx.node("Add", scaled, ctx.weight(offset.reshape(channels, 1, 1)))

    return ctx.on_images(x, function)


def standardized(ctx: NetworkLowering, x: Value, axes: Sequence[int], epsilon: float | None) -> Value:
    """x minus its mean along `axes`, over its deviation there; `epsilon` None: minus its mean alone."""
    along = ctx.ints(axes)
    centered = ctx.node("Sub", x, ctx.node("ReduceMean", x, along, keepdims=1))
    if epsilon is None:
        return centered
    variance = ctx.node("ReduceMean", ctx.node("Mul", centered, centered), along, keepdims=1)
    return ctx.node("Div", centered, ctx.node("Sqrt", ctx.node("Add", variance, ctx.constant(epsilon))))


@layer("mvn")
def mvn(
    ctx: NetworkLowering, x: Value, *, acrossChannels: bool, normalizeVariance: bool, epsilon: float
) -> Value:
    """Mean zero and deviation one, by channel or over all of an instance. x: [..., C, H, W] -> same shape.

    `epsilon` 0 means 1e-6.
    """
    axes = (-3, -2, -1) if acrossChannels else (-2, -1)
    if x.rank < 3:
        raise ModelFormatError(f"a value of rank {x.rank}; expected at least 3")
    return standardized(ctx, x, axes, (epsilon or 1e-6) if normalizeVariance else None)


@layer("l2normalize")
def l2normalize(ctx: NetworkLowering, x: Value, *, epsilon: float) -> Value:
    """x over the root of the sum of its squares and `epsilon` (0 means 1e-6). x: [..., C, H, W]."""
    squares = ctx.node("ReduceSumSquare", x, ctx.ints([-3, -2, -1]), keepdims=1)
    return ctx.node("Div", x, ctx.node("Sqrt", ctx.node("Add", squares, ctx.constant(epsilon or 1e-6))))


@layer("lrn")
def lrn(ctx: NetworkLowering, x: Value, *, alpha: float, beta: float, localSize: int, k: float) -> Value:
    """x / (k + alpha / localSize * sum of squares in a window of channels) ** beta. x: [..., C, H, W].

    `k` 0 means 1. The format's text divides by C, coremltools' tests by the size of the window.
    """
    if localSize < 1:
        raise ModelFormatError(f"a window of {localSize} channels")
    attributes = {"alpha": alpha, "beta": beta, "size": localSize, "bias": k or 1.0}
    if localSize % 2:
        return ctx.on_images(x, lambda view: ctx.node("LRN", view, **attributes))
    # ONNX Runtime has odd windows alone; an even one reaches further before, as PyTorch's does.
    before = localSize // 2

    def function(view: Value) -> Value:
        squares = ctx.node("Unsqueeze", ctx.node("Mul", view, view), ctx.ints([1]))
        mean = ctx.node(
            "AveragePool",
            squares,
            kernel_shape=[localSize, 1, 1],
            pads=[before, 0, 0, localSize - 1 - before, 0, 0],
            count_include_pad=1,
        )
        total = ctx.node("Mul", ctx.node("Squeeze", mean, ctx.ints([1])), ctx.constant(alpha))
        divisor = ctx.node("Pow", ctx.node("Add", total, ctx.constant(k or 1.0)), ctx.constant(beta))
        return ctx.node("Div", view, divisor)

    return ctx.on_images(x, function)


@layer("softmax")
def softmax(ctx: NetworkLowering, x: Value) -> Value:
    """exp(x) over its sum along the channels, axis -3. x: [..., C, H, W] -> same shape."""
    return ctx.on_images(x, lambda view: ctx.node("Softmax", view, axis=1))


@layer("softmaxND")
def softmax_nd(ctx: NetworkLowering, x: Value, *, axis: int) -> Value:
    """exp(x) over its sum along an axis. x: [*] -> same shape."""
    return ctx.node("Softmax", x, axis=axis)


@layer("layerNormalization")
def layer_normalization(
    ctx: NetworkLowering,
    x: Value,
    *,
    normalizedShape: Ints,
    eps: float,
    gamma: Weights | None,
    beta: Weights | None,
) -> Value:
    """Mean zero and deviation one over the last axes, then times gamma plus beta. x: [*] -> same shape."""
    count = len(normalizedShape)
    if not 1 <= count <= x.rank or min(normalizedShape) < 1:
        raise ModelFormatError(f"normalized over {list(normalizedShape)} of a value of rank {x.rank}")
    scale = given(gamma, "gamma").array(*normalizedShape)
    offset = given(beta, "beta").array(*normalizedShape)
    return ctx.node(
        "LayerNormalization",
        x,
        ctx.weight(scale),
        ctx.weight(offset),
        axis=-count,
        epsilon=np.float32(eps).item(),
    )


@layer("scale")
def scale(
    ctx: NetworkLowering,
    x: Value,
    *,
    shapeScale: Ints,
    scale: Weights | None,
    hasBias: bool,
    shapeBias: Ints,
    bias: Weights | None,
) -> Value:
    """x times a scale, plus a bias: of all, by channel, by place, or both. x: [..., C, H, W]."""
    factor = ctx.weight(_spread(given(scale, "scale"), shapeScale))
    offset = ctx.weight(_spread(given(bias, "bias"), shapeBias)) if hasBias else None

    def function(view: Value) -> Value:
        scaled = ctx.node("Mul", view, factor)
        return scaled if offset is None else ctx.node("Add", scaled, offset)

    return ctx.elementwise(function, x)


@layer("bias")
def bias(ctx: NetworkLowering, x: Value, *, shape: Ints, bias: Weights | None) -> Value:
    """x plus a bias: of all, by channel, by place, or both. x: [..., C, H, W] -> same shape."""
    offset = ctx.weight(_spread(given(bias, "bias"), shape))
    return ctx.elementwise(lambda view: ctx.node("Add", view, offset), x)


def _spread(weights: Weights, shape: Ints) -> np.ndarray:
    """Weights of the shape [1], [C] or [C, H, W] as they broadcast against [..., C, H, W]."""
    array = weights.array(*shape)
    return array.reshape(*shape, 1, 1) if len(shape) == 1 and array.size > 1 else array
