"""Convolutions against torch. Tolerance: float32 sums in another order, 1e-5 of values near 1."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coremlops.dialects.mil import Ref
from coremlops.errors import ModelFormatError, UnsupportedOpsError
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


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("pad_type", ["same", "same_lower"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (2, 2), (3, 1)])
def test_same_padding_of_open_axes(axes: int, pad_type: str, stride: int, dilation: int) -> None:
    """What the sizes decide at run time is what known sizes decide before."""
    weight = RNG.standard_normal((2, 2, *[4, 3, 2][:axes])).astype(np.float32)
    inputs: dict[str, Any] = {
        "weight": weight,
        "pad_type": pad_type,
        "strides": [stride] * axes,
        "dilations": [dilation] * axes,
    }
    for size in (7, 8):
        x = RNG.standard_normal((1, 2, *range(size, size + axes))).astype(np.float32)
        shape = [-(-length // stride) for length in x.shape[2:]]
        known = one("conv", typed("fp32", 1, 2, *shape), x, x_type=typed("fp32", *x.shape), **inputs)
        free = typed("fp32", None, 2, *[None] * axes)
        found = one("conv", free, x, x_type=free, **inputs)
        assert found.shape == (1, 2, *shape)
        np.testing.assert_allclose(found, known, atol=1e-6)


@pytest.mark.parametrize("biased", [True, False])
def test_a_weight_and_bias_known_at_run_time_alone(biased: bool) -> None:
    x, weight = (RNG.standard_normal(shape).astype(np.float32) for shape in ((1, 4, 6, 6), (6, 2, 3, 3)))
    bias = RNG.standard_normal(6).astype(np.float32)
    types = {"x": typed("fp32", *x.shape), "w": typed("fp32", *weight.shape)}
    feeds = {"x": x, "w": weight} | ({"b": bias} if biased else {})
    extra: dict[str, Any] = {"bias": Ref("b")} if biased else {}
    program = function(
        types | ({"b": typed("fp32", 6)} if biased else {}),
        [operation("conv", "y", typed("fp32", 1, 6, 4, 4), x=Ref("x"), weight=Ref("w"), groups=2, **extra)],
    )
    expected = F.conv2d(
        *map(torch.from_numpy, (x, weight)), torch.from_numpy(bias) if biased else None, groups=2
    )
    np.testing.assert_allclose(run(program, **feeds)["y"], expected.numpy(), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_quantized_weight(channels: int) -> None:
    x = RNG.standard_normal((1, 2, 5, 5)).astype(np.float32)
    weight = RNG.integers(0, 256, (3, 2, 2, 2)).astype(np.uint8)
    scale, offset = RNG.random(channels).astype(np.float32), RNG.random(channels).astype(np.float32)
    decoded = weight * scale.reshape(-1, 1, 1, 1) + offset.reshape(-1, 1, 1, 1)
    expected = F.conv2d(torch.from_numpy(x), torch.from_numpy(decoded.astype(np.float32))).numpy()
    inputs: dict[str, Any] = {"weight": weight, "quant_scale": scale, "quant_bias": offset}
    type_, x_type = typed("fp32", *expected.shape), typed("fp32", *x.shape)
    found = one("conv_quantized", type_, x, x_type=x_type, quantization_type="linear", **inputs)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)
    with pytest.raises(UnsupportedOpsError, match="quantization_type 'lut': the op has no input"):
        one("conv_quantized", type_, x, x_type=x_type, quantization_type="lut", **inputs)


TRANSPOSED: list[dict[str, Any]] = [
    {},
    {"stride": 2},
    {"stride": 2, "dilation": 2},
    {"stride": 3, "padding": 1},
    {"stride": 2, "padding": 1, "output_padding": 1},
    {"stride": 3, "output_padding": 2},
    {"stride": 2, "groups": 2, "padding": 1},
]


@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("biased", [True, False])
def test_conv_transpose_like_torch(case: dict[str, Any], axes: int, biased: bool) -> None:
    groups = case.get("groups", 1)
    x = RNG.standard_normal((2, 4, *[5, 6, 4][:axes])).astype(np.float32)
    weight = RNG.standard_normal((4, 6 // groups, *[3, 2, 3][:axes])).astype(np.float32)
    bias = RNG.standard_normal(6).astype(np.float32)
    transpose = [F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d][axes - 1]
    tensors = [torch.from_numpy(part) for part in (x, weight)]
    expected = transpose(*tensors, torch.from_numpy(bias) if biased else None, **case).numpy()
    inputs: dict[str, Any] = {
        "weight": weight,
        "strides": [case.get("stride", 1)] * axes,
        "dilations": [case.get("dilation", 1)] * axes,
        "groups": groups,
    }
    if biased:
        inputs["bias"] = bias
    if "padding" in case:
        inputs |= {"pad_type": "custom", "pad": [case["padding"]] * 2 * axes}
    if "output_padding" in case:
        inputs["output_shape"] = list(expected.shape)
    found = one("conv_transpose", typed("fp32", *expected.shape), x, x_type=typed("fp32", *x.shape), **inputs)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("width", "stride"), [(3, 1), (3, 2), (4, 2), (5, 3), (2, 3), (1, 2), (4, 1)])
@pytest.mark.parametrize("open_axes", [True, False])
def test_conv_transpose_same_is_the_gradient_of_conv_same(width: int, stride: int, open_axes: bool) -> None:
    """With `same`, conv takes D * stride elements to D; its gradient takes D to D * stride."""
    size = 4
    x = RNG.standard_normal((1, 1, size)).astype(np.float32)
    weight = RNG.standard_normal((1, 1, width)).astype(np.float32)
    total = max(0, (size - 1) * stride + width - size * stride)
    start = torch.zeros(1, 1, size * stride, requires_grad=True)
    result = F.conv1d(F.pad(start, (total // 2, total - total // 2)), torch.from_numpy(weight), stride=stride)
    (expected,) = torch.autograd.grad(result, start, torch.from_numpy(x))
    shape = (1, 1, None) if open_axes else (1, 1, size * stride)
    x_type = typed("fp32", 1, 1, None) if open_axes else typed("fp32", *x.shape)
    inputs: dict[str, Any] = {"weight": weight, "strides": [stride], "pad_type": "same"}
    found = one("conv_transpose", typed("fp32", *shape), x, x_type=x_type, **inputs)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_conv_transpose_with_an_output_shape_that_cuts_more() -> None:
    x, weight = np.ones((1, 1, 3), np.float32), np.ones((1, 1, 3), np.float32)
    inputs: dict[str, Any] = {"weight": weight, "strides": [2], "output_shape": [1, 1, 6]}
    found = one("conv_transpose", typed("fp32", 1, 1, 6), x, x_type=typed("fp32", 1, 1, 3), **inputs)
    np.testing.assert_array_equal(found, [[[1, 1, 2, 1, 2, 1]]])  # the seventh is cut off


def test_padding_beyond_all_bounds() -> None:
    x, weight = np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 1, 2, 2), np.float32)
    with pytest.raises(ModelFormatError, match="an input padded to"):
        one(
            "conv",
            typed("fp32", 1, 1, 3, 3),
            x,
            x_type=typed("fp32", 1, 1, 4, 4),
            weight=weight,
            pad_type="custom",
            pad=[2**30] * 4,
        )
