"""Unary ops against NumPy and torch in double.

Tolerance in float32: 1e-6 of the result and 1e-6 absolute, for ONNX Runtime approximates tanh and erf to a
few 1e-7. In fp16: half a unit in the last place and that error.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from coremlops.dialects.mil import Ref
from coremlops.errors import UnsupportedOpsError
from tests.lower.programs import Array, function, one, operation, run, typed

RNG = np.random.default_rng(5)


def erf(x: Array) -> Array:
    result: Array = torch.erf(torch.as_tensor(x)).numpy()
    return result


# op, inputs, oracle, the smallest and the greatest input
CASES: list[tuple[str, dict[str, Any], Callable[[Array], Array], float, float]] = [
    ("abs", {}, np.abs, -5, 5),
    ("acos", {}, np.arccos, -1, 1),
    ("asin", {}, np.arcsin, -1, 1),
    ("atan", {}, np.arctan, -50, 50),
    ("atanh", {}, np.arctanh, -0.99, 0.99),
    ("ceil", {}, np.ceil, -5, 5),
    ("clip", {"alpha": -0.5, "beta": 0.25}, lambda x: np.clip(x, -0.5, 0.25), -1, 1),
    ("clip", {"alpha": 0.5, "beta": 0.25}, lambda x: np.full_like(x, 0.25), -1, 1),
    ("cos", {}, np.cos, -20, 20),
    ("cosh", {}, np.cosh, -5, 5),
    ("erf", {}, erf, -3, 3),
    ("exp", {}, np.exp, -9, 9),
    ("exp2", {}, np.exp2, -9, 9),
    ("floor", {}, np.floor, -5, 5),
    ("identity", {}, lambda x: x, -5, 5),
    ("inverse", {"epsilon": 0.5}, lambda x: 1 / (x + 0.5), 0.1, 5),
    ("inverse", {"epsilon": 0.0}, lambda x: 1 / x, -5, -0.1),
    ("log", {"epsilon": 0.5}, lambda x: np.log(x + 0.5), 0, 9),
    ("log", {}, np.log, 0.01, 9),
    ("round", {}, np.round, -5, 5),
    ("rsqrt", {"epsilon": 0.5}, lambda x: 1 / np.sqrt(x + 0.5), 0, 9),
    ("rsqrt", {}, lambda x: 1 / np.sqrt(x), 0.1, 9),
    ("sign", {}, np.sign, -5, 5),
    ("sin", {}, np.sin, -20, 20),
    ("sinh", {}, np.sinh, -5, 5),
    ("sqrt", {}, np.sqrt, 0, 9),
    ("square", {}, np.square, -9, 9),
    ("tan", {}, np.tan, -1.5, 1.5),
    ("tanh", {}, np.tanh, -9, 9),
    ("threshold", {"alpha": 0.25}, lambda x: np.maximum(x, 0.25), -1, 1),
]


@pytest.mark.parametrize(
    ("op", "inputs", "oracle", "low", "high"), CASES, ids=[f"{op} {i}" for op, i, *_ in CASES]
)
@pytest.mark.parametrize("shape", [(2, 3, 4), (1,), (), (1, 2, 3, 2, 2), (0, 2)])
def test_floats(
    op: str,
    inputs: dict[str, Any],
    oracle: Callable[[Array], Array],
    low: float,
    high: float,
    shape: tuple[int, ...],
) -> None:
    x = np.asarray(RNG.uniform(low, high, shape), np.float32)
    found = one(op, typed("fp32", *shape), x, **inputs)
    np.testing.assert_allclose(found, oracle(x.astype(np.float64)), rtol=1e-6, atol=1e-6)
    half = x.astype(np.float16)
    found = one(op, typed("fp16", *shape), half, **inputs)
    expected = oracle(half.astype(np.float64))
    unit = np.spacing(np.abs(expected).astype(np.float16)).astype(np.float64)
    assert (np.abs(found - expected) <= unit / 2 + 1e-6 * (1 + np.abs(expected))).all()
    np.testing.assert_array_equal(found, found.astype(np.float16))


def test_halves_round_to_the_even_neighbour() -> None:
    x = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32)
    np.testing.assert_array_equal(one("round", typed("fp32", 6), x), [-2, -2, 0, 0, 2, 2])


@pytest.mark.parametrize("op", ["floor", "sign", "ceil", "round"])
def test_what_jumps_takes_a_rounded_value(op: str) -> None:
    program = function(
        {"x": typed("fp16", 2), "y": typed("fp16", 2)},
        [
            operation("sub", "a", typed("fp16", 2), x=Ref("x"), y=Ref("y")),
            operation(op, "b", typed("fp16", 2), x=Ref("a")),
        ],
    )
    # 1 - 2^-13 is 1 in fp16; 2^-15 - 2^-24 is one of its small numbers
    x, y = np.array([1, 2.0**-15], np.float32), np.array([2.0**-13, 2.0**-24], np.float32)
    rounded = (x - y).astype(np.float16).astype(np.float32)
    oracles: dict[str, Callable[[Array], Array]] = {
        "floor": np.floor,
        "sign": np.sign,
        "ceil": np.ceil,
        "round": np.round,
    }
    expected = oracles[op](rounded)
    np.testing.assert_array_equal(run(program, x=x, y=y)["b"], expected)


def test_the_epsilon_of_a_logarithm_keeps_zero_finite_in_fp32_alone() -> None:
    zero = np.zeros(1, np.float32)
    np.testing.assert_allclose(one("log", typed("fp32", 1), zero), np.log(np.float64(1e-45)), rtol=5e-3)
    np.testing.assert_array_equal(one("log", typed("fp16", 1), zero), [-np.inf])


def test_the_default_epsilons() -> None:
    zero = np.zeros(1, np.float32)
    np.testing.assert_allclose(one("inverse", typed("fp32", 1), zero), [1e4], rtol=1e-6)
    np.testing.assert_allclose(one("rsqrt", typed("fp32", 1), zero), [1e6], rtol=1e-6)
    # 1e-4 is 1.0001659e-4 in fp16
    expected = np.float32(1) / np.float32(np.float16(1e-4))
    np.testing.assert_array_equal(one("inverse", typed("fp16", 1), zero), [np.float16(expected)])
    np.testing.assert_array_equal(one("rsqrt", typed("fp16", 1), zero), [np.inf])


@pytest.mark.parametrize(
    ("op", "inputs", "expected"),
    [
        ("abs", {}, [3, 0, 2, 5]),
        ("sign", {}, [-1, 0, 1, 1]),
        ("square", {}, [9, 0, 4, 25]),
        ("exp2", {}, [0, 1, 4, 32]),
        ("threshold", {"alpha": np.int32(1)}, [1, 1, 2, 5]),
        ("identity", {}, [-3, 0, 2, 5]),
    ],
)
def test_integers(op: str, inputs: dict[str, Any], expected: list[int]) -> None:
    found = one(op, typed("int32", 4), np.array([-3, 0, 2, 5], np.int32), **inputs)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("shape", [(3,), ()])
def test_logical_not(shape: tuple[int, ...]) -> None:
    x = np.resize([True, False, True], shape)
    np.testing.assert_array_equal(one("logical_not", typed("bool", *shape), x), ~x)


DTYPES = ["fp32", "fp16", "int32", "int16", "uint16", "int8", "uint8", "bool"]
NUMPY = {"fp32": np.float32, "fp16": np.float16, "bool": np.bool_} | {
    name: np.dtype(name) for name in DTYPES[2:7]
}


@pytest.mark.parametrize("to", DTYPES)
@pytest.mark.parametrize("of", DTYPES)
def test_cast(of: str, to: str) -> None:
    values = {"uint8": [0, 1, 100, 255], "uint16": [0, 1, 300, 65535], "bool": [0, 1, 1, 0]}
    x = np.array(values.get(of, [-3, 0, 2, 100]), NUMPY[of])
    found = one("cast", typed(to, 4), x, x_type=typed(of, 4), dtype=to)
    assert found.dtype == (np.float32 if to == "fp16" else NUMPY[to])
    with np.errstate(over="ignore"):  # 65535 is too much for fp16
        expected = x.astype(np.int32).astype(NUMPY[to]) if x.dtype.kind == "f" else x.astype(NUMPY[to])
    np.testing.assert_array_equal(found, expected.astype(found.dtype))


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("int32", [-1, 0, 0, 1, 2, 300]),  # towards zero
        ("uint8", [255, 0, 0, 1, 2, 44]),
        ("int8", [-1, 0, 0, 1, 2, 44]),
        ("bool", [True, True, False, True, True, True]),
    ],
)
def test_cast_of_fractions(to: str, expected: list[Any]) -> None:
    x = np.array([-1.7, -0.2, 0, 1.5, 2.9, 300], np.float32)
    found = one("cast", typed(to, 6), x, x_type=typed("fp32", 6), dtype=to)
    np.testing.assert_array_equal(found, np.array(expected, NUMPY[to]))


def test_a_cast_to_an_unknown_type() -> None:
    with pytest.raises(UnsupportedOpsError, match=r"cast \(y_op\): to 'int4'"):
        one("cast", typed("int32", 3), np.ones(3, np.float32), x_type=typed("fp32", 3), dtype="int4")
