"""Layers over [..., C, H, W] against PyTorch, over ranks and unknown sizes.

Tolerances are those of float32 sums of a few dozen terms.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.networks import Array, add_layer, lower, network, one, run

RNG = np.random.default_rng(7)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def torch_of(function: Callable[..., Any], x: Array, *arguments: Any, **options: Any) -> Array:
    """A function of [N, C, H, W] over the last three axes."""
    flat = torch.from_numpy(x.reshape(-1, *x.shape[-3:]))
    result: Array = function(flat, *arguments, **options).numpy()
    return result.reshape(*x.shape[:-3], *result.shape[1:])


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("lead", [(), (2,), (3, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_convolution(lead: tuple[int, ...], groups: int, dynamic: bool) -> None:
    x, w, b = normal(*lead, 4, 7, 6), normal(6, 4 // groups, 3, 2), normal(6)
    expected = torch_of(
        F.conv2d,
        x,
        torch.from_numpy(w),
        torch.from_numpy(b),
        stride=(2, 1),
        padding=(1, 0),
        dilation=(1, 2),
        groups=groups,
    )
    found = one(
        "convolution",
        x,
        dynamic=dynamic,
        outputChannels=6,
        kernelChannels=4 // groups,
        nGroups=groups,
        kernelSize=[3, 2],
        stride=[2, 1],
        dilationFactor=[1, 2],
        valid={
            "paddingAmounts": {
                "borderAmounts": [{"startEdgeSize": 1, "endEdgeSize": 1}, {"startEdgeSize": 0}],
            }
        },
        hasBias=True,
        weights=w,
        bias=b,
    )
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["BOTTOM_RIGHT_HEAVY", "TOP_LEFT_HEAVY"])
def test_same_padding(mode: str) -> None:
    x, w = normal(1, 1, 5, 5), normal(1, 1, 2, 2)
    pad = (0, 1, 0, 1) if mode == "BOTTOM_RIGHT_HEAVY" else (1, 0, 1, 0)
    expected = F.conv2d(F.pad(torch.from_numpy(x), pad), torch.from_numpy(w)).numpy()
    found = one(
        "convolution",
        x,
        outputChannels=1,
        kernelChannels=1,
        kernelSize=[2, 2],
        same={"asymmetryMode": mode},
        weights=w,
    )
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "options"),
    [
        ({"valid": {}}, {}),
        ({"same": {}}, {"padding": 1, "output_padding": 1}),
        ({"outputShape": [8, 9]}, {"padding": (1, 1), "output_padding": (1, 0)}),
    ],
)
def test_transposed_convolution(fields: dict[str, Any], options: dict[str, Any]) -> None:
    x, w = normal(2, 4, 4, 5), normal(4, 3, 3, 3)
    torch_options = dict(options)
    if "outputShape" in fields:  # one element less on either side, but the last row stays
        full = F.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(w), stride=2, groups=2).numpy()
        expected = full[:, :, :8, 1:10]
    else:
        expected = F.conv_transpose2d(
            torch.from_numpy(x), torch.from_numpy(w), stride=2, groups=2, **torch_options
        ).numpy()
    if "same" in fields:  # an odd excess of one is cut off after: PyTorch's padding cuts before
        full = F.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(w), stride=2, groups=2).numpy()
        expected = full[:, :, :8, :10]
    found = one(
        "convolution",
        x,
        outputChannels=6,
        kernelChannels=4,
        nGroups=2,
        kernelSize=[3, 3],
        stride=[2, 2],
        isDeconvolution=True,
        weights=w,
        **fields,
    )
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_transposed_convolution_with_dilations() -> None:
    x, w = normal(1, 2, 4, 5), normal(2, 3, 3, 3)
    expected = F.conv_transpose2d(
        torch.from_numpy(x), torch.from_numpy(w), stride=2, padding=1, dilation=(2, 1)
    ).numpy()
    found = one(
        "convolution",
        x,
        outputChannels=3,
        kernelChannels=2,
        kernelSize=[3, 3],
        stride=[2, 2],
        dilationFactor=[2, 1],
        isDeconvolution=True,
        outputShape=list(expected.shape[2:]),
        weights=w,
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("lead", [(), (2,), (1, 2)])
@pytest.mark.parametrize("kind", ["MAX", "AVERAGE", "L2"])
def test_pooling(kind: str, lead: tuple[int, ...]) -> None:
    x = normal(*lead, 3, 7, 8)
    functions: dict[str, Callable[..., Any]] = {
        "MAX": F.max_pool2d,
        "AVERAGE": lambda t, k, s, p: F.avg_pool2d(t, k, s, p, count_include_pad=False),
        "L2": lambda t, *a: torch.sqrt(F.avg_pool2d(t * t, *a) * 6),
    }
    edge = {"startEdgeSize": 1, "endEdgeSize": 1}
    found = one(
        "pooling",
        x,
        type=kind,
        kernelSize=[3, 2],
        stride=[2, 1],
        valid={"paddingAmounts": {"borderAmounts": [edge, edge]}},
        avgPoolExcludePadding=True,
    )
    np.testing.assert_allclose(found, torch_of(functions[kind], x, (3, 2), (2, 1), 1), atol=1e-5)


def test_pooling_that_includes_the_last_pixel() -> None:
    x = normal(1, 2, 8, 8)
    found = one("pooling", x, type="MAX", kernelSize=[3, 3], stride=[2, 2], includeLastPixel={})
    expected = F.max_pool2d(torch.from_numpy(x), 3, 2, ceil_mode=True).numpy()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["MAX", "AVERAGE", "L2"])
def test_global_pooling(kind: str) -> None:
    x = normal(2, 3, 4, 5)
    expected = {
        "MAX": x.max((-2, -1), keepdims=True),
        "AVERAGE": x.mean((-2, -1), keepdims=True),
        "L2": np.sqrt((x * x).sum((-2, -1), keepdims=True)),
    }[kind]
    np.testing.assert_allclose(one("pooling", x, type=kind, globalPooling=True), expected, atol=1e-5)


@pytest.mark.parametrize("instance", [False, True])
def test_batchnorm_of_what_it_sees(instance: bool) -> None:
    x, gamma, beta = normal(2, 3, 4, 5), normal(3), normal(3)
    axes = (2, 3) if instance else (0, 2, 3)
    normalized = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-3)
    found = one(
        "batchnorm",
        x,
        channels=3,
        computeMeanVar=True,
        instanceNormalization=instance,
        epsilon=1e-3,
        gamma=gamma,
        beta=beta,
    )
    np.testing.assert_allclose(found, normalized * gamma[:, None, None] + beta[:, None, None], atol=1e-5)


def test_batchnorm() -> None:
    x, gamma, beta, mean, variance = normal(3, 4, 5), normal(3), normal(3), normal(3), normal(3) ** 2
    expected = torch_of(
        F.batch_norm,
        x,
        *(torch.from_numpy(array) for array in (mean, variance, gamma, beta)),
        eps=1e-5,
    )
    found = one(
        "batchnorm", x, channels=3, gamma=gamma, beta=beta, mean=mean, variance=variance
    )  # epsilon 0 means 1e-5
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("across", [False, True])
def test_mean_and_variance(across: bool) -> None:
    x = normal(2, 3, 4, 5)
    axes = (1, 2, 3) if across else (2, 3)
    expected = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-6)
    found = one("mvn", x, acrossChannels=across, normalizeVariance=True)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [1, 4, 5])
def test_local_response(size: int) -> None:
    x = normal(2, 7, 2, 3)
    expected = F.local_response_norm(torch.from_numpy(x), size, alpha=2.0, beta=0.75, k=3.0).numpy()
    found = one("lrn", x, alpha=2.0, beta=0.75, localSize=size, k=3.0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    "method", ["STRICT_ALIGN_ENDPOINTS_MODE", "ALIGN_ENDPOINTS_MODE", "UPSAMPLE_MODE", "ROI_ALIGN_MODE"]
)
@pytest.mark.parametrize("target", [(7, 9), (1, 1), (3, 2)])
@pytest.mark.parametrize("dynamic", [False, True])
def test_resize(method: str, target: tuple[int, int], dynamic: bool) -> None:
    """Against the grids that the format defines with NumPy's linspace."""
    x = normal(2, 4, 5)

    def grid(size: int, count: int) -> Array:
        match method:
            case "STRICT_ALIGN_ENDPOINTS_MODE":
                points = np.linspace(0, size - 1, count)
            case "ALIGN_ENDPOINTS_MODE":
                points = np.linspace(0, size - 1, count) if count > 1 else np.array([(size - 1) / 2])
            case "UPSAMPLE_MODE":
                points = np.linspace(0, size - size / count, count)
            case _:
                spacing = max(1, size - 1) / count
                points = np.linspace(0.5 * spacing, 0.5 * spacing + (count - 1) * spacing, count)
        return np.minimum(size - 1, points)

    expected = np.apply_along_axis(lambda row: np.interp(grid(5, target[1]), np.arange(5), row), 2, x)
    expected = np.apply_along_axis(lambda row: np.interp(grid(4, target[0]), np.arange(4), row), 1, expected)
    mode = {"samplingMethod": method}
    found = one("resizeBilinear", x, dynamic=dynamic, targetSize=list(target), mode=mode)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("factor", [2.0, 1.5])
def test_upsample_like_pytorch(corners: bool, factor: float) -> None:
    x = normal(1, 2, 4, 6)
    size = (int(4 * factor), int(6 * factor))
    expected = F.interpolate(torch.from_numpy(x), size, mode="bilinear", align_corners=corners).numpy()
    found = one(
        "upsample",
        x,
        fractionalScalingFactor=[factor, factor],
        mode="BILINEAR",
        linearUpsampleMode=f"ALIGN_CORNERS_{str(corners).upper()}",
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_upsample_nearest() -> None:
    x = normal(3, 2, 2)
    found = one("upsample", x, scalingFactor=[2, 3])
    np.testing.assert_array_equal(found, x.repeat(2, 1).repeat(3, 2))


@pytest.mark.parametrize("columns", [4, 5])
def test_crop_resize(columns: int) -> None:
    """Against `np.interp` along either axis of each box."""
    x = normal(1, 2, 3, 6, 7)
    corners = np.array([[0.5, 1, 4, 5.5], [0, 0, 5, 6]], np.float32)
    boxes = corners if columns == 4 else np.concatenate([[[1], [0]], corners], 1)
    found = one("cropResize", x, boxes.reshape(2, 1, columns, 1, 1), targetSize=[3, 4])

    def sample(image: Array, box: Array) -> Array:
        rows, wide = np.linspace(box[0], box[2], 3), np.linspace(box[1], box[3], 4)
        part = np.apply_along_axis(lambda line: np.interp(wide, np.arange(7), line), 2, image)
        return np.apply_along_axis(lambda line: np.interp(rows, np.arange(6), line), 1, part)

    if columns == 4:
        expected = np.array([[sample(x[0, image], box) for image in range(2)] for box in corners])
    else:
        expected = np.array([[sample(x[0, image], box)] for image, box in zip((1, 0), corners, strict=True)])
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("mode", ["SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "PIXEL_SHUFFLE"])
def test_blocks(mode: str) -> None:
    x = normal(8, 4, 6)
    if mode == "SPACE_TO_DEPTH":
        expected = x.reshape(8, 2, 2, 3, 2).transpose(2, 4, 0, 1, 3).reshape(32, 2, 3)
    elif mode == "DEPTH_TO_SPACE":
        expected = x.reshape(2, 2, 2, 4, 6).transpose(2, 3, 0, 4, 1).reshape(2, 8, 12)
    else:
        expected = F.pixel_shuffle(torch.from_numpy(x), 2).numpy()
    np.testing.assert_array_equal(one("reorganizeData", x, mode=mode, blockSize=2), expected)


def test_a_chain_over_five_axes_needs_no_reshape_between() -> None:
    """Layers of images share one view: a reshape at either end is all that is left."""
    message = network()
    same: dict[str, Any] = {"outputChannels": 2, "kernelChannels": 2, "kernelSize": [3, 3], "same": {}}
    add_layer(message, "convolution", ["x"], ["a"], weights=normal(2, 2, 3, 3), **same)
    add_layer(message, "activation", ["a"], ["b"], ReLU={})
    add_layer(message, "convolution", ["b"], ["c"], weights=normal(2, 2, 3, 3), **same)
    add_layer(message, "add", ["b", "c"], ["y"])
    graph = lower(message, {"x": (1, 1, 2, 4, 4)}, ["y"]).whole.model.graph
    assert [node.op_type for node in graph.node] == [
        "Reshape",
        "Conv",
        "Relu",
        "Conv",
        "Add",
        "Reshape",
        "Identity",
    ]
    x = normal(1, 1, 2, 4, 4)
    fixed, open_ = run(message, x=x)[0], run(message, dynamic=True, x=x)[0]
    np.testing.assert_allclose(fixed, open_, atol=1e-6)
