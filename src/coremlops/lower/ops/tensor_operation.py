"""Joining, padding, repeating, sorting, filling.

Source: coremltools, `ops/defs/iOS15/tensor_operation.py`, `iOS16/`, `iOS17/`. Non-maximum suppression stands
in a file of its own.
"""

from __future__ import annotations

import math

import numpy as np

from coremlops.dialects.mil.graph import NUMPY_DTYPES
from coremlops.lower.context import Lowering
from coremlops.lower.onnx_ml import from_array
from coremlops.lower.registry import Ints, Unsupported, Value, Values, lowers
from coremlops.lower.shapes import (
    bounded,
    compute,
    float_range,
    longs,
    reshaped,
    size,
    sizes,
    vector,
)
from coremlops.lower.where import where

_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}


@lowers("pad", moves=True)
def pad(ctx: Lowering, x: Value, pad: Value, mode: str = "constant", constant_val: float = 0.0) -> Value:
    """x with its last axes made longer; `pad` holds before and after for each of them.

    x: [*], fp16|fp32; pad: [2 * N], int32, known now or, for all axes, at run time -> same dtype. `mode`:
    constant, reflect (the edge once) or replicate (the edge repeated).
    """
    if mode not in _PAD_MODES:
        raise Unsupported(f"mode {mode!r}")
    fill = ctx.constant(constant_val, np.float32) if mode == "constant" else None
    if fill is not None and x.dtype not in ("fp16", "fp32"):
        fill = ctx.constant(constant_val, NUMPY_DTYPES[x.dtype])
    return ctx.node("Pad", x, _amounts(ctx, x, pad), fill, mode=_PAD_MODES[mode])


def _amounts(ctx: Lowering, x: Value, pad: Value) -> Value:
    """ONNX's pads: first what comes before each axis, then what comes after."""
    if pad.constant is None:
        pairs = ctx.node("Reshape", longs(ctx, pad), ctx.ints([x.rank, 2]))
        return ctx.node("Reshape", ctx.node("Transpose", pairs, perm=(1, 0)), ctx.ints([-1]))
    given = pad.ints("pad")
    if len(given) % 2 or len(given) > 2 * x.rank or any(amount < 0 for amount in given):
        raise Unsupported(f"pad {given} over rank {x.rank}")
    leading = (0,) * (x.rank - len(given) // 2)
    before, after = (*leading, *given[0::2]), (*leading, *given[1::2])
    bounded(
        [(known or 0) + first + last for known, first, last in zip(x.shape, before, after, strict=True)],
        "a padded tensor",
    )
    return ctx.ints((*before, *after))


@lowers("concat", moves=True)
def concat(ctx: Lowering, values: Values, axis: int, interleave: bool = False) -> Value:
    """Tensors one after another along an axis; `interleave`: element by element in turn.

    values: [*], any dtype, equal but for the axis -> same dtype. Scalars make a vector.
    """
    if values[0].rank == 0:
        return stack(ctx, values, 0)
    if not interleave:
        return ctx.node("Concat", *values, axis=axis)
    where_ = values[0].axis(axis)
    joined = stack(ctx, values, where_ + 1)
    shape = sizes(ctx, values[0])
    shape[where_] = compute(ctx, "Mul", shape[where_], len(values))
    return reshaped(ctx, joined, shape)


@lowers("stack", moves=True)
def stack(ctx: Lowering, values: Values, axis: int) -> Value:
    """Tensors of one shape side by side along a new axis. values: [*], any dtype -> same dtype."""
    rank = values[0].rank + 1
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a result of rank {rank}")
    axes = ctx.ints([axis % rank])
    return ctx.node("Concat", *(ctx.node("Unsqueeze", value, axes) for value in values), axis=axis % rank)


@lowers("split", moves=True)
def split(
    ctx: Lowering, x: Value, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None
) -> tuple[Value, ...]:
    """x in pieces along an axis: of `split_sizes`, or `num_splits` equal ones.

    x: [*], any dtype -> same dtype.
    """
    axis = x.axis(axis)
    count = len(split_sizes) if split_sizes is not None else num_splits
    if count is None or count != len(ctx.operation.outputs if ctx.operation else ()):
        raise ValueError(f"{count} pieces")
    if count == 1:
        return (x,)
    if split_sizes is not None:
        return ctx.nodes("Split", count, x, ctx.ints(split_sizes), axis=axis)
    if (x.shape[axis] or 0) % count:
        raise ValueError(f"{count} equal pieces of an axis of {x.shape[axis]}")
    return ctx.nodes("Split", count, x, axis=axis, num_outputs=count)


@lowers("tile", moves=True)
def tile(ctx: Lowering, x: Value, reps: Value) -> Value:
    """x repeated `reps[i]` times along axis i. x: [*], any dtype; reps: [rank(x)], int32 -> same dtype."""
    if reps.constant is not None:
        counts = reps.ints("reps")
        known = [axis or 1 for axis in x.shape]
        bounded([axis * count for axis, count in zip(known, counts, strict=True)], "a tiled tensor")
    return ctx.node("Tile", x, longs(ctx, reps))


@lowers("flatten2d", moves=True)
def flatten2d(ctx: Lowering, x: Value, axis: int = 1) -> Value:
    """The axes before `axis` as one, and those from it on. x: [*], any dtype -> [before, after]."""
    return ctx.node("Flatten", x, axis=axis)


@lowers("shape")
def shape(ctx: Lowering, x: Value) -> Value:
    """The sizes of x. x: [*], any dtype -> [rank(x)], int32."""
    if x.type is not None and x.type.shape is not None and None not in x.type.shape:
        return ctx.constant(x.type.shape, np.int32)
    return ctx.cast(ctx.node("Shape", x), ctx.output_type.dtype)


@lowers("fill", moves=True)
def fill(ctx: Lowering, shape: Value, value: Value | None = None) -> Value:
    """One value in every place. shape: [K], int32, known now or at run time; value: [] -> its dtype."""
    if shape.constant is not None:
        bounded(shape.ints("shape"), "a fill")
    return _filled(ctx, longs(ctx, shape), value)


@lowers("fill_like", moves=True)
def fill_like(ctx: Lowering, ref_tensor: Value, value: Value | None = None) -> Value:
    """One value in every place of a tensor of the shape of `ref_tensor`. value: [] -> its dtype."""
    return _filled(ctx, vector(ctx, sizes(ctx, ref_tensor)), value)


def _filled(ctx: Lowering, shape: Value, value: Value | None) -> Value:
    if value is None:
        array = np.zeros(1, np.float32)
    elif value.constant is None or value.constant.size != 1:
        raise Unsupported("a value that is no constant scalar")
    else:
        array = value.constant.reshape(1)
    return ctx.node("ConstantOfShape", shape, value=from_array(array))


@lowers("range_1d")
def range_1d(ctx: Lowering, start: Value, end: Value, step: Value) -> Value:
    """start, start + step, ... before `end`. start, end, step: [], fp16|fp32|int32 -> [n], same dtype."""
    first, last, by = (_known(value) for value in (start, end, step))
    if by == 0:
        raise ValueError("a range with steps of 0")
    if first is not None and last is not None and by is not None:
        count = (last - first) / by
        if not math.isfinite(count):
            raise ValueError(f"a range from {first} to {last}")
        bounded([max(0, math.ceil(count))], "a range")
    scalars = [value if value.rank == 0 else ctx.node("Squeeze", value) for value in (start, end, step)]
    if start.dtype.startswith("fp"):
        return float_range(ctx, *scalars)
    return ctx.node("Range", *scalars)


def _known(value: Value) -> float | None:
    return None if value.constant is None else float(value.constant.item())


@lowers("cumsum")
def cumsum(ctx: Lowering, x: Value, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Value:
    """The sums of all elements up to each along an axis; `exclusive`: without the element itself.

    x: [*], fp16|fp32|int32 -> same shape and dtype. `reverse`: from the end.
    """
    where_ = ctx.constant(x.axis(axis), np.int64)
    return ctx.node("CumSum", x, where_, exclusive=int(exclusive), reverse=int(reverse))


@lowers("band_part", moves=True)
def band_part(ctx: Lowering, x: Value, lower: int = -1, upper: int = -1) -> Value:
    """The last two axes with zeros outside a band of `lower` and `upper` diagonals; negative keeps all.

    x: [*, M, N], fp16|fp32|int32|bool -> same shape and dtype.
    """
    if x.rank < 2:
        raise ValueError(f"a band of a tensor of rank {x.rank}")
    if lower >= 0:
        x = ctx.node("Trilu", x, ctx.constant(-lower, np.int64), upper=1)
    return ctx.node("Trilu", x, ctx.constant(upper, np.int64), upper=0) if upper >= 0 else x


@lowers("non_zero")
def non_zero(ctx: Lowering, x: Value) -> Value:
    """The indices of all elements that are not 0, in order. x: [*], any dtype -> [n, rank(x)], int32."""
    if x.rank == 0:
        raise Unsupported("a scalar, which has no indices")
    wide = x if x.dtype in ("fp16", "fp32", "int32", "uint8", "bool") else ctx.cast(x, "int32")
    found = ctx.node("Transpose", ctx.node("NonZero", wide), perm=(1, 0))
    return ctx.cast(found, ctx.output_type.dtype)


@lowers("one_hot", moves=True)
def one_hot(
    ctx: Lowering,
    indices: Value,
    one_hot_vector_size: Value,
    axis: int = -1,
    on_value: Value | None = None,
    off_value: Value | None = None,
) -> Value:
    """`on_value` at each index along a new axis, else `off_value`; an index out of range has none.

    A negative one is out of range, as in TensorFlow: Apple's documents do not say, and the converter hands
    `tf.one_hot` on as it is.
    indices: [*], int32; one_hot_vector_size: [], int32, known now or at run time -> their dtype.
    """
    rank = indices.rank + 1
    if not -rank <= axis < rank:
        raise ValueError(f"axis {axis} of a result of rank {rank}")
    dtype = ctx.output_type.dtype
    on, off = (
        ctx.constant(default, np.float32 if dtype.startswith("fp") else NUMPY_DTYPES[dtype])
        if value is None
        else value
        for value, default in ((on_value, 1), (off_value, 0))
    )
    if one_hot_vector_size.constant is not None:
        depth = int(one_hot_vector_size.constant.item())
        bounded([*(known for known in indices.shape if known is not None), depth], "one-hot vectors")
    count = ctx.node("Reshape", longs(ctx, one_hot_vector_size), ctx.ints([]))
    places = ctx.node("Range", ctx.constant(0, np.int64), count, ctx.constant(1, np.int64))
    where_ = axis % rank
    trailing = tuple(range(1, rank - where_))
    if trailing:
        places = ctx.node("Unsqueeze", places, ctx.ints(trailing))
    spread = ctx.node("Unsqueeze", longs(ctx, indices), ctx.ints([where_]))
    return where(ctx, ctx.node("Equal", spread, places), on, off, dtype)


@lowers("argsort")
def argsort(ctx: Lowering, x: Value, axis: int = -1, ascending: bool = False) -> Value:
    """The indices that sort x along an axis; of equal elements the first comes first, either way.

    x: [*], fp16|fp32|int32 -> same shape, int32.
    """
    return ctx.cast(_sorted(ctx, x, -1, axis, ascending)[1], ctx.output_type.dtype)


@lowers("topk", moves=True)
def topk(
    ctx: Lowering,
    x: Value,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> tuple[Value, ...]:
    """The k greatest (`ascending`: least) elements along an axis, in order, and their indices.

    x: [*], any dtype of numbers -> same dtype; indices int32 or uint16. k = -1: all of them. Of equal
    elements the first comes first. What is not to be sorted may be sorted.
    """
    values, indices = _sorted(ctx, x, k, axis, ascending)
    if not return_indices:
        return (values,)
    return values, ctx.cast(indices, output_indices_dtype)


def _sorted(ctx: Lowering, x: Value, k: int, axis: int, ascending: bool) -> tuple[Value, Value]:
    axis = x.axis(axis)
    known = x.shape[axis]
    if k < -1 or (known is not None and k > known):
        raise ValueError(f"the first {k} of {known} elements")
    count = size(ctx, x, axis) if k == -1 else k
    # uint16 and uint32 are not sorted by ONNX Runtime.
    wide = ctx.cast(x, "int64") if x.dtype.startswith("uint") else x
    values, indices = ctx.nodes(
        "TopK", 2, wide, vector(ctx, [count]), axis=axis, largest=int(not ascending), sorted=1
    )
    return values if wide is x else ctx.cast(values, x.dtype), indices
