"""Products of matrices, normalization and reductions against NumPy.

Tolerance: float32 sums in another order.
"""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Ref
from tests.lower.programs import function, one, operation, run, typed

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


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 4, 5), (1, 3, 2, 2, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape: tuple[int, ...], affine: bool) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    mean, gamma, beta = (RNG.standard_normal(3).astype(np.float32) for _ in range(3))
    variance = RNG.random(3).astype(np.float32) + np.float32(0.1)
    wide = (slice(None), *[None] * (len(shape) - 2))
    expected = (x - mean[wide]) / np.sqrt(variance[wide] + np.float32(1e-3))
    extra: dict[str, Any] = {}
    if affine:
        expected = expected * gamma[wide] + beta[wide]
        extra = {"gamma": gamma, "beta": beta}
    found = one("batch_norm", typed("fp32", *shape), x, mean=mean, variance=variance, epsilon=1e-3, **extra)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("op", ["reduce_mean", "reduce_sum", "reduce_max"])
@pytest.mark.parametrize("axes", [[-1], [2, 3], [-2, -1], [0, 1, 2, 3], [], None])
@pytest.mark.parametrize("keep", [True, False])
def test_reductions(op: str, axes: list[int] | None, keep: bool) -> None:
    x = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    oracle: Any = {"reduce_mean": np.mean, "reduce_sum": np.sum, "reduce_max": np.max}[op]
    expected = np.asarray(oracle(x, axis=None if axes is None else tuple(axes), keepdims=keep))
    inputs: dict[str, Any] = {"keep_dims": keep}
    if axes is not None:
        inputs["axes"] = np.array(axes, np.int32)
    found = one(op, typed("fp32", *expected.shape), x, x_type=typed("fp32", *x.shape), **inputs)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)
