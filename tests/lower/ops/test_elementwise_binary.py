"""Binary ops against NumPy. Exact, but for pow: 1e-6 of the result."""

from collections.abc import Callable

import numpy as np
import pytest

from coremlops.dialects.mil import Ref
from tests.lower.programs import Array, function, one, operation, run, typed

RNG = np.random.default_rng(5)
Oracle = Callable[..., Array]
ARITHMETIC: dict[str, Oracle] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "real_div": np.divide,
    "floor_div": np.floor_divide,
    "mod": np.mod,
    "maximum": np.maximum,
    "minimum": np.minimum,
}
COMPARISONS: dict[str, Oracle] = {
    "equal": np.equal,
    "not_equal": np.not_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
}
LOGICAL: dict[str, Oracle] = {
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
}
SHAPES = [((2, 3), (2, 3)), ((2, 3), ()), ((), ()), ((2, 1, 3), (4, 1)), ((1, 3, 2, 2, 1), (1, 3, 1, 1, 5))]
Shapes = tuple[tuple[int, ...], tuple[int, ...]]


def two(op: str, x: Array, y: Array, dtype: str, result: str, *, open_axes: bool = False) -> Array:
    """Execute an op of two inputs; `open_axes`: of sizes unknown until run time."""
    shape = np.broadcast_shapes(x.shape, y.shape)
    shapes = [(None,) * len(s) if open_axes else s for s in (x.shape, y.shape, shape)]
    program = function(
        {"x": typed(dtype, *shapes[0]), "y": typed(dtype, *shapes[1])},
        [operation(op, "z", typed(result, *shapes[2]), x=Ref("x"), y=Ref("y"))],
    )
    return run(program, x=x, y=np.asarray(y))["z"]


@pytest.mark.parametrize("op", ARITHMETIC)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("open_axes", [False, True])
def test_arithmetic(op: str, shapes: Shapes, open_axes: bool) -> None:
    x, y = (np.asarray(RNG.standard_normal(shape), np.float32) for shape in shapes)
    found = two(op, x, y, "fp32", "fp32", open_axes=open_axes)
    np.testing.assert_array_equal(found, ARITHMETIC[op](x, y))
    x, y = x.astype(np.float16), y.astype(np.float16)
    found = two(op, x, y, "fp16", "fp16", open_axes=open_axes)
    expected = ARITHMETIC[op](x.astype(np.float32), y.astype(np.float32)).astype(np.float16)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("op", COMPARISONS)
@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32"])
def test_comparisons(op: str, shapes: Shapes, dtype: str) -> None:
    x, y = (
        np.asarray(RNG.integers(-2, 3, shape), np.int32 if dtype == "int32" else np.float32)
        for shape in shapes
    )
    found = two(op, x, y, dtype, "bool")
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, COMPARISONS[op](x, y))


@pytest.mark.parametrize("op", LOGICAL)
@pytest.mark.parametrize("shapes", SHAPES)
def test_logic(op: str, shapes: Shapes) -> None:
    x, y = (np.asarray(RNG.integers(0, 2, shape), np.bool_) for shape in shapes)
    np.testing.assert_array_equal(two(op, x, y, "bool", "bool"), LOGICAL[op](x, y))


@pytest.mark.parametrize("shapes", SHAPES)
def test_pow(shapes: Shapes) -> None:
    x = np.asarray(RNG.random(shapes[0]) * 3 + 0.1, np.float32)
    y = np.asarray(RNG.standard_normal(shapes[1]), np.float32)
    found = two("pow", x, y, "fp32", "fp32")
    np.testing.assert_allclose(found, np.power(x.astype(np.float64), y), rtol=1e-6)


def test_pow_of_negative_bases_and_integers() -> None:
    x, y = np.array([-2, -3, 0, -2], np.float32), np.array([3, 2, 0, 0.5], np.float32)
    np.testing.assert_array_equal(two("pow", x, y, "fp32", "fp32"), [-8, 9, 1, np.nan])
    base, power = np.array([2, -3, 0, 7], np.int32), np.array([10, 3, 0, 1], np.int32)
    np.testing.assert_array_equal(two("pow", base, power, "int32", "int32"), [1024, -27, 1, 7])


EDGES = np.array([-(2**31), -(2**31) + 1, -7, -2, -1, 0, 1, 2, 3, 7, 2**31 - 1], np.int32)


def integer_oracle(op: str, x: Array, y: Array) -> Array:
    """In int64; what int32 cannot hold wraps around, and what is divided by 0 is 0."""
    x, y = x.astype(np.int64), y.astype(np.int64)
    divisor = np.where(y == 0, 1, y)
    wide = {
        "real_div": np.sign(x) * np.sign(divisor) * (np.abs(x) // np.abs(divisor)),
        "floor_div": x // divisor,
        "mod": x % divisor,
    }
    result = np.where(y == 0, 0, wide[op]) if op in wide else ARITHMETIC[op](x, y)
    return np.asarray(result).astype(np.int32)


@pytest.mark.parametrize("op", ARITHMETIC)
def test_integers(op: str) -> None:
    x, y = (np.asarray(grid, np.int32) for grid in np.meshgrid(EDGES, EDGES))
    found = two(op, x, y, "int32", "int32")
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, integer_oracle(op, x, y))


@pytest.mark.parametrize("op", ["real_div", "floor_div", "mod"])
@pytest.mark.parametrize("divisor", [-7, -1, 0, 3])
def test_integers_over_a_constant(op: str, divisor: int) -> None:
    y = np.full((), divisor, np.int32)
    found = one(op, typed("int32", len(EDGES)), EDGES, y=y)
    np.testing.assert_array_equal(found, integer_oracle(op, EDGES, y))


@pytest.mark.parametrize("op", ["floor_div", "mod"])
def test_division_of_floats_at_the_edges(op: str) -> None:
    values = np.array([-np.inf, -7.5, -1, -0.1, 0, 0.1, 0.3, 1, 3, 1e20, np.inf, np.nan], np.float32)
    x, y = np.meshgrid(values, values)
    with np.errstate(all="ignore"):
        expected = ARITHMETIC[op](x, y)
    np.testing.assert_array_equal(two(op, x, y, "fp32", "fp32"), expected)


def test_a_quotient_that_rounds_up_to_an_integer() -> None:
    tenth = np.array([0.1], np.float32)
    np.testing.assert_array_equal(one("floor_div", typed("fp32", 1), np.ones(1, np.float32), y=tenth), [9])
