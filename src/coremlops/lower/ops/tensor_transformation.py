"""The same values in another shape or order.

Source: coremltools, `ops/defs/iOS15/tensor_transformation.py`, `iOS16/`, `iOS17/`, `iOS18/`.
"""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Ints, Unsupported, Value, Values, lowers
from coremlops.lower.shapes import (
    MAX_TABLE,
    Size,
    bounded,
    compute,
    longs,
    product,
    reshaped,
    scalar,
    size,
    sizes,
    vector,
)
from coremlops.lower.slicing import FAR, Slices, cut, slices, trimmed


@lowers("reshape", moves=True)
def reshape(ctx: Lowering, x: Value, shape: Value) -> Value:
    """x with another shape of equal volume; -1 is inferred, 0 copies the axis of x counted from the right.

    x: [*], any dtype; shape: [K], int32, known now or at run time -> same dtype. A declared result shape that
    is known wins: it is what all versions of the op agree on. An axis that x does not have is 1.
    """
    declared = ctx.output_type.shape
    if declared is not None and None not in declared:
        return ctx.node("Reshape", x, ctx.ints(declared), allowzero=1)
    if shape.constant is None:
        return ctx.node("Reshape", x, _without_zeros(ctx, x, shape), allowzero=0)
    wanted = shape.ints("shape")
    target: list[Size] = []
    for index, entry in enumerate(wanted):
        source = index - len(wanted) + x.rank
        target.append(entry or (size(ctx, x, source) if source >= 0 else 1))
    return ctx.node("Reshape", x, vector(ctx, target), allowzero=int(-1 not in wanted))


def _without_zeros(ctx: Lowering, x: Value, shape: Value) -> Value:
    """A run-time shape whose zeros are the sizes of x, aligned on the right."""
    wanted = longs(ctx, shape)
    length = shape.shape[0] if shape.rank == 1 else None
    if x.type is None or x.type.shape is None or length in (None, x.rank):
        return wanted  # ONNX gives a zero the same meaning, from the left
    aligned = [1] * max(0, (length or 0) - x.rank) + sizes(ctx, x)[max(0, x.rank - (length or 0)) :]
    zero = ctx.node("Equal", wanted, ctx.ints([0]))
    return ctx.node("Where", zero, vector(ctx, aligned), wanted)


@lowers("reshape_like", moves=True)
def reshape_like(
    ctx: Lowering, x: Value, ref_tensors: Values, begins: Values, ends: Values, end_masks: Values
) -> Value:
    """x in the shape that slices of the shapes of `ref_tensors` make, one after another.

    x: [*], any dtype -> same dtype. `ref_tensors[i].shape[begins[i]:ends[i]]`, or without an end where
    `end_masks[i]`.
    """
    shape: list[Size] = []
    for reference, begin, end, mask in zip(ref_tensors, begins, ends, end_masks, strict=True):
        (first,), (last,), (open_,) = begin.ints("begins"), end.ints("ends"), mask.ints("end_masks")
        axes = range(reference.rank)[first:] if open_ else range(reference.rank)[first:last]
        shape.extend(size(ctx, reference, axis) for axis in axes)
    return reshaped(ctx, x, shape)


@lowers("transpose", moves=True)
def transpose(ctx: Lowering, x: Value, perm: Ints) -> Value:
    """x with its axes in the order `perm`. x: [*], any dtype -> same dtype."""
    return ctx.node("Transpose", x, perm=tuple(x.axis(axis) for axis in perm))


@lowers("squeeze", moves=True)
def squeeze(ctx: Lowering, x: Value, axes: Ints | None = None) -> Value:
    """x without its axes of size 1: those named, or all. Named axes of another size stay, as in PyTorch."""
    shape = x.shape
    named = range(x.rank) if axes is None else map(x.axis, axes)
    single = sorted({axis for axis in named if shape[axis] == 1})
    return ctx.node("Squeeze", x, ctx.ints(single)) if single else x


@lowers("expand_dims", moves=True)
def expand_dims(ctx: Lowering, x: Value, axes: Ints) -> Value:
    """x with axes of size 1 that stand at `axes` of the result. x: [*], any dtype -> same dtype."""
    return ctx.node("Unsqueeze", x, ctx.ints(axes))


@lowers("reverse", moves=True)
def reverse(ctx: Lowering, x: Value, axes: Ints | None = None) -> Value:
    """x with the order of its elements turned along `axes`, or all. x: [*], any dtype -> same dtype."""
    turned = sorted(set(range(x.rank) if axes is None else map(x.axis, axes)))
    if not turned:
        return x
    back = [-1] * len(turned)
    return ctx.node(
        "Slice", x, ctx.ints(back), ctx.ints([-FAR] * len(turned)), ctx.ints(turned), ctx.ints(back)
    )


@lowers("reverse_sequence", moves=True)
def reverse_sequence(
    ctx: Lowering, x: Value, lengths: Value, seq_axis: int = 0, batch_axis: int = 0
) -> Value:
    """The first `lengths[i]` elements along `seq_axis` turned, for each i of `batch_axis`.

    x: [*], any dtype; lengths: [L], int32 -> same shape and dtype as x.
    """
    sequence, batch = x.axis(seq_axis), x.axis(batch_axis)
    if sequence == batch:
        raise ValueError(f"the axis {seq_axis} is both seq_axis and batch_axis")
    # ONNX knows the axes 0 and 1 alone.
    order = (batch, sequence, *(axis for axis in range(x.rank) if axis not in (batch, sequence)))
    front = ctx.node("Transpose", x, perm=order)
    turned = ctx.node("ReverseSequence", front, longs(ctx, lengths), batch_axis=0, time_axis=1)
    return ctx.node("Transpose", turned, perm=np.argsort(order).tolist())


@lowers("slice_by_index", moves=True)
def slice_by_index(
    ctx: Lowering,
    x: Value,
    begin: Value,
    end: Value,
    stride: Ints | None = None,
    begin_mask: Value | None = None,
    end_mask: Value | None = None,
    squeeze_mask: Value | None = None,
) -> Value:
    """`x[begin:end:stride]` on each axis, as NumPy slices; a squeezed axis is the element at `begin`.

    x: [*], any dtype; begin, end: [rank(x)], int32, known now or at run time -> same dtype.
    """
    taken = slices(ctx, x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    found = cut(ctx, x, taken, range(x.rank))
    return ctx.node("Squeeze", found, ctx.ints(taken.squeezed)) if taken.squeezed else found


@lowers("slice_update", moves=True)
def slice_update(
    ctx: Lowering,
    x: Value,
    update: Value,
    begin: Value,
    end: Value,
    stride: Ints | None = None,
    begin_mask: Value | None = None,
    end_mask: Value | None = None,
    squeeze_mask: Value | None = None,
) -> Value:
    """x with the elements that `slice_by_index` would take replaced by `update`.

    x: [*], any dtype; update: the shape of the slice -> same shape and dtype as x. Worked from the last
    partial axis to the first: what lies before and after the slice is joined to it, which copies each
    element once.
    """
    taken = slices(ctx, x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    shape: list[int | None] = list(update.shape)
    for axis in taken.squeezed:
        shape.insert(axis, 1)
    if len(shape) != x.rank:
        raise ValueError(f"an update of rank {update.rank} for a slice of rank {x.rank}")
    region = ctx.node("Unsqueeze", update, ctx.ints(taken.squeezed)) if taken.squeezed else update
    partial = [axis for axis in range(x.rank) if not _covers(taken, axis, shape[axis], x.shape[axis])]
    for position in reversed(range(len(partial))):
        rows = cut(ctx, x, taken, partial[:position])
        region = _insert(ctx, rows, region, taken, partial[position], shape[partial[position]])
    return region


def _covers(taken: Slices, axis: int, updated: int | None, whole: int | None) -> bool:
    """Whether the update replaces all of an axis, in order."""
    return taken.steps[axis] == 1 and (taken.whole(axis) or (whole is not None and updated == whole))


def _insert(ctx: Lowering, rows: Value, region: Value, taken: Slices, axis: int, length: int | None) -> Value:
    """`rows` with its slice along one axis replaced by `region`."""
    if taken.steps[axis] != 1:
        return _scatter(ctx, rows, region, taken, axis)
    start = taken.start(ctx, axis)
    if not isinstance(start, int) or start < 0:
        # Counted from the end: where the slice ends can be told only from where it starts.
        total = ctx.node("Shape", rows, start=axis, end=axis + 1)
        first = vector(ctx, [start])
        negative = ctx.node("Less", first, ctx.ints([0]))
        start = ctx.node("Where", negative, ctx.node("Add", first, total), first)
    count: Size = length if length is not None else ctx.node("Shape", region, start=axis, end=axis + 1)
    stop = compute(ctx, "Add", start, count)
    axes = ctx.ints([axis])
    before = ctx.node("Slice", rows, ctx.ints([0]), vector(ctx, [start]), axes)
    after = ctx.node("Slice", rows, vector(ctx, [stop]), ctx.ints([FAR]), axes)
    return ctx.node("Concat", before, region, after, axis=axis)


def _scatter(ctx: Lowering, rows: Value, region: Value, taken: Slices, axis: int) -> Value:
    total = ctx.node("Squeeze", ctx.node("Shape", rows, start=axis, end=axis + 1))
    line = ctx.node("Range", ctx.constant(0, np.int64), total, ctx.constant(1, np.int64))
    bounds = [vector(ctx, [taken.start(ctx, axis)]), vector(ctx, [taken.end(ctx, axis)])]
    places = ctx.node("Slice", line, *bounds, ctx.ints([0]), ctx.ints([taken.steps[axis]]))
    order = (axis, *(other for other in range(len(taken.steps)) if other != axis))
    front, values = (ctx.node("Transpose", value, perm=order) for value in (rows, region))
    done = ctx.node("ScatterND", front, ctx.node("Unsqueeze", places, ctx.ints([1])), values)
    return ctx.node("Transpose", done, perm=np.argsort(order).tolist())


@lowers("slice_by_size", moves=True)
def slice_by_size(ctx: Lowering, x: Value, begin: Value, size: Value) -> Value:
    """`size` elements from `begin` on, on each axis; -1 are all that follow.

    x: [*], any dtype; begin, size: [rank(x)], int32, known now or at run time -> same dtype. A negative begin
    counts from the end.
    """
    first, count = longs(ctx, begin), longs(ctx, size)
    if x.rank == 0:
        return x
    if first.constant is None or np.any(first.constant < 0):
        negative = ctx.node("Less", first, ctx.ints([0]))
        first = ctx.node("Where", negative, ctx.node("Add", first, vector(ctx, sizes(ctx, x))), first)
    if first.constant is not None and count.constant is not None:
        last = ctx.ints(np.where(count.constant == -1, FAR, first.constant + count.constant))
    else:
        rest = ctx.node("Equal", count, ctx.ints([-1]))
        last = ctx.node("Where", rest, ctx.ints([FAR]), ctx.node("Add", first, count))
    return ctx.node("Slice", x, first, last)


@lowers("sliding_windows", moves=True)
def sliding_windows(ctx: Lowering, x: Value, axis: int, size: int, stride: int = 1) -> Value:
    """All windows of `size` elements along an axis, `stride` apart, as an axis after it.

    x: [*, d, *], any dtype -> [*, (d - size) // stride + 1, size, *], same dtype.
    """
    axis = x.axis(axis)
    if size < 1 or stride < 1:
        raise ValueError(f"windows of {size} elements, {stride} apart")
    known = x.shape[axis]
    if known is not None:
        count = (known - size) // stride + 1
        if count < 1:
            raise ValueError(f"windows of {size} elements along an axis of {known}")
        bounded((count, size), "windows")
        if count * size <= MAX_TABLE:
            table = ctx.ints(stride * np.arange(count)[:, None] + np.arange(size))
            return ctx.node("Gather", x, table, axis=axis)
    bounded([size], "a window", MAX_TABLE)
    length = ctx.node("Shape", x, start=axis, end=axis + 1)
    end = scalar(ctx, ctx.node("Sub", length, ctx.ints([size - 1])))
    line = ctx.node("Range", ctx.constant(0, np.int64), end, ctx.constant(stride, np.int64))
    starts = ctx.node("Add", ctx.node("Unsqueeze", line, ctx.ints([1])), ctx.ints(np.arange(size)))
    return ctx.node("Gather", x, starts, axis=axis)


@lowers("depth_to_space", moves=True)
def depth_to_space(ctx: Lowering, x: Value, block_size: int) -> Value:
    """Channels to blocks of pixels, the block outermost in the channels, as in TensorFlow.

    x: [n, C, H, W], fp16|fp32 -> [n, C / b^2, H * b, W * b].
    """
    return ctx.node("DepthToSpace", x, blocksize=block_size, mode="DCR")


@lowers("pixel_shuffle", moves=True)
def pixel_shuffle(ctx: Lowering, x: Value, upscale_factor: int) -> Value:
    """Channels to blocks of pixels, the block innermost in the channels, as in PyTorch.

    x: [n, C * f^2, H, W], fp16|fp32 -> [n, C, H * f, W * f].
    """
    return ctx.node("DepthToSpace", x, blocksize=upscale_factor, mode="CRD")


@lowers("space_to_depth", moves=True)
def space_to_depth(ctx: Lowering, x: Value, block_size: int) -> Value:
    """Blocks of pixels to channels, the inverse of `depth_to_space`.

    x: [n, C, H, W], fp16|fp32 -> [n, C * b^2, H / b, W / b].
    """
    return ctx.node("SpaceToDepth", x, blocksize=block_size)


@lowers("pixel_unshuffle", moves=True)
def pixel_unshuffle(ctx: Lowering, x: Value, downscale_factor: int) -> Value:
    """Blocks of pixels to channels, the inverse of `pixel_shuffle`.

    x: [n, C, H, W], fp16|fp32 -> [n, C * f^2, H / f, W / f].
    """
    factor = _positive(downscale_factor)
    batch, channels, height, width = sizes(ctx, x)
    rows, columns = compute(ctx, "Div", height, factor), compute(ctx, "Div", width, factor)
    split = reshaped(ctx, x, [batch, channels, rows, factor, columns, factor])
    turned = ctx.node("Transpose", split, perm=(0, 1, 3, 5, 2, 4))
    depth = compute(ctx, "Mul", channels, factor * factor)
    return reshaped(ctx, turned, [batch, depth, rows, columns])


@lowers("space_to_batch", moves=True)
def space_to_batch(ctx: Lowering, x: Value, block_shape: Ints, paddings: Ints) -> Value:
    """Blocks of pixels, after padding with zeros, to the batch; the block outermost, as in TensorFlow.

    x: [n, C, H, W], fp16|fp32; paddings: [2, 2] -> [n * b0 * b1, C, H' / b0, W' / b1].
    """
    (block_h, block_w), (top, bottom, left, right) = map(_positive, block_shape), paddings
    padded = ctx.node("Pad", x, ctx.ints((0, 0, top, left, 0, 0, bottom, right)), mode="constant")
    batch, channels, height, width = sizes(ctx, x)
    rows = compute(ctx, "Div", compute(ctx, "Add", height, top + bottom), block_h)
    columns = compute(ctx, "Div", compute(ctx, "Add", width, left + right), block_w)
    split = reshaped(ctx, padded, [batch, channels, rows, block_h, columns, block_w])
    turned = ctx.node("Transpose", split, perm=(3, 5, 0, 1, 2, 4))
    total = compute(ctx, "Mul", batch, block_h * block_w)
    return reshaped(ctx, turned, [total, channels, rows, columns])


@lowers("batch_to_space", moves=True)
def batch_to_space(ctx: Lowering, x: Value, block_shape: Ints, crops: Ints) -> Value:
    """The inverse of `space_to_batch`, after which `crops` are cut off.

    x: [n, C, H, W], fp16|fp32; crops: [2, 2] -> [n / (b0 * b1), C, H * b0 - crops, W * b1 - crops].
    """
    (block_h, block_w), cropped = map(_positive, block_shape), crops
    batch, channels, height, width = sizes(ctx, x)
    single = compute(ctx, "Div", batch, block_h * block_w)
    split = reshaped(ctx, x, [block_h, block_w, single, channels, height, width])
    turned = ctx.node("Transpose", split, perm=(2, 3, 4, 0, 5, 1))
    rows, columns = product(ctx, [height, block_h]), product(ctx, [width, block_w])
    whole = reshaped(ctx, turned, [single, channels, rows, columns])
    return trimmed(ctx, whole, cropped[:2], cropped[2:])


def _positive(factor: int) -> int:
    if factor < 1:
        raise Unsupported(f"a block of {factor} elements")
    return factor
