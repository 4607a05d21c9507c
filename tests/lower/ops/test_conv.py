"""Convolutions against torch. Tolerance: float32 sums in another order, 1e-5 of values near 1."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coremlops.dialects.mil import Ref
from coremlops.errors import ModelFormatError
from tests.lower.programs import function, one, operation, run, typed

RNG = np.random.default_rng(3)

CASES: list[dict[str, Any]] = [
    {},
    {"strides": [2, 1]},
    {"dilations": [1, 2]},
    {"groups": 2},
    {"groups": 4, "pad_type": "custom", "pad": [1, 2, 0, 3]},
    {"pad_type": "same"},
    {"pad_type": "same", "strides": [2, 3]},
    {"pad_type": "same_lower", "strides": [2, 2], "dilations": [2, 1]},
    {"pad_type": "valid", "pad": [9, 9, 9, 9]},  # pad counts with custom alone
]


def reference(x: Any, weight: Any, bias: Any, case: dict[str, Any]) -> Any:
    """torch, with Apple's padding written out."""
    strides, dilations = case.get("strides", [1, 1]), case.get("dilations", [1, 1])
    pads = case.get("pad", [0] * 4) if case.get("pad_type") == "custom" else [0] * 4
    if case.get("pad_type", "").startswith("same"):
        pads = []
        for size, kernel, stride, dilation in zip(
            x.shape[2:], weight.shape[2:], strides, dilations, strict=True
        ):
            total = max(0, (-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size)
            less, more = total // 2, total - total // 2
            pads += [less, more] if case["pad_type"] == "same" else [more, less]
    padded = F.pad(torch.from_numpy(x), (pads[2], pads[3], pads[0], pads[1]))
    bias = None if bias is None else torch.from_numpy(bias)
    groups = case.get("groups", 1)
    return F.conv2d(padded, torch.from_numpy(weight), bias, strides, 0, dilations, groups).numpy()


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("biased", [True, False])
def test_conv_2d(case: dict[str, Any], biased: bool) -> None:
    x = RNG.standard_normal((2, 4, 9, 11)).astype(np.float32)
    weight = RNG.standard_normal((8, 4 // case.get("groups", 1), 3, 2)).astype(np.float32)
    bias = RNG.standard_normal(8).astype(np.float32) if biased else None
    expected = reference(x, weight, bias, case)
    inputs = {**case, "weight": weight} | ({"bias": bias} if biased else {})
    found = one("conv", typed("fp32", *expected.shape), x, x_type=typed("fp32", *x.shape), **inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("axes", [1, 3])
def test_conv_1d_and_3d(axes: int) -> None:
    x = RNG.standard_normal((1, 2, *range(5, 5 + axes))).astype(np.float32)
    weight = RNG.standard_normal((3, 2, *[3] * axes)).astype(np.float32)
    conv = F.conv1d if axes == 1 else F.conv3d
    expected = conv(torch.from_numpy(x), torch.from_numpy(weight), stride=2, padding=1).numpy()
    found = one(
        "conv",
        typed("fp32", *expected.shape),
        x,
        x_type=typed("fp32", *x.shape),
        weight=weight,
        strides=[2] * axes,
        pad_type="custom",
        pad=[1] * 2 * axes,
    )
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


def test_fp16_is_summed_in_float32_and_rounded_once() -> None:
    x = RNG.standard_normal((1, 8, 6, 6)).astype(np.float16)
    weight = RNG.standard_normal((4, 8, 3, 3)).astype(np.float16)
    exact = F.conv2d(torch.from_numpy(x).double(), torch.from_numpy(weight).double()).numpy()
    found = one("conv", typed("fp16", *exact.shape), x, x_type=typed("fp16", *x.shape), weight=weight)
    np.testing.assert_array_equal(found, found.astype(np.float16))
    # half a unit in the last place of fp16, and a little for float32's own sums
    assert (np.abs(found - exact) <= np.spacing(np.abs(exact).astype(np.float16)) * 0.501 + 1e-5).all()


def test_same_padding_over_sizes_known_at_run_time_alone() -> None:
    weight = RNG.standard_normal((2, 2, 3, 3)).astype(np.float32)
    program = function(
        {"x": typed("fp32", 1, 2, None, None)},
        [
            operation(
                "conv",
                "y",
                typed("fp32", 1, 2, None, None),
                x=Ref("x"),
                weight=weight,
                pad_type="same",
                strides=[2, 2],
            )
        ],
    )
    for size in (7, 8):
        x = RNG.standard_normal((1, 2, size, size)).astype(np.float32)
        expected = reference(x, weight, None, {"pad_type": "same", "strides": [2, 2]})
        np.testing.assert_allclose(run(program, x=x)["y"], expected, atol=1e-5)


def test_numbers_that_do_not_fit_the_kernel() -> None:
    x, weight = np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 1, 2, 2), np.float32)
    with pytest.raises(ModelFormatError, match="a window of 2 axes"):
        one(
            "conv", typed("fp32", 1, 1, 3, 3), x, x_type=typed("fp32", 1, 1, 4, 4), weight=weight, strides=[1]
        )
