"""Pools against torch, and against a plain loop where torch has no such option."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coremlops.errors import UnsupportedOpsError
from tests.lower.programs import Array, one, typed

RNG = np.random.default_rng(4)
LOWEST = np.finfo(np.float32).min  # ONNX Runtime's maximum of nothing


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


def pooled(kind: str, x: Array, pads: list[int], kernel: int, stride: int, excluded: bool) -> Array:
    """One axis, window by window."""
    line = np.full(pads[0] + len(x) + pads[1], LOWEST if kind == "max_pool" else 0, np.float64)
    line[pads[0] : pads[0] + len(x)] = x
    counted = np.zeros(len(line))
    counted[pads[0] : pads[0] + len(x)] = 1
    found = []
    for start in range(0, len(line) - kernel + 1, stride):
        part = line[start : start + kernel]
        match kind:
            case "max_pool":
                found.append(part.max())
            case "l2_pool":
                found.append(np.sqrt((part**2).sum()))
            case _:
                count = counted[start : start + kernel].sum() if excluded else kernel
                found.append(part.sum() / max(count, 1))
    return np.array(found)


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool", "avg_pool without padding", "l2_pool"])
@pytest.mark.parametrize("open_axes", [True, False])
@pytest.mark.parametrize(
    ("pad_type", "kernel", "stride"),
    [
        ("valid", 3, 2),
        ("same", 2, 1),
        ("same", 3, 2),
        ("same", 2, 3),
        ("same_lower", 4, 3),
        ("SAME_LOWER", 2, 1),
        ("custom", 2, 2),  # the padding is wider than the window
        ("custom", 5, 1),
    ],
)
def test_one_axis(kind: str, pad_type: str, kernel: int, stride: int, open_axes: bool) -> None:
    kind, excluded = kind.split()[0], kind.endswith("padding")
    for size in (7, 8):
        x = RNG.standard_normal((1, 1, size)).astype(np.float32)
        pads = {"valid": [0, 0], "custom": [3, 2]}.get(pad_type)
        if pads is None:
            total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
            pads = [total // 2, total - total // 2]
            pads = pads[::-1] if pad_type.lower() == "same_lower" else pads
        expected = pooled(kind, x[0, 0], pads, kernel, stride, excluded)
        inputs: dict[str, Any] = {"kernel_sizes": [kernel], "strides": [stride], "pad_type": pad_type}
        inputs |= {"pad": [3, 2]} if pad_type == "custom" else {}
        inputs |= {"exclude_padding_from_average": excluded} if kind == "avg_pool" else {}
        shapes = [(1, 1, None)] * 2 if open_axes else [(1, 1, len(expected)), x.shape]
        found = one(kind, typed("fp32", *shapes[0]), x, x_type=typed("fp32", *shapes[1]), **inputs)
        np.testing.assert_allclose(found[0, 0], expected, atol=1e-5)


@pytest.mark.parametrize("kind", ["max_pool", "avg_pool", "avg_pool without padding"])
@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (4, 3, 1), (3, 3, 1), (3, 1, 1)])
def test_ceil_mode_of_open_axes(kind: str, kernel: int, stride: int, pad: int) -> None:
    excluded = kind.endswith("padding")
    for size in (7, 8, 9):
        x = RNG.standard_normal((1, 2, size, size + 1)).astype(np.float32)
        tensor = torch.from_numpy(x)
        if kind == "max_pool":
            expected = F.max_pool2d(tensor, kernel, stride, pad, ceil_mode=True)
        else:
            expected = F.avg_pool2d(tensor, kernel, stride, pad, True, count_include_pad=not excluded)
        free = typed("fp32", 1, 2, None, None)
        extra: dict[str, Any] = {"exclude_padding_from_average": excluded}
        found = one(
            kind.split()[0],
            free,
            x,
            x_type=free,
            kernel_sizes=[kernel] * 2,
            strides=[stride] * 2,
            pad_type="custom",
            pad=[pad] * 4,
            ceil_mode=True,
            **({} if kind == "max_pool" else extra),
        )
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("axes", [1, 2])
def test_l2_pool(axes: int) -> None:
    x = (RNG.standard_normal((2, 3, *[6, 7][:axes])) * 100).astype(np.float32)
    window = 3 if axes == 1 else (3, 2)
    norm = F.lp_pool1d if axes == 1 else F.lp_pool2d
    expected = norm(torch.from_numpy(np.abs(x)).double(), 2, window, 2).numpy()
    sizes = [3] if axes == 1 else [3, 2]
    found = run_pool("l2_pool", x, expected.shape, kernel_sizes=sizes, strides=[2] * axes, pad_type="valid")
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_l2_pool_in_fp16_is_rounded_once() -> None:
    x = np.full((1, 1, 4), 300, np.float16)  # 300^2 is beyond fp16
    found = one(
        "l2_pool",
        typed("fp16", 1, 1, 1),
        x,
        x_type=typed("fp16", 1, 1, 4),
        kernel_sizes=[4],
        pad_type="valid",
    )
    np.testing.assert_array_equal(found, [[[600]]])


def test_a_window_of_another_rank() -> None:
    with pytest.raises(UnsupportedOpsError, match="over 1 spatial axes"):
        run_pool("max_pool", np.ones((1, 1, 4), np.float32), (1, 1, 4), kernel_sizes=[2, 2], pad_type="valid")


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
