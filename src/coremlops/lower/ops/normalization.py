"""Normalizations. Source: coremltools, `ops/defs/iOS15/normalization.py`, `iOS17/normalization.py`."""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Ints, Unsupported, Value, lowers
from coremlops.lower.shapes import filled


@lowers("batch_norm")
def batch_norm(
    ctx: Lowering,
    x: Value,
    mean: Value,
    variance: Value,
    gamma: Value | None = None,
    beta: Value | None = None,
    epsilon: float = 1e-5,
) -> Value:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, for each channel.

    x: [n, C, *D], fp16|fp32; the others: [C] -> same shape and dtype as x.
    """
    channels = mean.shape
    ones = gamma or filled(ctx, channels, 1)
    zeros = beta or filled(ctx, channels, 0)
    return ctx.node("BatchNormalization", x, ones, zeros, mean, variance, epsilon=epsilon)


@lowers("instance_norm")
def instance_norm(
    ctx: Lowering, x: Value, gamma: Value | None = None, beta: Value | None = None, epsilon: float = 1e-5
) -> Value:
    """gamma * (x - E[x]) / sqrt(Var[x] + epsilon) + beta, over the spatial axes of each sample and channel.

    x: [n, C, *D], fp16|fp32; gamma, beta: [C] -> same shape and dtype as x.
    """
    channels = next((part.shape[0] for part in (gamma, beta) if part is not None), x.shape[1])
    if channels is None:
        return _standardised(ctx, x, tuple(range(2, x.rank)), epsilon)
    ones = gamma or filled(ctx, [channels], 1)
    zeros = beta or filled(ctx, [channels], 0)
    return ctx.node("InstanceNormalization", x, ones, zeros, epsilon=epsilon)


@lowers("layer_norm")
def layer_norm(
    ctx: Lowering,
    x: Value,
    axes: Ints | None = None,
    gamma: Value | None = None,
    beta: Value | None = None,
    epsilon: float = 1e-5,
) -> Value:
    """gamma * (x - E[x]) / sqrt(Var[x] + epsilon) + beta, over `axes` (all of them by default).

    x: [*], fp16|fp32; gamma, beta: the sizes of `axes`, in their order in x -> same shape and dtype as x.
    """
    over = tuple(sorted(map(x.axis, range(x.rank) if axes is None else axes)))
    sizes = gamma.shape if gamma is not None else tuple(x.shape[axis] for axis in over)
    last = tuple(range(x.rank - len(over), x.rank))
    if over and over == last and None not in sizes:
        scale = gamma or filled(ctx, sizes, 1)
        return ctx.node("LayerNormalization", x, scale, beta, axis=over[0], epsilon=epsilon)
    result = _standardised(ctx, x, over, epsilon)
    if gamma is not None:
        result = ctx.node("Mul", result, _spread(ctx, gamma, over, x.rank))
    return result if beta is None else ctx.node("Add", result, _spread(ctx, beta, over, x.rank))


@lowers("l2_norm")
def l2_norm(ctx: Lowering, x: Value, epsilon: float = 1e-6) -> Value:
    """x / sqrt(the sum of its squares over the last three axes + epsilon). x: [*B, C, H, W], fp16|fp32."""
    squares = ctx.node("ReduceSumSquare", x, ctx.ints((-3, -2, -1)), keepdims=1)
    return ctx.node("Div", x, _root(ctx, squares, epsilon))


@lowers("local_response_norm")
def local_response_norm(
    ctx: Lowering, x: Value, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Value:
    """x / (k + alpha * the mean of x^2 over `size` channels around each) ^ beta.

    x: [n, C, *D], fp16|fp32 -> same shape and dtype. Channels that are not there count as zeros; of an even
    `size` there is one more before, as in PyTorch. ONNX's LRN has its one more after.
    """
    if size < 1 or x.rank > 5:
        raise Unsupported(f"size {size} over rank {x.rank}")
    spatial = x.rank - 2
    squares = ctx.node("Mul", x, x)
    if spatial > 2:  # the engine pools over three axes at most
        squares = ctx.node("Reshape", squares, ctx.ints((0, 0, -1)))
        spatial = 1
    means = ctx.node(
        "AveragePool",
        ctx.node("Unsqueeze", squares, ctx.ints((1,))),
        kernel_shape=(size, *[1] * spatial),
        pads=(size // 2, *[0] * spatial, (size - 1) // 2, *[0] * spatial),
        count_include_pad=1,
    )
    means = ctx.node("Squeeze", means, ctx.ints((1,)))
    if x.rank > 4:
        means = ctx.node("Reshape", means, ctx.node("Shape", x))
    scaled = ctx.node("Mul", means, ctx.constant(alpha, np.float32))
    base = ctx.node("Add", scaled, ctx.constant(k, np.float32))
    return ctx.node("Div", x, ctx.node("Pow", base, ctx.constant(beta, np.float32)))


def _standardised(ctx: Lowering, x: Value, axes: Ints, epsilon: float) -> Value:
    """x with mean 0 and variance 1 over `axes`."""
    if not axes:  # to ONNX, no axis is all of them
        return ctx.node("Mul", x, ctx.constant(0, np.float32))
    over = ctx.ints(axes)
    centred = ctx.node("Sub", x, ctx.node("ReduceMean", x, over, keepdims=1))
    variance = ctx.node("ReduceMean", ctx.node("Mul", centred, centred), over, keepdims=1)
    return ctx.node("Div", centred, _root(ctx, variance, epsilon))


def _root(ctx: Lowering, x: Value, epsilon: float) -> Value:
    return ctx.node("Sqrt", ctx.node("Add", x, ctx.constant(epsilon, np.float32)))


def _spread(ctx: Lowering, values: Value, axes: Ints, rank: int) -> Value:
    """Values over `axes` as a tensor of that rank, with axes of size 1 for the others."""
    others = tuple(axis for axis in range(rank) if axis not in axes)
    return ctx.node("Unsqueeze", values, ctx.ints(others)) if others else values
