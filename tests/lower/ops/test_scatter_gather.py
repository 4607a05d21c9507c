"""Picking and placing by index, against NumPy, exactly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Ref
from coremlops.errors import ModelError, ModelFormatError, UnsupportedOpsError
from tests.lower.programs import Array, function, onnx_ops, operation, run, typed

RNG = np.random.default_rng(3)
DTYPES: dict[str, Any] = {
    "fp32": np.float32,
    "fp16": np.float16,
    "int32": np.int32,
    "int16": np.int16,
    "uint16": np.uint16,
    "int8": np.int8,
    "uint8": np.uint8,
}
COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda old, new: new,
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new if np.asarray(old).dtype.kind == "f" else np.trunc(old / new),
    "max": np.maximum,
    "min": np.minimum,
}


def apply(kind: str, dtype: str, out: tuple[int, ...], feeds: dict[str, Any], **inputs: Any) -> Array:
    """Execute one op, with the shapes of all known and with none known; both give the same."""
    results = []
    names = {np.dtype(kind): name for name, kind in DTYPES.items()}
    for open_ in (False, True):
        types = {
            name: typed(names[value.dtype], *((None,) * value.ndim if open_ else value.shape))
            for name, value in feeds.items()
        }
        result = typed(dtype, *((None,) * len(out) if open_ else out))
        refs = {name: Ref(name) for name in feeds}
        results.append(run(function(types, [operation(kind, "y", result, **refs, **inputs)]), **feeds)["y"])
    np.testing.assert_array_equal(results[0], results[1])
    assert results[0].shape == out
    return results[0]


@pytest.mark.parametrize("index_dtype", ["int32", "int16", "uint16", "int8", "uint8"])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32", "uint8"])
def test_gather_dtypes(dtype: str, index_dtype: str) -> None:
    x = RNG.integers(0, 99, (5, 3)).astype(DTYPES[dtype])
    indices = np.array([[4, 0], [2, 2]], DTYPES[index_dtype])
    found = apply("gather", dtype, (2, 2, 3), {"x": x, "indices": indices})
    np.testing.assert_array_equal(found, x[indices])
    along = np.array([[4, 0, 1]], DTYPES[index_dtype])
    found = apply("gather_along_axis", dtype, (1, 3), {"x": x, "indices": along})
    np.testing.assert_array_equal(found, np.take_along_axis(x, along.astype(np.int64), 0))
    found = apply(
        "gather_nd", dtype, (2,), {"x": x, "indices": np.array([[4, 1], [0, 2]], DTYPES[index_dtype])}
    )
    np.testing.assert_array_equal(found, x[[4, 0], [1, 2]])


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize(
    "indices", [np.array(1), np.array([1]), np.array([-1, 0, -2]), np.array([[0, 1], [1, 1]])]
)
def test_gather(axis: int, indices: Array) -> None:
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    expected = np.take(x, indices, axis)
    found = apply("gather", "fp32", expected.shape, {"x": x, "indices": indices.astype(np.int32)}, axis=axis)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("axis", "batch", "shape"),
    [
        (1, 1, (2, 5)),
        (2, 1, (2, 5)),
        (3, 1, (2,)),
        (2, 2, (2, 3, 2, 2)),
        (-1, 2, (2, 3)),
        (-1, 3, (2, 3, 4, 2)),
    ],
)
def test_gather_with_batches(axis: int, batch: int, shape: tuple[int, ...]) -> None:
    x = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    indices = RNG.integers(-2, 3, shape).astype(np.int32)
    lead = x.shape[:batch]
    each = [np.take(x[place], indices[place], axis % 4 - batch) for place in np.ndindex(*lead)]
    expected = np.stack(each).reshape(*lead, *each[0].shape)
    feeds = {"x": x, "indices": indices}
    found = apply("gather", "fp32", expected.shape, feeds, axis=axis, batch_dims=batch)
    np.testing.assert_array_equal(found, expected)


def test_gather_with_batches_that_do_not_fit() -> None:
    feeds = {"x": np.zeros((2, 3), np.float32), "indices": np.zeros((2, 3), np.int32)}
    with pytest.raises(ModelFormatError, match="batch_dims 1 with axis 0"):
        apply("gather", "fp32", (2, 3), feeds, axis=0, batch_dims=1)


def test_an_index_out_of_range_is_an_error() -> None:
    feeds = {"x": np.zeros((2, 3), np.float32), "indices": np.array([2], np.int32)}
    with pytest.raises(ModelError, match="the engine failed"):
        apply("gather", "fp32", (1, 3), feeds)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_along_axis(axis: int) -> None:
    x = RNG.standard_normal((3, 4, 5)).astype(np.float32)
    shape = list(x.shape)
    shape[axis] = 6
    indices = RNG.integers(-x.shape[axis], x.shape[axis], shape).astype(np.int32)
    found = apply("gather_along_axis", "fp32", tuple(shape), {"x": x, "indices": indices}, axis=axis)
    np.testing.assert_array_equal(found, np.take_along_axis(x, indices, axis))


@pytest.mark.parametrize(("depth", "batch"), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1)])
def test_gather_nd(depth: int, batch: int) -> None:
    x = RNG.standard_normal((2, 3, 4)).astype(np.float32)
    indices = RNG.integers(0, 2, (2, 5, depth)).astype(np.int32)
    if batch:
        expected = np.stack([x[row][tuple(np.moveaxis(indices[row], -1, 0))] for row in range(2)])
    else:
        expected = x[tuple(np.moveaxis(indices, -1, 0))]
    found = apply("gather_nd", "fp32", expected.shape, {"x": x, "indices": indices}, batch_dims=batch)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", list(COMBINE))
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32"])
@pytest.mark.parametrize("axis", [0, -1])
def test_scatter(mode: str, dtype: str, axis: int) -> None:
    data = RNG.integers(1, 30, (4, 3, 5)).astype(DTYPES[dtype])
    indices = np.array([2, -4] if axis == 0 else [0, 4], np.int32)
    shape = list(data.shape)
    shape[axis] = 2
    updates = RNG.integers(1, 9, shape).astype(DTYPES[dtype])
    expected = np.moveaxis(data.copy(), axis, 0)
    for index, row in zip(indices, np.moveaxis(updates, axis, 0), strict=True):
        wide = expected[index].astype(np.float32) if dtype == "fp16" else expected[index]
        expected[index] = COMBINE[mode](wide, row)
    feeds = {"data": data, "indices": indices, "updates": updates}
    found = apply("scatter", dtype, data.shape, feeds, axis=axis, mode=mode)
    np.testing.assert_array_equal(found, np.moveaxis(expected, 0, axis))


def test_integers_are_scattered_by_any_divisor() -> None:
    """ONNX Runtime refuses to divide integers by 0, and -2^31 by -1 ends the process."""
    data = np.array([-(2**31), 7, 8], np.int32)
    feeds = {
        "data": data,
        "indices": np.array([0, 1, 2], np.int32),
        "updates": np.array([-1, 0, -3], np.int32),
    }
    found = apply("scatter", "int32", data.shape, feeds, mode="div")
    np.testing.assert_array_equal(found, [-(2**31), 0, -2])


@pytest.mark.parametrize("mode", list(COMBINE))
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_scatter_along_axis(mode: str, axis: int) -> None:
    data = RNG.integers(1, 30, (4, 3)).astype(np.int32)
    shape = list(data.shape)
    shape[axis] = 2
    indices = np.argsort(RNG.random(data.shape), axis)  # no place is hit twice
    indices = np.take(indices, [0, 1], axis).astype(np.int32)
    updates = RNG.integers(1, 9, shape).astype(np.int32)
    expected = data.copy()
    old = np.take_along_axis(data, indices, axis)
    np.put_along_axis(expected, indices, COMBINE[mode](old, updates).astype(np.int32), axis)
    feeds = {"data": data, "indices": indices - data.shape[axis], "updates": updates}
    found = apply("scatter_along_axis", "int32", data.shape, feeds, axis=axis, mode=mode)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", list(COMBINE))
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_scatter_nd(mode: str, depth: int) -> None:
    data = RNG.integers(1, 30, (4, 3, 2)).astype(np.float32)
    indices = np.array([[3, 1, 0], [0, -1, 1]], np.int32)[:, :depth]
    updates = RNG.integers(1, 9, (2, *data.shape[depth:])).astype(np.float32)
    expected = data.copy()
    for place, row in zip(indices, updates, strict=True):
        expected[tuple(place)] = COMBINE[mode](expected[tuple(place)], row)
    feeds = {"data": data, "indices": np.ascontiguousarray(indices), "updates": updates}
    found = apply("scatter_nd", "fp32", data.shape, feeds, mode=mode)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", ["add", "sub", "mul", "div", "max", "min"])
@pytest.mark.parametrize("kind", ["scatter", "scatter_nd", "scatter_along_axis"])
def test_an_element_that_is_hit_often_takes_part_each_time(kind: str, mode: str) -> None:
    """Many updates of few places, enough that the engine uses several threads."""
    count = 20_000 if mode in ("add", "sub") else 12
    data = np.array([64.0, 128.0, 1.0], np.float32)
    indices = RNG.integers(0, 3, count).astype(np.int32)
    updates = RNG.choice([1.0, 2.0], count).astype(np.float32)
    expected = data.copy()
    for index, update in zip(indices, updates, strict=True):
        expected[index] = COMBINE[mode](expected[index], update)
    places = indices[:, None] if kind == "scatter_nd" else indices
    found = apply(kind, "fp32", (3,), {"data": data, "indices": places, "updates": updates}, mode=mode)
    np.testing.assert_array_equal(found, expected)


def test_scatter_adds_when_no_mode_is_named() -> None:
    feeds = {
        "data": np.ones(2, np.float32),
        "indices": np.array([1], np.int32),
        "updates": np.array([5], np.float32),
    }
    np.testing.assert_array_equal(apply("scatter", "fp32", (2,), feeds), [1, 6])


def test_scatter_in_an_unknown_mode() -> None:
    feeds = {
        "data": np.ones(2, np.float32),
        "indices": np.array([1], np.int32),
        "updates": np.array([5], np.float32),
    }
    with pytest.raises(UnsupportedOpsError, match="mode 'average'"):
        apply("scatter", "fp32", (2,), feeds, mode="average")


def test_scatter_in_fp16_is_rounded_once() -> None:
    """2048 + 1 + 1 is 2050 in float32; rounded to fp16 after each update it would stay 2048."""
    feeds = {
        "data": np.array([2048], np.float16),
        "indices": np.array([0, 0], np.int32),
        "updates": np.array([1, 1], np.float16),
    }
    np.testing.assert_array_equal(apply("scatter", "fp16", (1,), feeds), [2050])


X = np.arange(6, dtype=np.float32).reshape(3, 2)
ONE, FIVE, DATA = np.array([1], np.int32), np.array([5], np.float32), np.ones(3, np.float32)
NEW: list[tuple[str, dict[str, Any]]] = [
    ("gather", {"x": X, "indices": ONE}),
    ("gather_along_axis", {"x": DATA, "indices": ONE}),
    ("gather_nd", {"x": X, "indices": ONE[None]}),
    ("scatter", {"data": DATA, "indices": ONE, "updates": FIVE}),
    ("scatter_along_axis", {"data": DATA, "indices": ONE, "updates": FIVE}),
    ("scatter_nd", {"data": DATA, "indices": ONE[None], "updates": FIVE}),
]


@pytest.mark.parametrize(("kind", "feeds"), NEW)
@pytest.mark.parametrize("index", [-1, 3])
def test_an_index_out_of_range_since_ios_17(kind: str, feeds: dict[str, Any], index: int) -> None:
    """Validated, it is an error; not validated, it is safe and does not count from the end."""
    out = {"gather": (1, 2), "gather_along_axis": (1,), "gather_nd": (1, 2)}.get(kind, (3,))
    good = apply(kind, "fp32", out, feeds, validate_indices=True)
    np.testing.assert_array_equal(good, apply(kind, "fp32", out, feeds))
    wrong = {**feeds, "indices": np.full_like(feeds["indices"], index)}
    first = {**feeds, "indices": np.zeros_like(feeds["indices"])}
    found = apply(kind, "fp32", out, wrong, validate_indices=False)
    np.testing.assert_array_equal(found, apply(kind, "fp32", out, first))
    with pytest.raises(ModelError):
        apply(kind, "fp32", out, wrong, validate_indices=True)


def test_a_constant_index_costs_no_check() -> None:
    program = function(
        {"x": typed("fp32", 3)},
        [operation("gather", "y", typed("fp32"), x=Ref("x"), indices=2, validate_indices=False)],
    )
    assert onnx_ops(program) == ["Gather"]
    wrong = operation("gather", "y", typed("fp32"), x=Ref("x"), indices=3, validate_indices=True)
    with pytest.raises(ModelFormatError, match="indices out of range"):
        run(function({"x": typed("fp32", 3)}, [wrong]), x=np.zeros(3, np.float32))
