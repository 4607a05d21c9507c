"""Products of matrices against NumPy.

Tolerance: float32 sums in another order.
"""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Ref
from coremlops.errors import UnsupportedOpsError
from tests.lower.programs import Array, function, one, operation, run, typed

RNG = np.random.default_rng(6)


@pytest.mark.parametrize("shape", [(1, 5), (4, 5), (2, 3, 5), (5,)])
@pytest.mark.parametrize("biased", [True, False])
def test_linear(shape: tuple[int, ...], biased: bool) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    weight = RNG.standard_normal((7, 5)).astype(np.float32)
    bias = RNG.standard_normal(7).astype(np.float32)
    expected = x @ weight.T + (bias if biased else 0)
    extra: dict[str, Any] = {"bias": bias} if biased else {}
    found = one(
        "linear", typed("fp32", *expected.shape), x, x_type=typed("fp32", *shape), weight=weight, **extra
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "y", "turn_x", "turn_y"),
    [
        ((2, 3), (3, 4), False, False),
        ((3, 2), (3, 4), True, False),
        ((5, 2, 3), (5, 4, 3), False, True),
        ((5, 1, 3, 2), (6, 4, 3), True, True),
        ((3,), (3, 4), False, False),
        ((2, 3), (3,), False, False),
    ],
)
@pytest.mark.parametrize("fixed", [True, False])
def test_matmul(x: tuple[int, ...], y: tuple[int, ...], turn_x: bool, turn_y: bool, fixed: bool) -> None:
    a, b = RNG.standard_normal(x).astype(np.float32), RNG.standard_normal(y).astype(np.float32)
    expected = (a.swapaxes(-1, -2) if turn_x else a) @ (b.swapaxes(-1, -2) if turn_y else b)
    inputs: dict[str, Any] = {"transpose_x": turn_x, "transpose_y": turn_y}
    types = {"x": typed("fp32", *x)} | ({} if fixed else {"y": typed("fp32", *y)})
    program = function(
        types,
        [
            operation(
                "matmul",
                "z",
                typed("fp32", *expected.shape),
                x=Ref("x"),
                y=b if fixed else Ref("y"),
                **inputs,
            )
        ],
    )
    feeds = {"x": a} if fixed else {"x": a, "y": b}
    found = run(program, **feeds)["z"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_integers() -> None:
    x, weight = np.array([[1, -2, 3]], np.int32), np.array([[4, 5, 6], [-7, 8, 9]], np.int32)
    bias = np.array([10, 20], np.int32)
    found = one("linear", typed("int32", 1, 2), x, x_type=typed("int32", 1, 3), weight=weight, bias=bias)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, x @ weight.T + bias)
    found = one("matmul", typed("int32", 1, 2), x, x_type=typed("int32", 1, 3), y=weight, transpose_y=True)
    np.testing.assert_array_equal(found, x @ weight.T)


@pytest.mark.parametrize("shape", [(2, 3), (3,), (2, 4, 3)])
def test_a_weight_of_another_dtype(shape: tuple[int, ...]) -> None:
    x = RNG.standard_normal(shape).astype(np.float16)
    weight = np.array([[4, 5, 6], [-7, 8, 9]], np.int32)
    expected = (x.astype(np.float64) @ weight.T).astype(np.float16)
    type_ = typed("fp16", *expected.shape)
    cases: dict[str, dict[str, Any]] = {
        "linear": {"weight": weight},
        "matmul": {"y": weight, "transpose_y": True},
    }
    for op, inputs in cases.items():
        found = one(op, type_, x, x_type=typed("fp16", *shape), **inputs)
        np.testing.assert_allclose(found, expected, rtol=1e-3)  # a unit in the last place of fp16
        np.testing.assert_array_equal(found, found.astype(np.float16))


def test_a_weight_known_at_run_time_alone() -> None:
    x, weight = (RNG.standard_normal(shape).astype(np.float32) for shape in ((2, 4, 3), (5, 3)))
    program = function(
        {"x": typed("fp32", None, 4, 3), "w": typed("fp32", 5, 3)},
        [operation("linear", "y", typed("fp32", None, 4, 5), x=Ref("x"), weight=Ref("w"))],
    )
    np.testing.assert_allclose(run(program, x=x, w=weight)["y"], x @ weight.T, atol=1e-5)


@pytest.mark.parametrize(
    ("equation", "x", "y"),
    [
        ("nchw,nwhu->nchu", (2, 3, 4, 5), (2, 5, 4, 6)),
        ("nchw, nwhu -> nchu", (1, 3, 4, 5), (2, 5, 1, 6)),
        ("abcd,adce->abce", (2, 3, 1, 5), (1, 5, 4, 6)),
        ("chw,whr->chr", (3, 4, 5), (5, 4, 6)),
        ("chw,whr->chr", (3, 1, 5), (5, 4, 6)),
    ],
)
@pytest.mark.parametrize("open_axes", [False, True])
def test_einsum(equation: str, x: tuple[int, ...], y: tuple[int, ...], open_axes: bool) -> None:
    a, b = RNG.standard_normal(x).astype(np.float32), RNG.standard_normal(y).astype(np.float32)
    expected = np.einsum(equation, *_broadcast(a, b))
    shapes = [(None,) * a.ndim] * 3 if open_axes else [x, y, expected.shape]
    program = function(
        {"x": typed("fp32", *shapes[0]), "y": typed("fp32", *shapes[1])},
        [operation("einsum", "z", typed("fp32", *shapes[2]), values=(Ref("x"), Ref("y")), equation=equation)],
    )
    np.testing.assert_allclose(run(program, x=a, y=b)["z"], expected, atol=1e-5)


def _broadcast(a: Array, b: Array) -> tuple[Array, Array]:
    """Axes -2 and -4 made equal."""
    shape_a, shape_b = list(a.shape), list(b.shape)
    for axis in (-2, -4)[: a.ndim - 2]:
        shape_a[axis] = shape_b[axis] = max(a.shape[axis], b.shape[axis])
    return np.broadcast_to(a, shape_a), np.broadcast_to(b, shape_b)


def test_einsum_of_three() -> None:
    x = np.ones((1, 2, 3), np.float32)
    program = function(
        {"x": typed("fp32", 1, 2, 3)},
        [
            operation(
                "einsum",
                "z",
                typed("fp32", 1),
                values=(Ref("x"), Ref("x"), Ref("x")),
                equation="abc,abc,abc->a",
            )
        ],
    )
    with pytest.raises(UnsupportedOpsError, match=r"einsum \(z_op\): 3 values"):
        run(program, x=x)
