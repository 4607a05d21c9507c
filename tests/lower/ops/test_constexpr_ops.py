"""Decoded weights against plain loops over the definition of each op; fp16 results are rounded once."""

import itertools
from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import NamedType, Operation, Ref
from coremlops.dialects.mil.graph import Immediate, TensorType
from coremlops.errors import ModelFormatError
from tests.lower.programs import Array, constant, function, onnx_ops, operation, run, typed

RNG = np.random.default_rng(5)


def small(array: Array, dtype: str) -> Immediate:
    """A constant below one byte, as the reader gives it."""
    return Immediate(TensorType(dtype, array.shape), array)


def decode(kind: str, type_: TensorType, *, older: bool = False, **inputs: Any) -> Array:
    """The decoded weight plus an input of zeros, so that something runs. `older`: inputs as attributes."""
    bound = {
        name: value if isinstance(value, Immediate) else constant(value) for name, value in inputs.items()
    }
    op = Operation(
        kind,
        "w_op",
        {} if older else {name: (value,) for name, value in bound.items()},
        (NamedType("w", type_),),
        (),
        {"name": constant("w_op"), **(bound if older else {})},
    )
    zeros = np.zeros(tuple(size or 0 for size in type_.shape or ()), np.float32)
    program = function({"x": type_}, [op, operation("add", "y", type_, x=Ref("x"), y=Ref("w"))])
    assert (
        onnx_ops(program)[-3:] in (["Add", "Cast", "Cast"], ["Cast", "Cast", "Add"]) or type_.dtype == "fp32"
    )
    return run(program, x=zeros)["y"]


def half(array: Array) -> Array:
    return array.astype(np.float16).astype(np.float32)


def pack(values: Array, bits: int) -> Array:
    number = sum(int(value) << (bits * index) for index, value in enumerate(values.ravel()))
    return np.frombuffer(number.to_bytes(-(-values.size * bits // 8), "little"), np.uint8)


@pytest.mark.parametrize("dtype", ["fp16", "fp32"])
@pytest.mark.parametrize("axis", [0, -1])
@pytest.mark.parametrize("stored", [np.int8, np.uint8])
def test_affine(dtype: str, axis: int, stored: Any) -> None:
    data = RNG.integers(-100, 100, (3, 4)).astype(stored)
    size = data.shape[axis]
    scale = RNG.random((size,)).astype(np.float16 if dtype == "fp16" else np.float32)
    zero = RNG.integers(0, 100, size).astype(stored)
    found = decode(
        "constexpr_affine_dequantize", typed(dtype, 3, 4), older=True,
        quantized_data=data, scale=scale, zero_point=zero, axis=axis,
    )  # fmt: skip
    expected: Array = np.empty((3, 4), np.float32)
    for place in np.ndindex(3, 4):
        expected[place] = (int(data[place]) - int(zero[place[axis]])) * np.float32(scale[place[axis]])
    assert found.tobytes() == (half(expected) if dtype == "fp16" else expected).tobytes()


def test_affine_of_scalars() -> None:
    found = decode(
        "constexpr_affine_dequantize", typed("fp32", 2), older=True,
        quantized_data=np.array([1, 2], np.uint8), scale=0.5, zero_point=np.array(3, np.uint8), axis=0,
    )  # fmt: skip
    assert found.tolist() == [-1.0, -0.5]


def test_cast() -> None:
    values = np.array([1.5, 0.1], np.float16)
    found = decode("constexpr_cast", typed("fp32", 2), older=True, source_val=values, output_dtype="fp32")
    np.testing.assert_array_equal(found, values.astype(np.float32))


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_packed_table(bits: int) -> None:
    table = RNG.standard_normal(1 << bits).astype(np.float16)
    keys = RNG.integers(0, 1 << bits, (3, 5))
    found = decode(
        "constexpr_lut_to_dense", typed("fp16", 3, 5), older=True,
        indices=pack(keys, bits), lut=table, shape=np.array([3, 5], np.uint32),
    )  # fmt: skip
    np.testing.assert_array_equal(found, table[keys].astype(np.float32))


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(("vector", "axis"), [(1, None), (2, 0), (3, -1)])
def test_grouped_table(bits: int, vector: int, axis: int | None) -> None:
    shape, groups = (4, 6), (2, 3)
    keys = RNG.integers(0, 1 << bits, shape).astype(np.uint8)
    table = RNG.standard_normal((*groups, 1 << bits, vector)).astype(np.float32)
    whole = [4, 6]
    if axis is not None:
        whole[axis] *= vector
    more: dict[str, Any] = {} if axis is None else {"vector_axis": axis}
    found = decode(
        "constexpr_lut_to_dense", typed("fp32", *whole),
        indices=small(keys, f"uint{bits}"), lut=table, **more,
    )  # fmt: skip
    expected = np.empty(whole, np.float32)
    for row, column, step in itertools.product(range(4), range(6), range(vector)):
        value = table[row // 2, column // 2, keys[row, column], step]
        place = [row, column]
        if axis is not None:
            place[axis] = place[axis] * vector + step
        expected[tuple(place)] = value
    np.testing.assert_array_equal(found, expected)


def test_packed_mask() -> None:
    mask = np.array([[1, 0, 0], [0, 1, 1], [1, 0, 1]])
    values = np.arange(1, 6).astype(np.float16)
    found = decode(
        "constexpr_sparse_to_dense", typed("fp16", 3, 3), older=True,
        nonzero_data=values, mask=pack(mask, 1), shape=np.array([3, 3], np.uint32),
    )  # fmt: skip
    assert found.tolist() == [[1, 0, 0], [0, 2, 3], [4, 0, 5]]


@pytest.mark.parametrize("dtype", ["int4", "uint4", "int8"])
@pytest.mark.parametrize("shifted", [False, True])
def test_blocks(dtype: str, shifted: bool) -> None:
    low = -8 if dtype.startswith("i") else 0
    stored = np.int8 if dtype.startswith("i") else np.uint8
    data = RNG.integers(low, low + 16, (4, 6)).astype(stored)
    scale = RNG.random((2, 3)).astype(np.float16)
    offset = RNG.integers(low, low + 16, (2, 3)).astype(stored)
    more: dict[str, Any] = {"offset": small(offset, dtype)} if shifted else {}
    found = decode(
        "constexpr_blockwise_shift_scale", typed("fp16", 4, 6),
        data=small(data, dtype), scale=scale, **more,
    )  # fmt: skip
    expected = np.empty((4, 6), np.float32)
    for row, column in np.ndindex(4, 6):
        shift = int(offset[row // 2, column // 2]) if shifted else 0
        expected[row, column] = (int(data[row, column]) - shift) * np.float32(scale[row // 2, column // 2])
    assert found.tobytes() == half(expected).tobytes()


def chain(first: Operation, type_: TensorType) -> Array:
    """A sparse op, then `constexpr_sparse_to_dense` of its two results."""
    dense = operation("constexpr_sparse_to_dense", "w", type_, mask=Ref("m"), nonzero_data=Ref("v"))
    add = operation("add", "y", type_, x=Ref("x"), y=Ref("w"))
    zeros = np.zeros(tuple(size or 0 for size in type_.shape or ()), np.float32)
    return run(function({"x": type_}, [first, dense, add]), x=zeros)["y"]


@pytest.mark.parametrize("vector", [1, 2])
def test_a_sparse_table(vector: int) -> None:
    mask = np.array([[1, 1, 0], [0, 1, 0]], np.uint8)
    keys = np.array([0, 1, 1], np.uint8)
    table = np.arange(1, 1 + 2 * vector, dtype=np.float16).reshape(1, 1, 2, vector)
    inputs = {
        "indices_mask": small(mask, "uint1"),
        "indices_nonzero_data": small(keys, "uint1"),
        "lut": constant(table),
    }
    if vector > 1:
        inputs["vector_axis"] = constant(0)
    first = Operation(
        "constexpr_lut_to_sparse", "s", {name: (value,) for name, value in inputs.items()},
        (NamedType("m", typed("uint1", 2 * vector, 3)), NamedType("v", typed("fp16", 3 * vector))), (), {},
    )  # fmt: skip
    found = chain(first, typed("fp16", 2 * vector, 3))
    if vector == 1:
        assert found.tolist() == [[1, 2, 0], [0, 2, 0]]
    else:
        assert found.tolist() == [[1, 3, 0], [2, 4, 0], [0, 3, 0], [0, 4, 0]]


def test_sparse_blocks() -> None:
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]], np.uint8)
    values = np.array([10, 11, 3, 4, 5, 6, 7, 8, 9], np.int8)
    inputs = {
        "data_mask": small(mask, "uint1"),
        "nonzero_data": constant(values),
        "scale": constant(np.array([[0.5, 2, 3, 4]], np.float32)),
        "offset": constant(np.array([[1, 2, 3, 4]], np.int8)),
    }
    first = Operation(
        "constexpr_sparse_blockwise_shift_scale", "s", {name: (value,) for name, value in inputs.items()},
        (NamedType("m", typed("uint1", 4, 4)), NamedType("v", typed("fp32", 9))), (), {},
    )  # fmt: skip
    found = chain(first, typed("fp32", 4, 4))
    assert found.tolist() == [[4.5, 18, 0, 0], [1, 4, 6, 0], [0, 0, 9, 12], [3.5, 14, 0, 0]]


@pytest.mark.parametrize(
    ("kind", "inputs", "message"),
    [
        (
            "constexpr_lut_to_dense",
            {
                "indices": np.zeros(1, np.uint8),
                "lut": np.zeros(4, np.float32),
                "shape": np.array([1 << 30, 1 << 30], np.uint32),
            },
            "4 entries and 1 bytes for the shape",
        ),
        (
            "constexpr_sparse_to_dense",
            {
                "nonzero_data": np.zeros(0, np.float32),
                "mask": np.zeros(1, np.uint8),
                "shape": np.array([1 << 31], np.uint32),
            },
            "a mask of 1 bytes",
        ),
        (
            "constexpr_sparse_to_dense",
            {"nonzero_data": np.zeros(2, np.float32), "mask": small(np.array([1, 0, 0], np.uint8), "uint1")},
            "2 values for 1 ones",
        ),
        (
            "constexpr_lut_to_dense",
            {"indices": np.array([2], np.uint8), "lut": np.zeros((1, 2, 1), np.float32)},
            "the index 2 into a look-up table of 2 entries",
        ),
        (
            "constexpr_lut_to_dense",
            {"indices": np.zeros(3, np.uint8), "lut": np.zeros((2, 2, 1), np.float32)},
            "do not divide",
        ),
        (
            "constexpr_lut_to_dense",
            {"indices": np.zeros(3, np.uint8), "lut": np.zeros((1, 2, 2), np.float32), "vector_axis": 1},
            "along the axis 1",
        ),
        (
            "constexpr_blockwise_shift_scale",
            {"data": np.zeros(3, np.uint8), "scale": np.ones(3, np.float32), "offset": np.ones(1, np.uint8)},
            "offset of another shape",
        ),
        (
            "constexpr_blockwise_shift_scale",
            {"data": np.zeros(4, np.uint8), "scale": np.ones(1, np.float32)},
            r"declares 'w' as fp32\[3\]; decoded, it has the shape \[4\]",
        ),
    ],
)
def test_weights_that_lie(kind: str, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        decode(kind, typed("fp32", 3), **inputs)
