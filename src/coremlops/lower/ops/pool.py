"""Pools. Source: coremltools, `ops/defs/iOS15/pool.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.padding import pad_spatially, same_padding_at_run_time, spatial_padding
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
    """The greatest value under each window; padding never wins (over padding alone: the lowest float32).

    x: [n, C, *D], fp16|fp32 -> [n, C, *D_out]. `ceil_mode`: see `_beyond`.
    """
    window = _window(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    x, pads = _padded(ctx, x, window, -math.inf)
    return ctx.node("MaxPool", x, kernel_shape=window.kernel, strides=window.strides, pads=pads)


@lowers("l2_pool")
def l2_pool(
    ctx: Lowering,
    x: Value,
    kernel_sizes: Ints,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Value:
    """The root of the sum of squares under each window.

    x: [n, C, *D], fp16|fp32 -> [n, C, *D_out]. `ceil_mode`: see `_beyond`.
    """
    window = _window(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    x, pads = _padded(ctx, x, window, 0)
    return ctx.node("LpPool", x, kernel_shape=window.kernel, strides=window.strides, pads=pads, p=2)


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
    window = _window(x, kernel_sizes, strides, pad_type, pad, ceil_mode)
    excluded = exclude_padding_from_average
    counts_all = window.extra is not None and not any(window.extra)
    if window.fits and (excluded or counts_all):  # the engine counts what ceil_mode adds, too
        return ctx.node(
            "AveragePool",
            x,
            kernel_shape=window.kernel,
            strides=window.strides,
            pads=window.whole,
            count_include_pad=int(not excluded),
        )
    return _mean_by_counting(ctx, x, window, excluded)


@dataclass(frozen=True, slots=True)
class _Window:
    """A window and what is added around the input for it; sizes that are not known stand as None.

    `pads`: before each axis, then after each. `extra`: what `ceil_mode` adds after each, beyond that.
    """

    kernel: Ints
    strides: Ints
    pads: Ints | None
    extra: Ints | None
    lower: bool

    @property
    def whole(self) -> Ints | None:
        """`pads` and `extra` together."""
        if self.pads is None or self.extra is None:
            return None
        axes = len(self.kernel)
        after = (pad + more for pad, more in zip(self.pads[axes:], self.extra, strict=True))
        return (*self.pads[:axes], *after)

    @property
    def fits(self) -> bool:
        """Whether the engine takes the padding as an attribute: known, and narrower than the window."""
        whole = self.whole
        return whole is not None and all(
            amount < width for amount, width in zip(whole, self.kernel * 2, strict=True)
        )


def _window(
    x: Value, kernel: Ints, strides: Ints | None, pad_type: str, pad: Ints | None, ceil_mode: bool
) -> _Window:
    sizes = x.shape[2:]
    if len(kernel) != len(sizes):
        raise Unsupported(f"a window of {kernel} over {len(sizes)} spatial axes")
    strides = strides or (1,) * len(kernel)
    pads = spatial_padding(
        pad_type, pad, input_sizes=sizes, kernel=kernel, strides=strides, dilations=(1,) * len(kernel)
    )
    extra: Ints | None = (0,) * len(kernel)
    if ceil_mode:
        extra = None if pads is None else _beyond(sizes, kernel, strides, pads)
    return _Window(kernel, strides, pads, extra, pad_type.lower() == "same_lower")


def _beyond(sizes: Sequence[int | None], kernel: Ints, strides: Ints, pads: Ints) -> Ints | None:
    """What `ceil_mode` adds after each axis; None when run-time sizes decide.

    The number of windows is rounded up, but a window that would begin past the input and its padding before
    is dropped when there is padding (without padding, none can).
    """
    extra = []
    for axis, (size, width, stride) in enumerate(zip(sizes, kernel, strides, strict=True)):
        before, after = pads[axis], pads[axis + len(kernel)]
        if stride == 1:
            extra.append(0)
            continue
        if size is None:
            return None
        windows = -(-(size + before + after - width) // stride) + 1
        if (windows - 1) * stride >= size + before and before + after > 0:
            windows -= 1
        if (windows - 1) * stride >= size + before + after:
            raise Unsupported(f"ceil_mode with a window that lies beyond all {size} elements")
        extra.append(max(0, (windows - 1) * stride + width - size - before - after))
    return tuple(extra)


def _padded(ctx: Lowering, x: Value, window: _Window, fill: float) -> tuple[Value, Ints]:
    """x and the attribute `pads`: the padding is the attribute where it fits, else it is done before."""
    whole = window.whole
    if whole is not None and window.fits:
        return x, whole
    before, after, extra = _amounts(ctx, x, window)
    return _longer(ctx, x, before, ctx.node("Add", after, extra), fill), (0,) * (2 * len(window.kernel))


def _amounts(ctx: Lowering, x: Value, window: _Window) -> tuple[Value, Value, Value]:
    """What is added before and after each axis, and what `ceil_mode` adds; int64 [axes] each."""
    kernel, strides = window.kernel, window.strides
    axes = len(kernel)
    sizes = ctx.node("Shape", x, start=2)
    if window.pads is None:
        ones = (1,) * axes
        before, after = same_padding_at_run_time(ctx, sizes, kernel, strides, ones, lower=window.lower)
        padding = ones
    else:
        before, after = ctx.ints(window.pads[:axes]), ctx.ints(window.pads[axes:])
        padding = tuple(int(window.pads[axis] + window.pads[axis + axes] > 0) for axis in range(axes))
    if window.extra is not None:
        return before, after, ctx.ints(window.extra)
    begin = ctx.node("Add", sizes, before)
    length = ctx.node("Add", begin, after)
    room = ctx.node(
        "Sub", length, ctx.ints([width - stride + 1 for width, stride in zip(kernel, strides, strict=True)])
    )
    last = ctx.node("Mul", ctx.node("Div", room, ctx.ints(strides)), ctx.ints(strides))
    dropped = ctx.cast(ctx.node("GreaterOrEqual", last, begin), "int64")
    back = ctx.node(
        "Mul", dropped, ctx.ints([stride * some for stride, some in zip(strides, padding, strict=True)])
    )
    missing = ctx.node("Sub", ctx.node("Add", ctx.node("Sub", last, back), ctx.ints(kernel)), length)
    return before, after, ctx.node("Max", missing, ctx.ints((0,)))


def _mean_by_counting(ctx: Lowering, x: Value, window: _Window, excluded: bool) -> Value:
    """The mean of the padded input over the mean of a mask that is 1 where an element counts."""
    before, after, extra = _amounts(ctx, x, window)
    beyond = ctx.node("Add", after, extra)
    counted = ctx.node("Shape", x, start=2)
    if not excluded:
        counted = ctx.node("Add", ctx.node("Add", counted, before), after)
    ones = ctx.node(
        "Expand", ctx.constant(1, np.float32), ctx.node("Concat", ctx.ints((1, 1)), counted, axis=0)
    )
    none = ctx.ints((0,) * len(window.kernel))
    mask = _longer(ctx, ones, before, beyond, 0) if excluded else _longer(ctx, ones, none, extra, 0)
    padded = _longer(ctx, x, before, beyond, 0)
    total, share = (
        ctx.node("AveragePool", part, kernel_shape=window.kernel, strides=window.strides)
        for part in (padded, mask)
    )
    # A window over padding alone counts nothing; its mean is 0.
    least = ctx.constant(np.finfo(np.float32).tiny, np.float32)
    return ctx.node("Div", total, ctx.node("Max", share, least))


def _longer(ctx: Lowering, x: Value, before: Value, after: Value, fill: float) -> Value:
    """`pad_spatially`, which ONNX Runtime would merge into the pool, and then refuse as too wide: the Max of
    one tensor stands between."""
    return ctx.node("Max", pad_spatially(ctx, x, before, after, fill))
