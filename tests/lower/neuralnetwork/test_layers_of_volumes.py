"""Layers over [..., C, D, H, W] against PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch.nn.functional as F

from tests.lower.neuralnetwork.test_layers_of_arrays import torch_of
from tests.networks import one

RNG = np.random.default_rng(29)
BIAS = RNG.standard_normal(6).astype(np.float32)
VOLUME = RNG.standard_normal((2, 4, 5, 6, 7)).astype(np.float32)
SIZES: dict[str, Any] = dict(zip(("kernelDepth", "kernelHeight", "kernelWidth"), (3, 2, 3), strict=True))
STRIDES: dict[str, Any] = dict(zip(("strideDepth", "strideHeight", "strideWidth"), (1, 2, 2), strict=True))
PADS: dict[str, Any] = {f"customPadding{side}": 1 for side in ("Front", "Back", "Left", "Right")}


def test_convolution_in_three_axes() -> None:
    kernels = RNG.standard_normal((6, 2, 3, 2, 3)).astype(np.float32)
    expected = torch_of(
        F.conv3d, VOLUME, kernels, BIAS, stride=(1, 2, 2), padding=(1, 0, 1), dilation=(1, 2, 1), groups=2
    )
    found = one(
        "convolution3d",
        VOLUME,
        outputChannels=6,
        inputChannels=4,
        nGroups=2,
        dilationHeight=2,
        paddingType="CUSTOM",
        hasBias=True,
        weights=kernels,
        bias=BIAS,
        **SIZES,
        **STRIDES,
        **PADS,
    )
    np.testing.assert_allclose(found, expected, atol=2e-5)  # sums of 36 products


def test_the_transpose_of_a_convolution_in_three_axes() -> None:
    kernels = RNG.standard_normal((4, 3, 3, 2, 3)).astype(np.float32)
    expected = torch_of(F.conv_transpose3d, VOLUME, kernels, stride=(1, 2, 2), padding=(1, 0, 1))
    fields: dict[str, Any] = {"outputChannels": 3, "inputChannels": 4, "isDeconvolution": True}
    fields |= {"paddingType": "CUSTOM", "weights": kernels, **SIZES, **STRIDES, **PADS}
    np.testing.assert_allclose(one("convolution3d", VOLUME, **fields), expected, atol=2e-5)


@pytest.mark.parametrize("kind", ["MAX", "AVERAGE"])
def test_pools_in_three_axes(kind: str) -> None:
    options: dict[str, Any] = {"kernel_size": (3, 2, 3), "stride": (1, 2, 2), "padding": (1, 0, 1)}
    function = F.max_pool3d if kind == "MAX" else F.avg_pool3d
    expected = torch_of(function, VOLUME, **options)
    fields: dict[str, Any] = {"type": kind, "paddingType": "CUSTOM", **SIZES, **STRIDES, **PADS}
    np.testing.assert_allclose(one("pooling3d", VOLUME, **fields), expected, atol=1e-5)
    if kind == "AVERAGE":
        expected = torch_of(function, VOLUME, **options, count_include_pad=False)
        np.testing.assert_allclose(
            one("pooling3d", VOLUME, countExcludePadding=True, **fields), expected, atol=1e-5
        )
    whole = VOLUME.max((2, 3, 4), keepdims=True) if kind == "MAX" else VOLUME.mean((2, 3, 4), keepdims=True)
    np.testing.assert_allclose(one("globalPooling3d", VOLUME, type=kind), whole, atol=1e-5)
