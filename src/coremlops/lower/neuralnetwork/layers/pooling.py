"""Pools over two and three axes."""

from __future__ import annotations

from coremlops.dialects.neuralnetwork import Fields
from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.layers.convolution import window_padding
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.ops.pool import avg_pool, l2_pool, max_pool
from coremlops.lower.registry import Ints, Value


@layer("pooling")
def pooling(
    ctx: NetworkLowering,
    x: Value,
    *,
    type: str,
    kernelSize: Ints,
    stride: Ints,
    valid: Fields | None,
    same: Fields | None,
    includeLastPixel: Fields | None,
    avgPoolExcludePadding: bool,
    globalPooling: bool,
) -> Value:
    """The greatest, mean or L2 norm of each window. x: [..., C, H, W] -> [..., C, H_out, W_out].

    `includeLastPixel`: the number of windows is rounded up, so that the last one holds the last pixel.
    """
    if globalPooling:
        return ctx.on_images(x, lambda view: _global(ctx, view, type))
    pad_type, amounts = window_padding(valid, same)
    if includeLastPixel is not None:
        around = includeLastPixel["paddingAmounts"] or (0, 0)
        pad_type, amounts = "custom", tuple(amount for size in around for amount in (size, size))
    size, strides, ceil = kernelSize or (3, 3), stride or (1, 1), includeLastPixel is not None
    return ctx.on_images(
        x, lambda view: _pool(ctx, view, type, size, strides, pad_type, amounts, avgPoolExcludePadding, ceil)
    )


def _global(ctx: NetworkLowering, x: Value, kind: str) -> Value:
    if kind == "L2":
        return ctx.node("ReduceL2", x, ctx.ints(range(2, x.rank)), keepdims=1)
    return ctx.node({"MAX": "GlobalMaxPool", "AVERAGE": "GlobalAveragePool"}[kind], x)


def _pool(
    ctx: NetworkLowering,
    x: Value,
    kind: str,
    size: Ints,
    strides: Ints,
    pad_type: str,
    amounts: Ints | None,
    exclude: bool,
    ceil: bool,
) -> Value:
    if kind == "MAX":
        return max_pool(ctx, x, size, strides, pad_type, amounts, ceil)
    if kind == "AVERAGE":
        return avg_pool(ctx, x, size, strides, pad_type, amounts, exclude, ceil)
    return l2_pool(ctx, x, size, strides, pad_type, amounts, ceil)


@layer("pooling3d")
def pooling3d(
    ctx: NetworkLowering,
    x: Value,
    *,
    type: str,
    kernelDepth: int,
    kernelHeight: int,
    kernelWidth: int,
    strideDepth: int,
    strideHeight: int,
    strideWidth: int,
    paddingType: str,
    customPaddingFront: int,
    customPaddingBack: int,
    customPaddingTop: int,
    customPaddingBottom: int,
    customPaddingLeft: int,
    customPaddingRight: int,
    countExcludePadding: bool,
) -> Value:
    """The greatest or the mean of each window. x: [..., C, D, H, W] -> [..., C, D_out, H_out, W_out]."""
    size = (kernelDepth or 3, kernelHeight or 3, kernelWidth or 3)
    strides = (strideDepth or 1, strideHeight or 1, strideWidth or 1)
    amounts = (
        customPaddingFront,
        customPaddingBack,
        customPaddingTop,
        customPaddingBottom,
        customPaddingLeft,
        customPaddingRight,
    )
    if type not in ("MAX", "AVERAGE"):
        raise ModelFormatError(f"a pool of the type {type}")
    kind = paddingType.lower()
    pad = amounts if kind == "custom" else None
    view = ctx.merged(x, 4)
    y = _pool(ctx, view, type, size, strides, kind, pad, countExcludePadding, False)
    return ctx.restored(y, x, 4)


@layer("globalPooling3d")
def global_pooling3d(ctx: NetworkLowering, x: Value, *, type: str) -> Value:
    """The greatest or the mean over depth, height and width. x: [..., C, D, H, W] -> [..., C, 1, 1, 1]."""
    return ctx.restored(_global(ctx, ctx.merged(x, 4), type), x, 4)
