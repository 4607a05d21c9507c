"""Pools against torch, and against a plain loop where torch has no such option."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coremlops.errors import UnsupportedOpsError
from tests.lower.programs import Array, one, typed

RNG = np.random.default_rng(4)


def run_pool(kind: str, x: Array, shape: tuple[int, ...], **inputs: Any) -> Array:
    return one(kind, typed("fp32", *shape), x, x_type=typed("fp32", *x.shape), **inputs)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize(
    ("kernel", "stride", "pad"),
    [((2, 2), (2, 2), 0), ((3, 3), (2, 2), 1), ((3, 3), (2, 2), 0), ((4, 3), (3, 2), 1), ((5, 3), (1, 2), 0)],
)
@pytest.mark.parametrize("kind", ["max_pool", "avg_pool", "avg_pool without padding"])
def test_like_torch(
    kind: str, kernel: tuple[int, int], stride: tuple[int, int], pad: int, ceil: bool
) -> None:
    x = RNG.standard_normal((1, 2, 8, 9)).astype(np.float32)
    tensor = torch.from_numpy(x)
    extra: dict[str, Any] = {}
    if kind == "max_pool":
        expected = F.max_pool2d(tensor, kernel, stride, pad, ceil_mode=ceil).numpy()
    else:
        excluded = kind != "avg_pool"
        extra["exclude_padding_from_average"] = excluded
        expected = F.avg_pool2d(tensor, kernel, stride, pad, ceil, count_include_pad=not excluded).numpy()
    found = run_pool(
        kind.split()[0],
        x,
        expected.shape,
        kernel_sizes=list(kernel),
        strides=list(stride),
        pad_type="custom",
        pad=[pad] * 4,
        ceil_mode=ceil,
        **extra,
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "pads"),
    [
        ("max_pool", (0, 1, 2, 1)),
        ("avg_pool", (0, 1, 2, 1)),
        ("max_pool", (3, 0, 0, 4)),
    ],  # as wide as its window
)
def test_uneven_padding(kind: str, pads: tuple[int, int, int, int]) -> None:
    x = RNG.standard_normal((1, 1, 5, 6)).astype(np.float32)
    fill = -np.inf if kind == "max_pool" else 0
    padded = np.pad(x[0, 0], (pads[:2], pads[2:]), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))[::2, ::2]
    expected = (windows.max((2, 3)) if kind == "max_pool" else windows.mean((2, 3)))[None, None]
    found = run_pool(
        kind, x, expected.shape, kernel_sizes=[3, 3], strides=[2, 2], pad_type="custom", pad=list(pads)
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("excluded", [False, True])
def test_same_padding(excluded: bool) -> None:
    x = np.ones((1, 1, 4, 4), np.float32)
    found = run_pool(
        "avg_pool",
        x,
        (1, 1, 4, 4),
        kernel_sizes=[2, 2],
        pad_type="same",
        exclude_padding_from_average=excluded,
    )
    expected = np.ones((4, 4), np.float32)
    if not excluded:
        expected[3, :] = expected[:, 3] = 0.5
        expected[3, 3] = 0.25
    np.testing.assert_allclose(found[0, 0], expected)


@pytest.mark.parametrize("axes", [1, 3])
def test_one_and_three_axes(axes: int) -> None:
    x = RNG.standard_normal((1, 2, *[6] * axes)).astype(np.float32)
    pool = F.max_pool1d if axes == 1 else F.max_pool3d
    expected = pool(torch.from_numpy(x), 2).numpy()
    found = run_pool(
        "max_pool", x, expected.shape, kernel_sizes=[2] * axes, strides=[2] * axes, pad_type="valid"
    )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("excluded", [False, True])
def test_a_mean_with_padding_as_wide_as_its_window(excluded: bool) -> None:
    with pytest.raises(UnsupportedOpsError, match="as wide as its window"):
        run_pool(
            "avg_pool",
            np.ones((1, 1, 4, 4), np.float32),
            (1, 1, 7, 7),
            kernel_sizes=[2, 2],
            pad_type="custom",
            pad=[2, 2, 2, 2],
            exclude_padding_from_average=excluded,
        )


def test_a_window_beyond_the_input() -> None:
    with pytest.raises(UnsupportedOpsError, match="a window that lies beyond all 9 elements"):
        run_pool(
            "max_pool",
            np.ones((1, 1, 9), np.float32),
            (1, 1, 4),
            kernel_sizes=[2],
            strides=[3],
            pad_type="valid",
            ceil_mode=True,
        )
