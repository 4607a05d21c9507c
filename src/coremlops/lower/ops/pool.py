"""Pools. Source: coremltools, `ops/defs/iOS15/pool.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.padding import spatial_padding
from coremlops.lower.registry import Ints, Unsupported, Value, lowers


@lowers("max_pool", moves=True)
def max_pool(
    ctx: Lowering,
    x: Value,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Value:
    """The greatest value under each window; padding never wins.

    x: [n, C, *D], fp16|fp32 -> [n, C, *D_out]. `ceil_mode`: see `_beyond`.
    """
    strides = strides or (1,) * len(kernel_sizes)
    pads = _pads(x, kernel_sizes, strides, pad_type, pad)
    extra = _beyond(x.shape[2:], kernel_sizes, strides, pads) if ceil_mode else (0,) * len(kernel_sizes)
    pads = _longer(pads, extra)
    if _too_wide(pads, kernel_sizes):
        x, pads = _pad(ctx, x, pads, -math.inf), (0,) * len(pads)
    return ctx.node("MaxPool", x, kernel_shape=kernel_sizes, strides=strides, pads=pads)


@lowers("avg_pool")
def avg_pool(
    ctx: Lowering,
    x: Value,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Value:
    """The mean under each window.

    x: [n, C, *D], fp16|fp32 -> [n, C, *D_out]. `exclude_padding_from_average`: padded zeros do not count.
    What `ceil_mode` adds beyond the padding never counts, as in PyTorch.
    """
    strides = strides or (1,) * len(kernel_sizes)
    pads = _pads(x, kernel_sizes, strides, pad_type, pad)
    extra = _beyond(x.shape[2:], kernel_sizes, strides, pads) if ceil_mode else (0,) * len(kernel_sizes)
    total = _longer(pads, extra)
    if _too_wide(total, kernel_sizes):
        raise Unsupported(f"a mean with padding {total} as wide as its window {kernel_sizes}")
    mean = ctx.node(
        "AveragePool",
        x,
        kernel_shape=kernel_sizes,
        strides=strides,
        pads=total,
        count_include_pad=int(not exclude_padding_from_average),
    )
    if exclude_padding_from_average or not any(extra):
        return mean
    # ONNX Runtime counts what ceil_mode adds, too: the last windows were divided by too much.
    return ctx.node("Mul", mean, ctx.constant(_correction(x.shape[2:], kernel_sizes, strides, total, extra)))


def _correction(
    sizes: Sequence[int | None], kernel: Ints, strides: Ints, pads: Ints, extra: Ints
) -> np.ndarray[Any, Any]:
    """What each mean is to be multiplied by, so that `extra` is not counted; shape [*D_out]."""
    factors = np.ones((), np.float32)
    for axis, (size, width, stride, beyond) in enumerate(zip(sizes, kernel, strides, extra, strict=True)):
        windows = ((size or 0) + pads[axis] + pads[axis + len(kernel)] - width) // stride + 1
        line = np.ones(windows, np.float32)
        line[-1] = width / (width - beyond)
        factors = factors[..., None] * line
    return factors


def _pads(x: Value, kernel: Ints, strides: Ints, pad_type: str, pad: Ints | None) -> Ints:
    ones = (1,) * len(kernel)
    padding = spatial_padding(
        pad_type, pad, input_sizes=x.shape[2:], kernel=kernel, strides=strides, dilations=ones
    )
    if "pads" not in padding:
        raise Unsupported(f"pad_type {pad_type!r} over sizes known at run time alone")
    pads: Ints = padding["pads"]
    return pads


def _beyond(sizes: Sequence[int | None], kernel: Ints, strides: Ints, pads: Ints) -> Ints:
    """What `ceil_mode` adds after each axis.

    The number of windows is rounded up, but a window that would begin past the input and its padding before
    is dropped when there is padding (without padding, none can).
    """
    extra = []
    for axis, (size, width, stride) in enumerate(zip(sizes, kernel, strides, strict=True)):
        if size is None:
            raise Unsupported("ceil_mode over sizes known at run time alone")
        before, after = pads[axis], pads[axis + len(kernel)]
        windows = -(-(size + before + after - width) // stride) + 1
        if (windows - 1) * stride >= size + before and before + after > 0:
            windows -= 1
        if (windows - 1) * stride >= size + before + after:
            raise Unsupported(f"ceil_mode with a window that lies beyond all {size} elements")
        extra.append(max(0, (windows - 1) * stride + width - size - before - after))
    return tuple(extra)


def _longer(pads: Ints, extra: Ints) -> Ints:
    """`pads` with `extra` added after each axis."""
    axes = len(extra)
    return (*pads[:axes], *(after + more for after, more in zip(pads[axes:], extra, strict=True)))


def _too_wide(pads: Ints, kernel: Ints) -> bool:
    """Whether the padding is as wide as the window, which ONNX Runtime refuses as an attribute."""
    return any(amount >= width for amount, width in zip(pads, kernel * 2, strict=True))


def _pad(ctx: Lowering, x: Value, pads: Ints, fill: float) -> Value:
    axes = len(pads) // 2
    whole = (0, 0, *pads[:axes], 0, 0, *pads[axes:])
    return ctx.node("Pad", x, ctx.ints(whole), ctx.constant(fill, np.float32), mode="constant")
