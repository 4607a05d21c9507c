"""Normalizations against torch and NumPy in double.

Tolerance: float32 sums in another order, 1e-5 of values near 1; in fp16 a unit in the last place.
"""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coremlops.dialects.mil import Ref
from coremlops.errors import UnsupportedOpsError
from tests.lower.programs import Array, function, one, operation, run, typed

RNG = np.random.default_rng(6)


def both(op: str, x: Array, expected: Array, **inputs: Any) -> None:
    """`op` in float32, with and without known sizes, and in fp16."""
    found = one(op, typed("fp32", *x.shape), x, **inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    open_type = typed("fp32", *[None] * x.ndim)
    found = one(op, open_type, x, x_type=open_type, **inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    found = one(op, typed("fp16", *x.shape), x, **inputs)
    np.testing.assert_allclose(found, expected, atol=4e-3, rtol=2e-3)  # x is rounded to fp16, too
    np.testing.assert_array_equal(found, found.astype(np.float16))


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 4, 5), (1, 3, 2, 2, 2)])
@pytest.mark.parametrize("affine", [True, False])
def test_batch_norm(shape: tuple[int, ...], affine: bool) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    mean, gamma, beta = (RNG.standard_normal(3).astype(np.float32) for _ in range(3))
    variance = RNG.random(3).astype(np.float32) + np.float32(0.5)
    wide = (slice(None), *[None] * (len(shape) - 2))
    expected = (x - mean[wide]) / np.sqrt(variance[wide] + np.float32(1e-3))
    extra: dict[str, Any] = {}
    if affine:
        expected = expected * gamma[wide] + beta[wide]
        extra = {"gamma": gamma, "beta": beta}
    both("batch_norm", x, expected, mean=mean, variance=variance, epsilon=1e-3, **extra)


@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 4, 5), (2, 3, 2, 3, 2)])
@pytest.mark.parametrize("given", [(), ("gamma",), ("beta",), ("gamma", "beta")])
def test_instance_norm(shape: tuple[int, ...], given: tuple[str, ...]) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    extra = {name: RNG.standard_normal(3).astype(np.float32) for name in given}
    tensors = {name: torch.from_numpy(value).double() for name, value in extra.items()}
    expected = F.instance_norm(
        torch.from_numpy(x).double(), weight=tensors.get("gamma"), bias=tensors.get("beta"), eps=1e-2
    )
    both("instance_norm", x, expected.numpy(), epsilon=1e-2, **extra)


def layer_norm(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    x = x.astype(np.float64)
    result: Array = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)
    return result


@pytest.mark.parametrize("axes", [None, [-1], [2, 3], [-1, -2], [1], [0, 2], [3, 1], []])
@pytest.mark.parametrize("given", [(), ("gamma",), ("beta",), ("gamma", "beta")])
def test_layer_norm(axes: list[int] | None, given: tuple[str, ...]) -> None:
    x = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
    over = tuple(sorted(axis % 4 for axis in (range(4) if axes is None else axes)))
    extra: dict[str, Any] = {
        name: RNG.standard_normal([x.shape[axis] for axis in over]).astype(np.float32) for name in given
    }
    expected = layer_norm(x, over, 1e-2)
    shape = [size if axis in over else 1 for axis, size in enumerate(x.shape)]
    expected = expected * extra.get("gamma", np.ones(())).reshape(shape if "gamma" in given else ())
    expected = expected + extra.get("beta", np.zeros(())).reshape(shape if "beta" in given else ())
    if axes is not None:
        extra["axes"] = np.array(axes, np.int32)
    both("layer_norm", x, expected, epsilon=1e-2, **extra)


def test_layer_norm_far_from_zero() -> None:
    """A mean that is 1,000 deviations away costs digits, but not all of them."""
    x = (RNG.standard_normal((4, 256)) * 0.1 + 100).astype(np.float32)
    for axes in ([1], [0, 1]):
        found = one("layer_norm", typed("fp32", 4, 256), x, axes=axes)
        np.testing.assert_allclose(found, layer_norm(x, tuple(axes), 1e-5), atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 3, 2, 4), (1, 2, 2, 3, 4)])
def test_l2_norm(shape: tuple[int, ...]) -> None:
    x = RNG.standard_normal(shape).astype(np.float32)
    expected = x / np.sqrt((x.astype(np.float64) ** 2).sum((-3, -2, -1), keepdims=True) + 0.1)
    both("l2_norm", x, expected, epsilon=0.1)


@pytest.mark.parametrize("shape", [(2, 5, 4), (1, 4, 3, 2), (1, 3, 2, 2, 2), (1, 1, 3)])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9])
def test_local_response_norm(shape: tuple[int, ...], size: int) -> None:
    x = (RNG.standard_normal(shape) * 3).astype(np.float32)
    expected = F.local_response_norm(torch.from_numpy(x).double(), size, alpha=0.5, beta=0.75, k=2.0)
    both("local_response_norm", x, expected.numpy(), size=size, alpha=0.5, beta=0.75, k=2.0)


def test_local_response_norm_over_no_channel() -> None:
    with pytest.raises(UnsupportedOpsError, match="size 0"):
        one("local_response_norm", typed("fp32", 1, 2, 3), np.ones((1, 2, 3), np.float32), size=0)


def test_defaults() -> None:
    x = (RNG.standard_normal((1, 3, 4)) * 1e-3).astype(np.float32)
    squares = (x.astype(np.float64) ** 2).sum()
    found = one("l2_norm", typed("fp32", 1, 3, 4), x)
    np.testing.assert_allclose(found, x / np.sqrt(squares + 1e-6), rtol=1e-5)
    found = one("layer_norm", typed("fp32", 1, 3, 4), x)
    np.testing.assert_allclose(found, layer_norm(x, (0, 1, 2), 1e-5), atol=1e-6)
    found = one("instance_norm", typed("fp32", 1, 3, 4), x)
    np.testing.assert_allclose(found, layer_norm(x, (2,), 1e-5), atol=1e-6)
    found = one("local_response_norm", typed("fp32", 1, 3, 4), x * 1e4, size=3)
    expected = F.local_response_norm(torch.from_numpy(x).double() * 1e4, 3)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5)


def test_fp16_is_rounded_once() -> None:
    """300^2 is beyond fp16; the steps are float32."""
    x = np.full((1, 2, 2), 300, np.float16)
    program = function(
        {"x": typed("fp16", 1, 2, 2)}, [operation("l2_norm", "y", typed("fp16", 1, 2, 2), x=Ref("x"))]
    )
    np.testing.assert_array_equal(run(program, x=x)["y"], np.full((1, 2, 2), 0.5))
