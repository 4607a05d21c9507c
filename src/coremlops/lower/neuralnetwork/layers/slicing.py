"""Layers that take a part of a value, or put something around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coremlops.dialects.mil.graph import TensorType
from coremlops.dialects.neuralnetwork import Fields
from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.layers.convolution import border_amounts
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.registry import Ints, Unsupported, Value

_FAR = 1 << 62  # past the end of any axis
_WIDEST = 1 << 24  # of the windows over an axis whose size is not known
_SLICE_AXES = {"CHANNEL_AXIS": -3, "HEIGHT_AXIS": -2, "WIDTH_AXIS": -1}


@layer("slice", moves=True)
def slice_(
    ctx: NetworkLowering, x: Value, *, startIndex: int, endIndex: int, stride: int, axis: str
) -> Value:
    """A part of the channels, height or width."""
    return ctx.slice(x, x.axis(_SLICE_AXES[axis]), startIndex, endIndex, stride or 1)


@layer("sliceStatic", moves=True)
def slice_static(
    ctx: NetworkLowering,
    x: Value,
    *,
    beginIds: Ints,
    beginMasks: Sequence[bool],
    endIds: Ints,
    endMasks: Sequence[bool],
    strides: Ints,
    squeezeMasks: Sequence[bool],
) -> Value:
    """x[begin:end:stride] along each axis; masks leave ends open, or take one place and drop the axis.

    That place is the first one of the slice. The format's text says that `beginMasks` does not count then;
    coremltools' `test_slice_dynamic_cpu` has an open begin count.
    """
    rank = x.rank
    squeezed = tuple(squeezeMasks) or (False,) * rank
    if any(len(values) != rank for values in (beginIds, beginMasks, endIds, endMasks, strides, squeezed)):
        raise ModelFormatError(
            f"begins, ends, strides and masks of {len(beginIds)} axes for a rank of {rank}"
        )
    starts, ends, steps = [], [], []
    for axis in range(rank):
        step = strides[axis] or 1
        start = (0 if step > 0 else _FAR) if beginMasks[axis] else beginIds[axis]
        end = (_FAR if step > 0 else -_FAR) if endMasks[axis] else endIds[axis]
        if squeezed[axis]:
            if beginMasks[axis]:
                start = -1 if step < 0 else 0
            end, step = start + 1 if start != -1 else _FAR, 1
        starts.append(start)
        ends.append(end)
        steps.append(step)
    part = ctx.node("Slice", x, ctx.ints(starts), ctx.ints(ends), ctx.ints(range(rank)), ctx.ints(steps))
    return _without(ctx, part, squeezed)


def _without(ctx: NetworkLowering, x: Value, dropped: Sequence[bool]) -> Value:
    axes = [axis for axis, drop in enumerate(dropped) if drop]
    if not axes:
        return x
    return ctx.node("Squeeze", x, ctx.ints(axes))


@layer("sliceDynamic", moves=True)
def slice_dynamic(
    ctx: NetworkLowering,
    x: Value,
    begin: Value,
    end: Value | None = None,
    stride: Value | None = None,
    begin_mask: Value | None = None,
    end_mask: Value | None = None,
    squeeze_mask: Value | None = None,
    *,
    beginMasks: Sequence[bool],
    endIds: Ints,
    endMasks: Sequence[bool],
    strides: Ints,
    squeezeMasks: Sequence[bool],
) -> Value:
    """As `sliceStatic`, with what is not given as an input taken from the fields."""
    rank = x.rank
    fields = (endIds, strides, beginMasks, endMasks, squeezeMasks)
    defaults: tuple[int, ...] = (1, 1, 0, 0, 0)
    inputs = (end, stride, begin_mask, end_mask, squeeze_mask)
    found = []
    for value, field, default in zip(inputs, fields, defaults, strict=True):
        if value is not None:
            found.append(ctx.integers(value))
        else:
            numbers = [int(entry) for entry in field][:rank]
            found.append(ctx.ints([*numbers, *[default] * (rank - len(numbers))]))
    ends, steps, open_begin, open_end, squeezed = found
    zero, far = ctx.ints([0]), ctx.ints([_FAR])
    backwards = ctx.node("Less", steps, zero)
    first = ctx.node("Where", backwards, far, zero)
    last = ctx.node("Where", backwards, ctx.ints([-_FAR]), far)
    starts = ctx.node("Where", ctx.truth(open_begin), first, ctx.integers(begin))
    ends = ctx.node("Where", ctx.truth(open_end), last, ends)
    if squeeze_mask is None and not any(squeezed.ints("the mask")):
        return _same_rank(ctx, ctx.node("Slice", x, starts, ends, ctx.ints(range(rank)), steps), rank)
    dropped = squeezed.ints("which axes are dropped")
    # An axis that is dropped keeps the one element at its begin.
    mask = ctx.truth(squeezed)
    open_and_dropped = ctx.node("And", mask, ctx.truth(open_begin))
    edge = ctx.node("Where", backwards, ctx.ints([-1]), zero)
    starts = ctx.node("Where", open_and_dropped, edge, starts)
    after = ctx.node("Add", starts, ctx.ints([1]))
    after = ctx.node("Where", ctx.node("Equal", after, zero), far, after)
    ends = ctx.node("Where", mask, after, ends)
    steps = ctx.node("Where", mask, ctx.ints([1]), steps)
    part = ctx.node("Slice", x, starts, ends, ctx.ints(range(rank)), steps)
    part = _same_rank(ctx, part, rank)
    known = [1 if drop else size for drop, size in zip(dropped, part.shape, strict=True)]
    return _without(ctx, ctx.retyped(part, *known), [bool(drop) for drop in dropped])


def _same_rank(ctx: NetworkLowering, x: Value, rank: int) -> Value:
    known = x.type is not None and x.type.shape is not None
    return x if known else ctx.retyped(x, *[None] * rank, dtype="fp32")


@layer("sliceBySize", moves=True)
def slice_by_size(ctx: NetworkLowering, x: Value, begin: Value, *, size: int, axis: int) -> Value:
    """`size` elements of an axis from a place that is an input."""
    place = x.axis(axis)
    start = ctx.reshape(ctx.integers(begin), [1])
    end = ctx.node("Add", start, ctx.ints([size]))
    # From the end: the sum would be 0 where the last elements are meant.
    end = ctx.node("Where", ctx.node("Equal", end, ctx.ints([0])), ctx.ints([_FAR]), end)
    part = ctx.node("Slice", x, start, end, ctx.ints([place]))
    return ctx.retyped(part, *x.shape[:place], size, *x.shape[place + 1 :])


@layer("crop", moves=True)
def crop(
    ctx: NetworkLowering, x: Value, like: Value | None = None, *, cropAmounts: Fields | None, offset: Ints
) -> Value:
    """Height and width without a border, or as large as those of a second input from an offset on."""
    if like is None:
        top, bottom, left, right = border_amounts(cropAmounts) or (0, 0, 0, 0)
        for axis, before, after in ((-2, top, bottom), (-1, left, right)):
            x = ctx.slice(x, x.axis(axis), before, -after or _FAR)
        return x
    offset = offset or (0, 0)
    if len(offset) != 2:
        raise ModelFormatError(f"an offset of {len(offset)} numbers; expected 2")
    for axis, start in ((-2, offset[0]), (-1, offset[1])):
        place, size = x.axis(axis), ctx.size(like, axis)
        if isinstance(size, int):
            x = ctx.slice(x, place, start, start + size)
        else:
            end = ctx.node("Add", size, ctx.ints([start]))
            x = ctx.node("Slice", x, ctx.ints([start]), end, ctx.ints([place]))
    return x


@layer("padding", moves=True)
def padding(
    ctx: NetworkLowering,
    x: Value,
    *,
    constant: Fields | None,
    reflection: Fields | None,
    replication: Fields | None,
    paddingAmounts: Fields | None,
) -> Value:
    """A border around height and width: of one value, of the mirrored inside, or of the edge."""
    top, bottom, left, right = border_amounts(paddingAmounts) or (0, 0, 0, 0)
    lead = [0] * (x.rank - 2)
    pads = ctx.ints([*lead, top, left, *lead, bottom, right])
    if reflection is not None:
        for size, border in zip(x.shape[-2:], (max(top, bottom), max(left, right)), strict=True):
            if size is not None and border >= size:
                raise Unsupported(
                    f"a mirrored border of {border} at an axis of {size}: no one says what Core ML mirrors"
                )
    if reflection is not None or replication is not None:
        return ctx.node("Pad", x, pads, mode="reflect" if reflection is not None else "edge")
    value = ctx.constant(constant["value"] if constant is not None else 0.0)
    return ctx.node("Pad", x, pads, value, mode="constant")


@layer("constantPad", moves=True)
def constant_pad(
    ctx: NetworkLowering,
    x: Value,
    amounts: Value | None = None,
    *,
    value: float,
    padAmounts: Ints,
    padToGivenOutputSizeMode: bool,
) -> Value:
    """One value before and after each axis, in turn.

    `padToGivenOutputSizeMode`: of each pair one number is the size that the axis is to have, and stands on
    the side where the padding goes; an axis that is larger stays as it is.
    """
    fill = ctx.constant(value)
    if amounts is None and len(padAmounts) != 2 * x.rank:
        raise ModelFormatError(f"{len(padAmounts)} amounts for a value of rank {x.rank}")
    given = ctx.ints(padAmounts) if amounts is None else ctx.integers(amounts)
    pairs = ctx.reshape(given, [x.rank, 2])
    if padToGivenOutputSizeMode:
        sizes = ctx.reshape(ctx.shape_vector(x), [x.rank, 1])
        pairs = ctx.node("Max", ctx.node("Sub", pairs, sizes), ctx.ints([0]))
    sides = ctx.reshape(ctx.transpose(pairs, [1, 0]), [2 * x.rank])
    if amounts is None:
        numbers = np.array(padAmounts, np.int64).reshape(x.rank, 2)
        if padToGivenOutputSizeMode:
            if None in x.shape:
                return _same_rank(ctx, ctx.node("Pad", x, sides, fill, mode="constant"), x.rank)
            numbers = np.maximum(numbers - np.array(x.shape, np.int64)[:, None], 0)
        sides = ctx.ints(numbers.T.ravel())
    return _same_rank(ctx, ctx.node("Pad", x, sides, fill, mode="constant"), x.rank)


@layer("slidingWindows", moves=True)
def sliding_windows(ctx: NetworkLowering, x: Value, *, axis: int, windowSize: int, step: int) -> Value:
    """All windows of an axis: its place becomes two, [windows, windowSize]."""
    place = x.axis(axis)
    length, step = x.shape[place], step or 1
    if not 1 <= windowSize <= (length or _WIDEST):
        raise ModelFormatError(f"windows of {windowSize} elements over {length or _WIDEST}")
    if length is None:
        past = ctx.node("Sub", ctx.vector([ctx.size(x, place)]), ctx.ints([windowSize - 1]))
        first = [ctx.reshape(limit, []) for limit in (ctx.ints([0]), past, ctx.ints([step]))]
        starts = ctx.node("Range", *first)
    else:
        count = (length - windowSize) // step + 1
        ctx.checked(TensorType("int64", (count, windowSize)))
        starts = ctx.ints(np.arange(count) * step)
    indices = ctx.node("Add", ctx.node("Unsqueeze", starts, ctx.ints([1])), ctx.ints(np.arange(windowSize)))
    return ctx.node("Gather", x, indices, axis=place)
