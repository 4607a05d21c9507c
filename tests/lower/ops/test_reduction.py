"""Reductions against NumPy, in double or int64.

Tolerance: float32 sums in another order, 1e-5 of values near 1; in fp16 a unit in the last place. Integers
are exact.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Ref
from coremlops.errors import UnsupportedOpsError
from tests.lower.programs import Array, function, one, operation, run, typed

RNG = np.random.default_rng(7)
ORACLES: dict[str, Callable[..., Any]] = {
    "reduce_l1_norm": lambda x, **over: np.abs(x).sum(**over),
    "reduce_l2_norm": lambda x, **over: np.sqrt(np.square(x).sum(**over)),
    "reduce_log_sum": lambda x, **over: np.log(x.sum(**over)),
    "reduce_log_sum_exp": lambda x, **over: np.log(np.exp(x).sum(**over)),
    "reduce_max": np.max,
    "reduce_mean": np.mean,
    "reduce_min": np.min,
    "reduce_prod": np.prod,
    "reduce_sum": np.sum,
    "reduce_sum_square": lambda x, **over: np.square(x).sum(**over),
}
SHAPES = [((2, 3, 4, 5), [-1]), ((2, 3, 4), [0, 2]), ((3, 1), []), ((2, 2), None), ((4,), [0]), ((), None)]
SHAPES_5 = [*SHAPES, ((1, 2, 2, 3, 2), [-2, 1])]


def inputs_of(axes: list[int] | None, keep: bool) -> dict[str, Any]:
    return {"keep_dims": keep} | ({} if axes is None else {"axes": np.array(axes, np.int32)})


def expected_of(op: str, x: Array, axes: list[int] | None, keep: bool) -> Array:
    return np.asarray(ORACLES[op](x, axis=None if axes is None else tuple(axes), keepdims=keep))


@pytest.mark.parametrize("op", ORACLES)
@pytest.mark.parametrize(("shape", "axes"), SHAPES_5)
@pytest.mark.parametrize("keep", [True, False])
def test_floats(op: str, shape: tuple[int, ...], axes: list[int] | None, keep: bool) -> None:
    x = np.asarray(
        RNG.random(shape) + 0.1 if op == "reduce_log_sum" else RNG.standard_normal(shape), np.float32
    )
    expected = expected_of(op, x.astype(np.float64), axes, keep)
    for result, given in ((expected.shape, shape), ([None] * expected.ndim, [None] * len(shape))):
        found = one(op, typed("fp32", *result), x, x_type=typed("fp32", *given), **inputs_of(axes, keep))
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    half = x.astype(np.float16)
    expected = expected_of(op, half.astype(np.float64), axes, keep)
    found = one(
        op, typed("fp16", *expected.shape), half, x_type=typed("fp16", *shape), **inputs_of(axes, keep)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-3)
    np.testing.assert_array_equal(found, found.astype(np.float16))


@pytest.mark.parametrize("op", ORACLES)
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_integers(op: str, shape: tuple[int, ...], axes: list[int] | None) -> None:
    """What has a fraction is cut off, as NumPy's `astype` does."""
    low = 1 if op == "reduce_log_sum" else -4
    x = np.asarray(RNG.integers(low, 9, shape), np.int32)
    expected = expected_of(op, x.astype(np.int64), axes, False).astype(np.int32)
    found = one(
        op, typed("int32", *expected.shape), x, x_type=typed("int32", *shape), **inputs_of(axes, False)
    )
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_a_mean_of_big_integers() -> None:
    x = np.array([2**31 - 1, 2**31 - 1, 2**31 - 4], np.int32)
    found = one("reduce_mean", typed("int32"), x, x_type=typed("int32", 3))
    assert found == 2**31 - 2


def test_log_sum_exp_neither_overflows_nor_vanishes() -> None:
    x = np.array([[1000, 1001], [-1000, -1001], [-np.inf, -np.inf], [-np.inf, 3]], np.float32)
    found = one("reduce_log_sum_exp", typed("fp32", 4), x, x_type=typed("fp32", 4, 2), axes=[1])
    np.testing.assert_allclose(found, [1001.3132617, -999.6867383, -np.inf, 3], rtol=1e-6)


@pytest.mark.parametrize("op", ["reduce_argmax", "reduce_argmin"])
@pytest.mark.parametrize("axis", [None, 0, 1, -2])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int32"])
def test_index(op: str, axis: int | None, keep: bool, dtype: str) -> None:
    x = RNG.integers(0, 4, (2, 5, 3)).astype(np.int32 if dtype == "int32" else np.float32)  # with ties
    oracle = np.argmax if op == "reduce_argmax" else np.argmin
    expected = oracle(x, axis=-1 if axis is None else axis, keepdims=keep)
    inputs: dict[str, Any] = {"keep_dims": keep} | ({} if axis is None else {"axis": axis})
    found = one(op, typed("int32", *expected.shape), x, x_type=typed(dtype, *x.shape), **inputs)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


def test_index_of_another_dtype() -> None:
    x = np.array([1, 3, 2], np.float32)
    found = one("reduce_argmax", typed("uint16"), x, x_type=typed("fp32", 3), output_dtype="UINT16")
    assert found.dtype == np.uint16
    assert found == 1
    with pytest.raises(UnsupportedOpsError, match="output_dtype 'int4'"):
        one("reduce_argmax", typed("int32"), x, x_type=typed("fp32", 3), output_dtype="int4")


def test_fp16_is_rounded_once() -> None:
    """60000 + 60000 is beyond fp16, and their mean is not."""
    x = np.array([60000, 60000], np.float16)
    program = function(
        {"x": typed("fp16", 2)},
        [
            operation("reduce_mean", "mean", typed("fp16"), x=Ref("x")),
            operation("reduce_sum", "sum", typed("fp16"), x=Ref("x")),
        ],
        "mean",
        "sum",
    )
    found = run(program, x=x)
    assert found["mean"] == 60000
    assert found["sum"] == np.inf
