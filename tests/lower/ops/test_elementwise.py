"""Activations and elementwise ops against NumPy. Tolerance: 1e-6 for the transcendental ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Ref
from coremlops.errors import UnsupportedOpsError
from tests.lower.programs import Array, function, one, operation, run, typed

RNG = np.random.default_rng(5)


def sigmoid(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-x))
    return result


def softmax(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    result: Array = powers / powers.sum(axis, keepdims=True)
    return result


UNARY: list[tuple[str, dict[str, Any], Callable[[Array], Array]]] = [
    ("relu", {}, lambda x: np.maximum(x, 0)),
    ("relu6", {}, lambda x: np.clip(x, 0, 6)),
    ("leaky_relu", {"alpha": 0.1}, lambda x: np.where(x >= 0, x, x * np.float32(0.1))),
    ("sigmoid", {}, sigmoid),
    ("silu", {}, lambda x: x * sigmoid(x)),
    ("tanh", {}, np.tanh),
    ("softmax", {}, lambda x: softmax(x, -1)),
    ("softmax", {"axis": 1}, lambda x: softmax(x, 1)),
    ("clip", {"alpha": -0.5, "beta": 0.25}, lambda x: np.clip(x, -0.5, 0.25)),
    ("identity", {}, lambda x: x),
]


@pytest.mark.parametrize(("op", "inputs", "oracle"), UNARY, ids=[f"{op} {inputs}" for op, inputs, _ in UNARY])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 1), (7, 2)])
def test_unary(
    op: str, inputs: dict[str, Any], oracle: Callable[[Array], Array], shape: tuple[int, ...]
) -> None:
    x = (RNG.standard_normal(shape) * 4).astype(np.float32)
    np.testing.assert_allclose(one(op, typed("fp32", *shape), x, **inputs), oracle(x), atol=1e-6, rtol=1e-6)
    half = x.astype(np.float16)
    found = one(op, typed("fp16", *shape), half, **inputs)
    expected = oracle(half.astype(np.float32))
    # rounded once: within a unit in the last place of fp16; ONNX Runtime's sigmoid is good to 1e-7 absolute
    unit = np.spacing(np.abs(expected).astype(np.float16))
    assert (np.abs(found - expected) <= unit + 1e-7 * (1 + np.abs(half)) ** 2).all()
    np.testing.assert_array_equal(found, found.astype(np.float16))


BINARY: list[tuple[str, Callable[..., Array]]] = [
    ("add", np.add),
    ("sub", np.subtract),
    ("mul", np.multiply),
    ("real_div", np.divide),
    ("maximum", np.maximum),
    ("minimum", np.minimum),
]


@pytest.mark.parametrize(("op", "oracle"), BINARY, ids=[op for op, _ in BINARY])
@pytest.mark.parametrize(
    "shapes", [((2, 3), (2, 3)), ((2, 3), ()), ((2, 1, 3), (4, 1)), ((1, 3, 2, 2), (1, 3, 1, 1))]
)
def test_binary_broadcasts(
    op: str, oracle: Callable[..., Array], shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    x, y = (RNG.standard_normal(shape).astype(np.float32) for shape in shapes)
    expected = oracle(x, y)
    program = function(
        {"x": typed("fp32", *x.shape), "y": typed("fp32", *y.shape)},
        [operation(op, "z", typed("fp32", *expected.shape), x=Ref("x"), y=Ref("y"))],
    )
    np.testing.assert_array_equal(run(program, x=x, y=np.asarray(y))["z"], expected)


@pytest.mark.parametrize("op", ["add", "sub", "mul", "maximum", "minimum"])
def test_binary_on_integers(op: str) -> None:
    x, y = np.array([1, -5, 7], np.int32), np.array([3, 2, -9], np.int32)
    found = one(op, typed("int32", 3), x, y=y)
    np.testing.assert_array_equal(found, dict(BINARY)[op](x, y))
    assert found.dtype == np.int32


def test_a_division_of_integers_is_not_supported_yet() -> None:
    with pytest.raises(UnsupportedOpsError, match="a division of integers"):
        one("real_div", typed("int32", 3), np.ones(3, np.int32), y=np.ones(3, np.int32))


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("int32", np.array([-1, 0, 0, 1, 2, 300], np.int32)),  # towards zero
        ("bool", np.array([True, True, False, True, True, True])),
        ("fp32", np.array([-1.7, -0.2, 0, 1.5, 2.9, 300], np.float32)),
    ],
)
def test_cast_from_float(to: str, expected: Array) -> None:
    x = np.array([-1.7, -0.2, 0, 1.5, 2.9, 300], np.float32)
    found = one("cast", typed(to, 6), x, x_type=typed("fp32", 6), dtype=to)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_cast_from_integers_and_bools() -> None:
    x = np.array([0, 1, -3], np.int32)
    np.testing.assert_array_equal(
        one("cast", typed("fp32", 3), x, x_type=typed("int32", 3), dtype="fp32"), [0, 1, -3]
    )
    flags = np.array([True, False, True])
    np.testing.assert_array_equal(
        one("cast", typed("int32", 3), flags, x_type=typed("bool", 3), dtype="int32"), [1, 0, 1]
    )


def test_a_cast_to_an_unknown_type() -> None:
    with pytest.raises(UnsupportedOpsError, match=r"cast \(y_op\): to 'int4'"):
        one("cast", typed("int32", 3), np.ones(3, np.float32), x_type=typed("fp32", 3), dtype="int4")
