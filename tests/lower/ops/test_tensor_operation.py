"""Joining, repeating, sorting and filling, against NumPy, exactly; sums to float32's precision."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import NamedType, Operation, Ref
from coremlops.errors import CoremlopsError, ModelFormatError, UnsupportedOpsError
from tests.lower.programs import Array, constant, function, one, operation, run, typed

RNG = np.random.default_rng(5)
DTYPES: dict[str, Any] = {"fp32": np.float32, "fp16": np.float16, "int32": np.int32, "bool": np.bool_}


def values(*shape: int, dtype: str = "fp32") -> Array:
    return RNG.integers(-9, 9, shape).astype(DTYPES[dtype])


def gives(
    kind: str, x: Array, expected: Array, dtype: str = "fp32", to: str | None = None, **inputs: Any
) -> None:
    """The op gives `expected`, with the shapes of x and of the result known and with none known."""
    for open_ in (False, True):
        shapes = [tuple(None for _ in value.shape) if open_ else value.shape for value in (x, expected)]
        program = function(
            {"x": typed(dtype, *shapes[0])},
            [operation(kind, "y", typed(to or dtype, *shapes[1]), x=Ref("x"), **inputs)],
        )
        found = run(program, x=x)["y"]
        np.testing.assert_array_equal(found, expected)
        assert found.shape == expected.shape


def several(
    kind: str, outputs: Sequence[tuple[str, tuple[int | None, ...]]], inputs: dict[str, Any], **feeds: Array
) -> list[Array]:
    """Execute one operation that has several results; the dtype of each feed is its type."""
    names = {np.dtype(np.float32): "fp32", np.dtype(np.int32): "int32", np.dtype(np.uint16): "uint16"}
    types = tuple(
        NamedType(f"y{index}", typed(dtype, *shape)) for index, (dtype, shape) in enumerate(outputs)
    )
    made = operation(kind, "y0", typed("fp32"), **inputs)
    made = Operation(kind, "op", made.inputs, types, (), {})
    program = function(
        {name: typed(names[value.dtype], *value.shape) for name, value in feeds.items()},
        [made],
        *(entry.name for entry in types),
    )
    found = run(program, **feeds)
    return [found[entry.name] for entry in types]


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_all_dtypes(dtype: str) -> None:
    x = values(3, 4, dtype=dtype)
    gives("tile", x, np.tile(x, (2, 3)), dtype, reps=[2, 3])
    gives("band_part", x, np.triu(np.tril(x, 2), -1), dtype, lower=1, upper=2)
    gives("flatten2d", x, x.reshape(3, 4), dtype)
    gives("shape", x, np.array([3, 4], np.int32), dtype, to="int32")
    gives("non_zero", x, np.argwhere(x).astype(np.int32), dtype, to="int32")
    type_ = typed(dtype, 3, 4)
    stacked = operation("stack", "y", typed(dtype, 3, 2, 4), values=(Ref("x"), Ref("x")), axis=1)
    np.testing.assert_array_equal(run(function({"x": type_}, [stacked]), x=x)["y"], np.stack([x, x], 1))


@pytest.mark.parametrize(("lower", "upper"), [(-1, -1), (0, -1), (-1, 0), (0, 0), (2, 1), (9, 9)])
def test_band_part(lower: int, upper: int) -> None:
    x = values(2, 4, 5) + 20
    m, n = np.ogrid[:4, :5]
    band = ((lower < 0) | (m - n <= lower)) & ((upper < 0) | (n - m <= upper))
    gives("band_part", x, np.where(band, x, 0), lower=lower, upper=upper)


def test_band_part_leaves_no_nan_outside() -> None:
    x = np.full((2, 2), np.nan, np.float32)
    found = one("band_part", typed("fp32", 2, 2), x, lower=0, upper=0)
    np.testing.assert_array_equal(found, np.array([[np.nan, 0], [0, np.nan]]))


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumsum(axis: int, exclusive: bool, reverse: bool) -> None:
    x = values(2, 3, 4)
    data = np.flip(x, axis) if reverse else x
    total = np.cumsum(data, axis) - (data if exclusive else 0)
    expected = np.flip(total, axis) if reverse else total
    for dtype in ("fp32", "int32"):
        given, wanted = x.astype(DTYPES[dtype]), expected.astype(DTYPES[dtype])
        gives("cumsum", given, wanted, dtype, axis=axis, exclusive=exclusive, reverse=reverse)


def test_cumsum_is_rounded_once() -> None:
    """2048 + 1 + 1 is 2050 in float32; rounded to fp16 after each step it would stay 2048."""
    x = np.array([2048, 1, 1], np.float16)
    np.testing.assert_array_equal(one("cumsum", typed("fp16", 3), x, axis=0), [2048, 2048, 2050])


@pytest.mark.parametrize(("dtype", "value"), [("fp32", 2.5), ("int32", 7), ("bool", True), ("fp16", 0.5)])
def test_fill(dtype: str, value: Any) -> None:
    fill = constant(np.array(value, DTYPES[dtype]))
    known = operation("fill", "y", typed(dtype, 2, 3), shape=[2, 3], value=fill)
    found = run(function({"s": typed("int32", 2)}, [known], "y"), s=np.array([2, 3], np.int32))["y"]
    np.testing.assert_array_equal(found, np.full((2, 3), value))
    unknown = operation("fill", "y", typed(dtype, None, None), shape=Ref("s"), value=fill)
    found = run(function({"s": typed("int32", 2)}, [unknown]), s=np.array([2, 3], np.int32))["y"]
    np.testing.assert_array_equal(found, np.full((2, 3), value))
    like = operation("fill_like", "y", typed(dtype, None, 3), ref_tensor=Ref("r"), value=fill)
    program = function({"r": typed("int32", None, 3)}, [like])
    found = run(program, r=np.zeros((2, 3), np.int32))["y"]
    np.testing.assert_array_equal(found, np.full((2, 3), value))


def test_fill_without_a_value_is_zero() -> None:
    program = function(
        {"s": typed("int32", 1)}, [operation("fill", "y", typed("fp32", None), shape=Ref("s"))]
    )
    np.testing.assert_array_equal(run(program, s=np.array([4], np.int32))["y"], np.zeros(4))


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("fill", {"shape": [1 << 20, 1 << 20]}),
        ("fill", {"shape": [2, -1]}),
        ("tile", {"reps": [1 << 30, 1 << 30], "x": Ref("x")}),
        ("pad", {"pad": [1 << 30, 1 << 30, 0, 0], "x": Ref("x")}),
        ("range_1d", {"start": 0.0, "end": 1e30, "step": 1e-30}),
        ("range_1d", {"start": 0, "end": 5, "step": 0}),
        ("one_hot", {"indices": Ref("i"), "one_hot_vector_size": 1 << 30}),
    ],
)
def test_shapes_that_are_absurd(kind: str, inputs: dict[str, Any]) -> None:
    program = function(
        {"x": typed("fp32", 2, 2), "i": typed("int32", 8)},
        [operation(kind, "y", typed("fp32", None, None), **inputs)],
    )
    with pytest.raises(ModelFormatError, match=r"at most|do not fit"):
        run(program, x=values(2, 2), i=np.zeros(8, np.int32))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_flatten2d(axis: int) -> None:
    x = values(2, 3, 4)
    before = int(np.prod(x.shape[:axis]))
    gives("flatten2d", x, x.reshape(before, -1), axis=axis)


def test_flatten2d_of_a_vector() -> None:
    x = values(3)
    gives("flatten2d", x, x[:, None], axis=1)
    gives("flatten2d", x, x[None], axis=-1)


@pytest.mark.parametrize(
    ("start", "end", "step"), [(0, 5, 1), (1, 10, 3), (9, 0, -2), (3, 3, 1), (-2.5, 2.0, 0.5), (5, 2, 1)]
)
def test_range_1d(start: float, end: float, step: float) -> None:
    whole = all(isinstance(value, int) for value in (start, end, step))
    for dtype in ("int32", "fp32", "fp16") if whole else ("fp32", "fp16"):
        expected = np.arange(start, end, step).astype(DTYPES[dtype])
        bounds = {"start": start, "end": end, "step": step}
        known = {name: constant(np.array(value, DTYPES[dtype])) for name, value in bounds.items()}
        program = function({"n": typed(dtype)}, [operation("range_1d", "y", typed(dtype, None), **known)])
        feeds = {name: np.array(value, DTYPES[dtype]) for name, value in bounds.items()}
        np.testing.assert_array_equal(run(program, n=feeds["end"])["y"], expected)
        given = {name: typed(dtype) for name in bounds}
        made = operation("range_1d", "y", typed(dtype, None), **{name: Ref(name) for name in bounds})
        np.testing.assert_array_equal(run(function(given, [made]), **feeds)["y"], expected)


def test_a_long_range_of_floats_is_not_a_sum_of_roundings() -> None:
    made = operation("range_1d", "y", typed("fp32", None), start=0.0, end=Ref("n"), step=0.1)
    found = run(function({"n": typed("fp32")}, [made]), n=np.array(1000, np.float32))["y"]
    expected = np.arange(10000) * np.float64(np.float32(0.1))
    np.testing.assert_array_equal(found, expected.astype(np.float32))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("dtype", list(DTYPES))
def test_one_hot(axis: int, dtype: str) -> None:
    indices = np.array([[0, 2, 4], [-1, 3, 7]], np.int32)  # what is out of range has no place
    hot = np.moveaxis(indices[..., None] == np.arange(5), -1, axis)
    on, off = (True, False) if dtype == "bool" else (3, -1)
    more = {
        name: constant(np.array(value, DTYPES[dtype]))
        for name, value in (("on_value", on), ("off_value", off))
    }
    expected = np.where(hot, on, off)
    known = operation(
        "one_hot",
        "y",
        typed(dtype, *expected.shape),
        indices=Ref("i"),
        one_hot_vector_size=5,
        axis=axis,
        **more,
    )
    np.testing.assert_array_equal(
        run(function({"i": typed("int32", 2, 3)}, [known]), i=indices)["y"], expected
    )
    unknown = operation(
        "one_hot", "y", typed(dtype, None, None, None), indices=Ref("i"), one_hot_vector_size=Ref("n"),
        axis=axis, **more,
    )  # fmt: skip
    program = function({"i": typed("int32", None, None), "n": typed("int32")}, [unknown])
    np.testing.assert_array_equal(run(program, i=indices, n=np.array(5, np.int32))["y"], expected)


@pytest.mark.parametrize(
    ("mode", "numpy_mode"), [("constant", "constant"), ("reflect", "reflect"), ("replicate", "edge")]
)
def test_pad_at_run_time(mode: str, numpy_mode: Any) -> None:
    x = values(3, 4)
    amounts = np.array([1, 2, 0, 3], np.int32)
    program = function(
        {"x": typed("fp32", None, 4), "p": typed("int32", 4)},
        [operation("pad", "y", typed("fp32", None, None), x=Ref("x"), pad=Ref("p"), mode=mode)],
    )
    np.testing.assert_array_equal(
        run(program, x=x, p=amounts)["y"], np.pad(x, amounts.reshape(2, 2), numpy_mode)
    )


def test_tile_at_run_time() -> None:
    x = values(2, 1)
    program = function(
        {"x": typed("fp32", 2, 1), "r": typed("int32", 2)},
        [operation("tile", "y", typed("fp32", None, None), x=Ref("x"), reps=Ref("r"))],
    )
    np.testing.assert_array_equal(run(program, x=x, r=np.array([2, 3], np.int32))["y"], np.tile(x, (2, 3)))


@pytest.mark.parametrize(
    ("sizes", "inputs"),
    [([1, 3, 2], {"split_sizes": [1, 3, 2]}), ([2, 2, 2], {"num_splits": 3}), ([6], {"num_splits": 1}),
     ([4, 0, 2], {"split_sizes": [4, 0, 2], "num_splits": 3})],
)  # fmt: skip
@pytest.mark.parametrize("axis", [1, -1])
def test_split(sizes: list[int], inputs: dict[str, Any], axis: int) -> None:
    x = values(2, 6)
    outputs = [("fp32", (2, size)) for size in sizes]
    found = several("split", outputs, {"x": Ref("x"), "axis": axis, **inputs}, x=x)
    for piece, expected in zip(found, np.split(x, np.cumsum(sizes)[:-1], 1), strict=True):
        np.testing.assert_array_equal(piece, expected)


def test_split_that_does_not_come_out_even() -> None:
    with pytest.raises(ModelFormatError, match="4 equal pieces of an axis of 6"):
        several("split", [("fp32", (2, 2))] * 4, {"x": Ref("x"), "axis": 1, "num_splits": 4}, x=values(2, 6))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_stack(axis: int) -> None:
    x, y = values(2, 3), values(2, 3)
    made = operation("stack", "z", typed("fp32", None, None, None), values=(Ref("x"), Ref("y")), axis=axis)
    program = function({"x": typed("fp32", None, 3), "y": typed("fp32", 2, 3)}, [made])
    np.testing.assert_array_equal(run(program, x=x, y=y)["z"], np.stack([x, y], axis))


def test_concat_of_scalars() -> None:
    made = operation("concat", "z", typed("int32", 2), values=(Ref("x"), Ref("y")), axis=0)
    program = function({"x": typed("int32"), "y": typed("int32")}, [made])
    np.testing.assert_array_equal(run(program, x=np.array(3, np.int32), y=np.array(4, np.int32))["z"], [3, 4])


def test_concat_interleaved_of_an_open_size() -> None:
    x, y = values(2, 3), values(2, 3)
    made = operation(
        "concat", "z", typed("fp32", None, 3), values=(Ref("x"), Ref("y")), axis=0, interleave=True
    )
    program = function({"x": typed("fp32", None, 3), "y": typed("fp32", None, 3)}, [made])
    np.testing.assert_array_equal(run(program, x=x, y=y)["z"], np.stack([x, y], 1).reshape(4, 3))


def test_non_zero_of_nothing_and_of_a_scalar() -> None:
    gives("non_zero", np.zeros((2, 2), np.float32), np.zeros((0, 2), np.int32), to="int32")
    with pytest.raises(UnsupportedOpsError, match="a scalar, which has no indices"):
        one("non_zero", typed("int32", None, 0), np.array(1, np.float32), x_type=typed("fp32"))


TIES = np.array([[2, 1, 2, 3, 1, 3], [0, 0, 0, 0, 0, 0]])


@pytest.mark.parametrize("ascending", [False, True])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32"])
def test_argsort_takes_the_first_of_equals_first(ascending: bool, dtype: str) -> None:
    x = TIES.astype(DTYPES[dtype])
    expected = np.argsort(x if ascending else -x, -1, kind="stable")
    gives("argsort", x, expected.astype(np.int32), dtype, to="int32", ascending=ascending)
    wide = RNG.integers(0, 9, (3, 500)).astype(DTYPES[dtype])  # past the engine's shortcuts for few elements
    expected = np.argsort(wide.T if ascending else -wide.T, 0, kind="stable")
    gives(
        "argsort",
        np.ascontiguousarray(wide.T),
        expected.astype(np.int32),
        dtype,
        "int32",
        ascending=ascending,
        axis=0,
    )


@pytest.mark.parametrize("k", [1, 3, 6, -1])
@pytest.mark.parametrize("ascending", [False, True])
def test_topk(k: int, ascending: bool) -> None:
    x = TIES.astype(np.float32)
    order = np.argsort(x if ascending else -x, -1, kind="stable")[:, : k if k > 0 else None]
    inputs = {"x": Ref("x"), "k": k, "axis": -1, "ascending": ascending}
    best, indices = several("topk", [("fp32", (2, None)), ("int32", (2, None))], inputs, x=x)
    np.testing.assert_array_equal(best, np.take_along_axis(x, order, -1))
    np.testing.assert_array_equal(indices, order)
    assert indices.dtype == np.int32


def test_topk_of_unsigned_numbers_and_indices() -> None:
    x = np.array([1, 65535, 3], np.uint16)
    inputs = {"x": Ref("x"), "k": 2, "output_indices_dtype": "uint16", "sort": False}
    best, indices = several("topk", [("uint16", (2,)), ("uint16", (2,))], inputs, x=x)
    np.testing.assert_array_equal(best, [65535, 3])
    np.testing.assert_array_equal(indices, np.array([1, 2], np.uint16))
    assert best.dtype == indices.dtype == np.uint16


def test_topk_without_indices() -> None:
    (best,) = several(
        "topk",
        [("fp32", (2,))],
        {"x": Ref("x"), "k": 2, "return_indices": False},
        x=np.array([1, 3, 2], np.float32),
    )
    np.testing.assert_array_equal(best, [3, 2])


def test_topk_of_more_than_there_are() -> None:
    with pytest.raises(ModelFormatError, match="the first 4 of 3 elements"):
        several(
            "topk",
            [("fp32", (4,)), ("int32", (4,))],
            {"x": Ref("x"), "k": 4},
            x=np.array([1, 3, 2], np.float32),
        )


@pytest.mark.parametrize("dtype", [*DTYPES, "int16"])
def test_select(dtype: str) -> None:
    kind: Any = {**DTYPES, "int16": np.int16}[dtype]
    condition = np.array([[True], [False]])
    a, b = RNG.integers(0, 2, (1, 3)).astype(kind), RNG.integers(0, 2, (2, 3)).astype(kind)
    made = operation("select", "y", typed(dtype, 2, 3), cond=Ref("c"), a=Ref("a"), b=Ref("b"))
    program = function({"c": typed("bool", 2, 1), "a": typed(dtype, 1, 3), "b": typed(dtype, 2, 3)}, [made])
    np.testing.assert_array_equal(run(program, c=condition, a=a, b=b)["y"], np.where(condition, a, b))


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [("stack", {"values": (Ref("x"),), "axis": 9}), ("cumsum", {"x": Ref("x"), "axis": 5}),
     ("argsort", {"x": Ref("x"), "axis": 3}), ("band_part", {"x": Ref("s")}),
     ("pad", {"x": Ref("x"), "pad": [1]}),
     ("pad", {"x": Ref("x"), "pad": [1, 1], "mode": "wrap"}), ("fill", {"shape": [2], "value": Ref("x")})],
)  # fmt: skip
def test_inputs_that_make_no_sense(kind: str, inputs: dict[str, Any]) -> None:
    made = operation(kind, "y", typed("fp32", None), **inputs)
    with pytest.raises(CoremlopsError):
        run(
            function({"x": typed("fp32", 2, 2), "s": typed("fp32")}, [made]),
            x=values(2, 2),
            s=np.array(1, np.float32),
        )
