"""Activations against NumPy and torch in double.

Tolerance in float32: 2e-6 of the result and 1e-6 absolute, for ONNX Runtime approximates tanh, sigmoid and
erf to a few 1e-7. In fp16: half a unit in the last place and that error.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from coremlops.dialects.mil import Ref
from coremlops.errors import UnsupportedOpsError
from tests.lower.programs import Array, function, one, onnx_ops, operation, run, typed

RNG = np.random.default_rng(5)
ALPHA, BETA = np.array([0.1, -0.5, 2], np.float32), np.array([1.5, 0.3, -1], np.float32)


def sigmoid(x: Array) -> Array:
    result: Array = torch.sigmoid(torch.as_tensor(x)).numpy()
    return result


def normal(x: Array) -> Array:
    result: Array = torch.special.ndtr(torch.as_tensor(x)).numpy()
    return result


def softmax(x: Array, axis: int) -> Array:
    result: Array = torch.softmax(torch.as_tensor(x), axis).numpy()
    return result


def softplus(x: Array) -> Array:
    result: Array = np.logaddexp(0, x)
    return result


def wide(values: Array, x: Array) -> Array:
    return values.reshape(-1, *[1] * (x.ndim - 2))


ANY_SHAPE: list[tuple[str, dict[str, Any], Callable[[Array], Array]]] = [
    ("relu", {}, lambda x: np.maximum(x, 0)),
    ("relu6", {}, lambda x: np.clip(x, 0, 6)),
    ("clamped_relu", {"alpha": 0.25, "beta": 1.5}, lambda x: np.minimum(np.where(x >= 0, x, x / 4), 1.5)),
    ("clamped_relu", {"alpha": -2.0, "beta": 1.5}, lambda x: np.minimum(np.where(x >= 0, x, x * -2), 1.5)),
    ("leaky_relu", {"alpha": 0.125}, lambda x: np.where(x >= 0, x, x / 8)),
    ("leaky_relu", {"alpha": -3.0}, lambda x: np.where(x >= 0, x, x * -3)),
    ("thresholded_relu", {"alpha": 1.5}, lambda x: np.where(x >= 1.5, x, 0)),
    ("elu", {"alpha": 0.5}, lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)) / 2)),
    ("linear_activation", {"alpha": -2.0, "beta": 0.5}, lambda x: x * -2 + 0.5),
    ("sigmoid", {}, sigmoid),
    ("sigmoid_hard", {"alpha": 0.25, "beta": 0.5}, lambda x: np.clip(x / 4 + 0.5, 0, 1)),
    ("silu", {}, lambda x: x * sigmoid(x)),
    ("gelu", {}, lambda x: x * normal(x)),
    ("gelu", {"mode": "EXACT"}, lambda x: x * normal(x)),
    (
        "gelu",
        {"mode": "TANH_APPROXIMATION"},
        lambda x: x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    ),
    ("gelu", {"mode": "SIGMOID_APPROXIMATION"}, lambda x: x * sigmoid(1.702 * x)),
    ("scaled_tanh", {"alpha": 1.75, "beta": -0.5}, lambda x: 1.75 * np.tanh(x * -0.5)),
    ("softplus", {}, softplus),
    ("softsign", {}, lambda x: x / (1 + np.abs(x))),
]
CHANNELS: list[tuple[str, dict[str, Any], Callable[[Array], Array]]] = [
    ("prelu", {"alpha": ALPHA}, lambda x: np.where(x > 0, x, wide(ALPHA, x) * x)),
    (
        "softplus_parametric",
        {"alpha": ALPHA, "beta": BETA},
        lambda x: wide(ALPHA, x) * softplus(wide(BETA, x) * x),
    ),
    ("softmax", {}, lambda x: softmax(x, -1)),
    ("softmax", {"axis": 1}, lambda x: softmax(x, 1)),
    ("softmax", {"axis": -3}, lambda x: softmax(x, -3)),
]


def check(op: str, inputs: dict[str, Any], oracle: Callable[[Array], Array], x: Array) -> None:
    """`op` on x in float32 and in fp16."""
    expected = oracle(x.astype(np.float64))
    found = one(op, typed("fp32", *x.shape), x, **inputs)
    np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-6)
    half = x.astype(np.float16)
    found = one(op, typed("fp16", *x.shape), half, **inputs)
    expected = oracle(half.astype(np.float64))
    unit = np.spacing(np.abs(expected).astype(np.float16)).astype(np.float64)
    assert (np.abs(found - expected) <= unit / 2 + 1e-6 * (1 + np.abs(expected))).all()
    np.testing.assert_array_equal(found, found.astype(np.float16))


@pytest.mark.parametrize(("op", "inputs", "oracle"), ANY_SHAPE, ids=[f"{op} {i}" for op, i, _ in ANY_SHAPE])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1,), (), (1, 2, 3, 2, 2)])
def test_of_any_shape(
    op: str, inputs: dict[str, Any], oracle: Callable[[Array], Array], shape: tuple[int, ...]
) -> None:
    check(op, inputs, oracle, np.asarray(RNG.standard_normal(shape) * 4, np.float32))


@pytest.mark.parametrize(
    ("op", "inputs", "oracle"), CHANNELS, ids=[f"{op} {list(i)}" for op, i, _ in CHANNELS]
)
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 2, 5), (1, 3, 1, 2, 2)])
def test_of_channels(
    op: str, inputs: dict[str, Any], oracle: Callable[[Array], Array], shape: tuple[int, ...]
) -> None:
    check(op, inputs, oracle, (RNG.standard_normal(shape) * 3).astype(np.float32))


@pytest.mark.parametrize(("op", "inputs", "oracle"), ANY_SHAPE, ids=[f"{op} {i}" for op, i, _ in ANY_SHAPE])
def test_far_from_zero(op: str, inputs: dict[str, Any], oracle: Callable[[Array], Array]) -> None:
    x = np.array([-60000, -300, -88, -20, 20, 88, 300, 60000], np.float32)
    with np.errstate(over="ignore"):
        expected = oracle(x.astype(np.float64))
    np.testing.assert_allclose(one(op, typed("fp32", 8), x, **inputs), expected, rtol=2e-6, atol=3e-6)


def test_at_the_threshold() -> None:
    x = np.array([-0.25, 0, 0.25], np.float32)
    found = one("thresholded_relu", typed("fp32", 3), x, alpha=0.25)
    np.testing.assert_array_equal(found, [0, 0, 0.25])
    found = one("thresholded_relu", typed("fp32", 3), x, alpha=-0.25)
    np.testing.assert_array_equal(found, x)


def test_a_value_that_rounds_up_to_the_threshold_reaches_it() -> None:
    program = function(
        {"x": typed("fp16", 1), "y": typed("fp16", 1)},
        [
            operation("add", "sum", typed("fp16", 1), x=Ref("x"), y=Ref("y")),
            operation("thresholded_relu", "z", typed("fp16", 1), x=Ref("sum"), alpha=np.float16(1)),
        ],
    )
    # 1 - 2^-13 is no fp16 number; 1 is the nearest
    found = run(program, x=np.array([1], np.float32), y=np.array([-(2.0**-13)], np.float32))["z"]
    np.testing.assert_array_equal(found, [1])


def test_parameters_of_another_dtype() -> None:
    x = np.array([-1, 2], np.float16)
    found = one("leaky_relu", typed("fp16", 2), x, alpha=np.float32(0.1))
    np.testing.assert_array_equal(found, np.array([-np.float32(0.1), 2]).astype(np.float16))


def test_gelu_of_an_unknown_mode() -> None:
    with pytest.raises(UnsupportedOpsError, match=r"gelu \(y_op\): mode 'FAST'"):
        one("gelu", typed("fp32", 1), np.ones(1, np.float32), mode="FAST")


def test_relu_needs_no_rounding_between() -> None:
    program = function(
        {"x": typed("fp16", 2)},
        [
            operation("add", "a", typed("fp16", 2), x=Ref("x"), y=Ref("x")),
            operation("relu6", "b", typed("fp16", 2), x=Ref("a")),
        ],
    )
    assert onnx_ops(program) == ["Cast", "Cast", "Add", "Clip", "Cast", "Cast"]
