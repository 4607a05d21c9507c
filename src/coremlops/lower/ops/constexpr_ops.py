"""Compressed weights, decoded in NumPy when the model is loaded.

A decoded weight is rounded to its declared dtype in every numeric mode: it is what the file says.
Source: coremltools, `ops/defs/iOS16/constexpr_ops.py`, `iOS18/compression.py`. An op of both has the
inputs of both: the older ones are packed and name their `shape`.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from coremlops.dialects.mil.graph import STORED_DTYPES, TensorType
from coremlops.errors import ModelFormatError
from coremlops.lower.constants import as_stored
from coremlops.lower.context import Lowering
from coremlops.lower.onnx_graph import widened
from coremlops.lower.registry import Ints, Unsupported, Value, lowers
from coremlops.model.bits import packed_bytes, unpack_bits

Array: TypeAlias = np.ndarray[Any, Any]
MAX_VECTOR = 256  # values that one index stands for
_CHUNK = 1 << 22  # elements that are looked up at once: the positions take eight bytes each


@lowers("constexpr_affine_dequantize", rounded=True)
def affine_dequantize(
    ctx: Lowering, quantized_data: Value, zero_point: Value, scale: Value, axis: int
) -> Value:
    """scale * (quantized_data - zero_point), both scalars or one an index of `axis`.

    quantized_data: [*], int8|uint8; zero_point: [] or [n], int8|uint8|fp32; scale: [] or [n], fp16|fp32.
    """
    data = _known(quantized_data)
    shape = [1] * data.ndim
    shape[quantized_data.axis(axis)] = -1
    offset, factor = (
        entry.reshape(shape) if entry.ndim else entry for entry in (_known(zero_point), _known(scale))
    )
    return _result(ctx, (data.astype(np.float32) - offset.astype(np.float32)) * factor)


@lowers("constexpr_cast", rounded=True)
def cast(ctx: Lowering, source_val: Value, output_dtype: str) -> Value:
    """fp16 as fp32: the same values."""
    return _result(ctx, _stored(source_val))


@lowers("constexpr_lut_to_dense", rounded=True)
def lut_to_dense(
    ctx: Lowering, indices: Value, lut: Value, shape: Ints | None = None, vector_axis: int | None = None
) -> Value:
    """The table's entry for each index.

    iOS16: indices: [bytes], uint8, packed; lut: [2**bits], any dtype -> `shape`.
    iOS18: indices: [*], uint1 to uint8; lut: [*groups, palettes, vector], where each axis of the groups
    divides that of the indices. With a vector of more than one value, each index stands for several values
    along `vector_axis`.
    """
    table, keys = _stored(lut), _known(indices)
    if shape is not None:
        bits = int(table.size).bit_length() - 1
        if table.size not in (2, 4, 16, 64, 256) or keys.size < packed_bytes(math.prod(shape), bits):
            raise ModelFormatError(
                f"constexpr_lut_to_dense: {table.size} entries and {keys.size} bytes for the shape {shape}"
            )
        return _result(ctx, table[unpack_bits(keys.tobytes(), bits, math.prod(shape))].reshape(shape))
    return _result(ctx, _look_up(keys, table, vector_axis))


@lowers("constexpr_sparse_to_dense", rounded=True)
def sparse_to_dense(ctx: Lowering, nonzero_data: Value, mask: Value, shape: Ints | None = None) -> Value:
    """The values where the mask has a 1, in order; 0 elsewhere.

    iOS16: mask: [bytes], uint8, one bit a value -> `shape`. iOS18: mask: [*], uint1 -> the mask's shape.
    """
    where = _known(mask)
    if shape is not None:
        if where.size < packed_bytes(math.prod(shape), 1):
            raise ModelFormatError(
                f"constexpr_sparse_to_dense: a mask of {where.size} bytes for the shape {shape}"
            )
        where = unpack_bits(where.tobytes(), 1, math.prod(shape)).reshape(shape)
    return _result(ctx, _spread(_stored(nonzero_data), where))


@lowers("constexpr_blockwise_shift_scale", rounded=True)
def blockwise_shift_scale(ctx: Lowering, data: Value, scale: Value, offset: Value | None = None) -> Value:
    """scale * (data - offset), each entry of both standing for a block of the data.

    data: [*], int4|uint4|int8|uint8|fp16|fp32; scale, offset: of the same rank, axes that divide the data's.
    """
    return _result(ctx, _shift_scale(_known(data), scale, offset))


@lowers("constexpr_lut_to_sparse", rounded=True)
def lut_to_sparse(
    ctx: Lowering,
    indices_mask: Value,
    indices_nonzero_data: Value,
    lut: Value,
    vector_axis: int | None = None,
) -> tuple[Value, Value]:
    """`constexpr_lut_to_dense` for the indices where the mask has a 1: the new mask, and the values."""
    mask, table = _known(indices_mask), _stored(lut)
    dense = _look_up(_spread(_known(indices_nonzero_data), mask), table, vector_axis)
    if table.shape[-1] > 1:
        mask = np.repeat(mask, table.shape[-1], axis=vector_axis)
    return _result(ctx, mask, 0), _result(ctx, dense[mask != 0], 1)


@lowers("constexpr_sparse_blockwise_shift_scale", rounded=True)
def sparse_blockwise_shift_scale(
    ctx: Lowering, data_mask: Value, nonzero_data: Value, scale: Value, offset: Value | None = None
) -> tuple[Value, Value]:
    """`constexpr_blockwise_shift_scale` where the mask has a 1: the mask, and the values."""
    mask = _known(data_mask)
    dense = _shift_scale(_spread(_known(nonzero_data), mask), scale, offset)
    return _result(ctx, mask, 0), _result(ctx, dense[mask != 0], 1)


def _known(value: Value) -> Array:
    """The array to compute with."""
    return widened(_stored(value))


def _stored(value: Value) -> Array:
    """The array to pick values from."""
    if value.stored is None:
        raise Unsupported("a compressed weight that is known at run time alone")
    return value.stored


def _result(ctx: Lowering, array: Array, index: int = 0) -> Value:
    """A decoded weight in the dtype that the operation declares for that result."""
    outputs = ctx.operation.outputs if ctx.operation else ()
    type_ = outputs[index].type if index < len(outputs) else None
    if not isinstance(type_, TensorType) or type_.dtype not in STORED_DTYPES:
        raise Unsupported(f"a decoded weight of type {type_}")
    if type_.shape != array.shape:
        raise ModelFormatError(
            f"the program declares {outputs[index].name!r} as {type_}; decoded, it has the shape "
            f"{list(array.shape)}"
        )
    with np.errstate(over="ignore"):
        stored = array.astype(STORED_DTYPES[type_.dtype], copy=False)
    return ctx.constant(as_stored(stored, round_to_fp16=ctx.rounds(type_)))


def _spread(values: Array, mask: Array) -> Array:
    dense = np.zeros(mask.shape, values.dtype)
    where = mask != 0
    if np.count_nonzero(where) != values.size:
        raise ModelFormatError(f"{values.size} values for {np.count_nonzero(where)} ones in a mask")
    dense[where] = values.ravel()
    return dense


def _blocks(whole: tuple[int, ...], parts: tuple[int, ...]) -> tuple[int, ...]:
    """How many elements of each axis share one entry."""
    if len(whole) != len(parts) or any(
        part < 1 or size % part for size, part in zip(whole, parts, strict=True)
    ):
        raise ModelFormatError(f"blocks of the shape {list(parts)} do not divide {list(whole)}")
    return tuple(size // part for size, part in zip(whole, parts, strict=True))


def _shift_scale(data: Array, scale: Value, offset: Value | None) -> Array:
    blocks = _blocks(data.shape, scale.constant.shape if scale.constant is not None else ())

    def spread(entries: Array) -> Array:
        for axis, size in enumerate(blocks):
            entries = np.repeat(entries, size, axis) if size > 1 else entries
        return entries

    shifted = data.astype(np.float32)
    if offset is not None:
        if _known(offset).shape != _known(scale).shape:
            raise ModelFormatError(f"an offset of another shape than the scale's {list(_known(scale).shape)}")
        shifted = shifted - spread(_known(offset).astype(np.float32))
    return shifted * spread(_known(scale))


def _look_up(keys: Array, table: Array, vector_axis: int | None) -> Array:
    """The table's entries; see `lut_to_dense` for the shapes."""
    if table.ndim != keys.ndim + 2 or not 1 <= table.shape[-1] <= MAX_VECTOR or not keys.ndim:
        raise ModelFormatError(
            f"a look-up table of the shape {list(table.shape)} for indices of {list(keys.shape)}"
        )
    groups, (palettes, vector) = table.shape[:-2], table.shape[-2:]
    if keys.size and keys.max() >= palettes:
        raise ModelFormatError(f"the index {keys.max()} into a look-up table of {palettes} entries")
    blocks = _blocks(keys.shape, groups)
    strides = [math.prod(groups[axis + 1 :]) for axis in range(len(groups))]
    entries = table.reshape(-1, vector)
    result = np.empty((*keys.shape, vector), table.dtype)
    rows = max(1, _CHUNK // max(1, keys[:1].size))
    for start in range(0, keys.shape[0], rows):
        part = keys[start : start + rows]
        group = np.zeros(part.shape, np.int64)
        for axis, (size, stride) in enumerate(zip(blocks, strides, strict=True)):
            first = start if axis == 0 else 0
            place = (np.arange(first, first + part.shape[axis]) // size) * stride
            group += place.reshape([-1 if index == axis else 1 for index in range(part.ndim)])
        result[start : start + rows] = entries[group * palettes + part]
    if vector == 1:
        return result[..., 0]
    if vector_axis is None or not -keys.ndim <= vector_axis < keys.ndim:
        raise ModelFormatError(f"a look-up table of vectors along the axis {vector_axis}")
    axis = vector_axis % keys.ndim
    shape = [size * (vector if index == axis else 1) for index, size in enumerate(keys.shape)]
    return np.moveaxis(result, -1, axis + 1).reshape(shape)
