"""Picking and placing by index.

Source: coremltools, `ops/defs/iOS15/scatter_gather.py`, `iOS16/`, `iOS17/`. Before iOS 17 a negative index
counts from the end. Since iOS 17, whose ops have `validate_indices`, it is out of range: an error at run time
where indices are validated; elsewhere what happens is undefined but safe, and here it stands for index 0.
"""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.ops.elementwise_binary import integer_div
from coremlops.lower.registry import Unsupported, Value, lowers
from coremlops.lower.shapes import longs, scalar, size, vector

# mode -> how ONNX reduces, and what it does to the data before it is combined
_MODES = {"update": "none", "add": "add", "mul": "mul", "max": "max", "min": "min"}


@lowers("gather", moves=True)
def gather(
    ctx: Lowering,
    x: Value,
    indices: Value,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool | None = None,
) -> Value:
    """Slices of x along an axis. The first `batch_dims` axes of x and indices go together.

    x: [*D], any dtype; indices: [*N], integers -> [*D[:axis], *N[batch_dims:], *D[axis + 1:]], same dtype.
    """
    axis = x.axis(axis)
    places = _along(ctx, x, indices, axis, validate_indices)
    if batch_dims == 0:
        return ctx.node("Gather", x, places, axis=axis)
    if not 0 < batch_dims <= min(axis, indices.rank):
        raise ValueError(f"batch_dims {batch_dims} with axis {axis} and indices of rank {indices.rank}")
    # GatherND picks along the first axis after the batch; the axes between go behind it meanwhile.
    between = axis - batch_dims
    order = (*range(batch_dims), axis, *range(batch_dims, axis), *range(axis + 1, x.rank))
    front = ctx.node("Transpose", x, perm=order) if between else x
    last = ctx.node("Unsqueeze", longs(ctx, places), ctx.ints([-1]))
    found = ctx.node("GatherND", front, last, batch_dims=batch_dims)
    if not between:
        return found
    rank = x.rank - 1 + indices.rank - batch_dims
    moved = range(indices.rank, indices.rank + between)
    back = (
        *range(batch_dims),
        *moved,
        *range(batch_dims, indices.rank),
        *range(indices.rank + between, rank),
    )
    return ctx.node("Transpose", found, perm=back)


@lowers("gather_along_axis", moves=True)
def gather_along_axis(
    ctx: Lowering, x: Value, indices: Value, axis: int = 0, validate_indices: bool | None = None
) -> Value:
    """One element of x for each index, along an axis, as NumPy's take_along_axis.

    x: [*D], any dtype; indices: [*K], integers, of the same rank -> [*K], same dtype as x.
    """
    places = _along(ctx, x, indices, axis, validate_indices)
    return ctx.node("GatherElements", x, places, axis=x.axis(axis))


@lowers("gather_nd", moves=True)
def gather_nd(
    ctx: Lowering, x: Value, indices: Value, batch_dims: int = 0, validate_indices: bool | None = None
) -> Value:
    """Slices of x at the positions that the last axis of `indices` holds, after `batch_dims` common axes.

    x: [*D], any dtype; indices: [*K], integers -> [*K[:-1], *D[batch_dims + K[-1]:]], same dtype as x.
    """
    places = _positions(ctx, x, indices, batch_dims, validate_indices)
    return ctx.node("GatherND", x, places, batch_dims=batch_dims)


@lowers("scatter")
def scatter(
    ctx: Lowering,
    data: Value,
    indices: Value,
    updates: Value,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool | None = None,
) -> Value:
    """data with slices along an axis combined with `updates`, as `mode` says.

    data: [*D], fp16|fp32|int32; indices: [C], int32; updates: [*D[:axis], C, *D[axis + 1:]] -> as data.
    """
    axis = data.axis(axis)
    order = (axis, *(other for other in range(data.rank) if other != axis))
    back = np.argsort(order).tolist()
    front, values = (ctx.node("Transpose", value, perm=order) if axis else value for value in (data, updates))
    checked = _along(ctx, data, indices, axis, validate_indices)
    places = ctx.node("Unsqueeze", longs(ctx, checked), ctx.ints([-1]))
    done = _scattered(ctx, "ScatterND", front, places, values, mode, data.dtype)
    return ctx.node("Transpose", done, perm=back) if axis else done


@lowers("scatter_along_axis")
def scatter_along_axis(
    ctx: Lowering,
    data: Value,
    indices: Value,
    updates: Value,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool | None = None,
) -> Value:
    """data with one element for each index, along an axis, combined with `updates`, as `mode` says.

    data: [*D], fp16|fp32|int32; indices, updates: [*K], of the same rank -> as data.
    """
    places = _along(ctx, data, indices, axis, validate_indices)
    return _scattered(ctx, "ScatterElements", data, places, updates, mode, data.dtype, axis=data.axis(axis))


@lowers("scatter_nd")
def scatter_nd(
    ctx: Lowering,
    data: Value,
    indices: Value,
    updates: Value,
    mode: str = "add",
    validate_indices: bool | None = None,
) -> Value:
    """data with slices at the positions that the last axis of `indices` holds combined with `updates`.

    data: [*D], fp16|fp32|int32; indices: [*K], int32; updates: [*K[:-1], *D[K[-1]:]] -> as data.
    """
    places = _positions(ctx, data, indices, 0, validate_indices)
    return _scattered(ctx, "ScatterND", data, places, updates, mode, data.dtype)


def _scattered(
    ctx: Lowering,
    op: str,
    data: Value,
    places: Value,
    updates: Value,
    mode: str,
    dtype: str,
    axis: int | None = None,
) -> Value:
    """`op`, one of ONNX's scatters, in a mode of MIL's. An element that is hit twice takes part twice."""
    if mode in _MODES:
        return ctx.node(op, data, places, updates, reduction=_MODES[mode], axis=axis)
    if mode not in ("sub", "div"):
        raise Unsupported(f"mode {mode!r}")
    # What is subtracted, or divided by, is gathered first, so that a division stays one division.
    floats = dtype.startswith("fp")
    neutral = ctx.constant(int(mode == "div"), np.float32 if floats else np.int32)
    start = ctx.node("Expand", neutral, ctx.node("Shape", data))
    total = ctx.node(op, start, places, updates, reduction="add" if mode == "sub" else "mul", axis=axis)
    if mode == "div" and not floats:
        return integer_div(ctx, data, total)
    return ctx.node("Sub" if mode == "sub" else "Div", data, total)


def _along(ctx: Lowering, x: Value, indices: Value, axis: int, validate: bool | None) -> Value:
    """Indices along one axis of x, as ONNX takes them."""
    if validate is None:
        return indices if indices.dtype in ("int32", "int64") else longs(ctx, indices)
    return _inside(ctx, longs(ctx, indices), scalar(ctx, size(ctx, x, axis)), validate)


def _positions(ctx: Lowering, x: Value, indices: Value, batch_dims: int, validate: bool | None) -> Value:
    """Indices whose last axis counts along as many axes of x, from `batch_dims` on, as ONNX takes them."""
    places = longs(ctx, indices)
    if validate is None:
        return places
    depth = indices.shape[-1]
    if depth is not None:
        ends = vector(ctx, [size(ctx, x, axis) for axis in range(batch_dims, batch_dims + depth)])
    else:
        known = ctx.node("Shape", indices, start=indices.rank - 1, end=indices.rank)
        first = ctx.ints([batch_dims])
        ends = ctx.node("Slice", ctx.node("Shape", x), first, ctx.node("Add", known, first))
    return _inside(ctx, places, ends, validate)


def _inside(ctx: Lowering, places: Value, ends: Value, validate: bool) -> Value:
    """Indices since iOS 17: what is out of range is made an error, or 0."""
    if places.constant is not None and ends.constant is not None:
        beyond = (places.constant < 0) | (places.constant >= ends.constant)
        if beyond.any() and validate:
            raise ValueError(f"indices out of range for axes of {ends.constant.tolist()} elements")
        return ctx.ints(np.where(beyond, 0, places.constant)) if beyond.any() else places
    zero = ctx.constant(0, np.int64)
    negative = ctx.node("Less", places, zero)
    if validate:
        return ctx.node("Where", negative, ends, places)
    outside = ctx.node("Or", negative, ctx.node("GreaterOrEqual", places, ends))
    return ctx.node("Where", outside, zero, places)
