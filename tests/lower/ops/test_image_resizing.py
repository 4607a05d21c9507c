"""Resizing, cropping and resampling, against PyTorch and against the documented grids in float64.

Bilinear results agree to 2e-5 of values up to about 3: float32 grids of up to a few dozen pixels.
"""

from typing import Any

import numpy as np
import pytest
import torch

from coremlops.dialects.mil import Ref
from coremlops.errors import CoremlopsError, UnsupportedOpsError
from tests.lower.programs import Array, function, one, operation, run, typed
from tests.reference.images import along, bilinear, crops, points

RNG = np.random.default_rng(17)
ATOL = 2e-5
MODES = ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS"]


def image(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def check(kind: str, x: Array, expected: Array, atol: float = ATOL, **inputs: Any) -> None:
    """The op gives `expected`, with the shapes of x and of the result known and with none known."""
    for open_ in (False, True):
        shapes = [tuple(None for _ in value.shape) if open_ else value.shape for value in (x, expected)]
        made = operation(kind, "y", typed("fp32", *shapes[1]), x=Ref("x"), **inputs)
        found = run(function({"x": typed("fp32", *shapes[0])}, [made]), x=x)["y"]
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("height", "width"), [(5, 9), (1, 1), (4, 7), (8, 3)])
@pytest.mark.parametrize("shape", [(2, 3, 4, 7), (3, 4, 5), (1, 2, 1, 1, 6)])
def test_resize_bilinear(mode: str, height: int, width: int, shape: tuple[int, ...]) -> None:
    x = image(*shape)
    expected = bilinear(x, height, width, mode)
    inputs: dict[str, Any] = {"target_size_height": height, "target_size_width": width, "sampling_mode": mode}
    check("resize_bilinear", x, expected, **inputs)


def test_the_documented_examples() -> None:
    x = np.array([[[0, 1]]], np.float32)
    rows = {
        "UNALIGN_CORNERS": [0, 0.1, 0.5, 0.9, 1],
        "DEFAULT": [0, 0.4, 0.8, 1, 1],
        "STRICT_ALIGN_CORNERS": [0, 0.25, 0.5, 0.75, 1],
        "OFFSET_CORNERS": [0.1, 0.3, 0.5, 0.7, 0.9],
    }
    for mode, row in rows.items():
        inputs: dict[str, Any] = {"target_size_height": 1, "target_size_width": 5, "sampling_mode": mode}
        check("resize_bilinear", x, np.array([[row]]), **inputs)


@pytest.mark.parametrize("scales", [(2, 3), (2.5, 2.6), (0.5, 0.75), (1.0, 1.0)])
@pytest.mark.parametrize("align", [False, True])
def test_upsample_bilinear(scales: tuple[float, float], align: bool) -> None:
    x = image(1, 2, 6, 5)
    target = [
        int(np.floor(np.float32(scale) * size)) for scale, size in zip(scales, x.shape[2:], strict=True)
    ]
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(x), target, mode="bilinear", align_corners=align
    )
    inputs: dict[str, Any] = {
        "scale_factor_height": scales[0],
        "scale_factor_width": scales[1],
        "align_corners": align,
    }
    check("upsample_bilinear", x, expected.numpy(), **inputs)


def test_upsample_bilinear_without_half_pixels() -> None:
    x = image(1, 2, 3, 4)
    inputs: dict[str, Any] = {"scale_factor_height": 2, "scale_factor_width": 3, "align_corners": False}
    check("upsample_bilinear", x, bilinear(x, 6, 12, "DEFAULT"), half_pixel_centers=False, **inputs)


@pytest.mark.parametrize("scales", [(2, 3), (1.5, 1.7), (0.5, 2.0)])
def test_upsample_nearest_neighbor(scales: tuple[float, float]) -> None:
    x = image(1, 2, 6, 10)
    height, width = (int(np.floor(np.float32(s) * n)) for s, n in zip(scales, x.shape[2:], strict=True))
    expected = x[:, :, np.arange(height) * 6 // height][..., np.arange(width) * 10 // width]
    check(
        "upsample_nearest_neighbor",
        x,
        expected,
        0,
        scale_factor_height=scales[0],
        scale_factor_width=scales[1],
    )


@pytest.mark.parametrize(("height", "width"), [(12, 20), (7, 3), (1, 10), (6, 49)])
def test_resize_nearest_neighbor(height: int, width: int) -> None:
    x = image(1, 2, 6, 10)
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), (height, width), mode="nearest-exact")
    inputs: dict[str, Any] = {"target_size_height": height, "target_size_width": width}
    check("resize_nearest_neighbor", x, expected.numpy(), 0, **inputs)


@pytest.mark.parametrize("open_", [False, True])
def test_nearest_sizes_that_float32_gets_wrong(open_: bool) -> None:
    """Over all small sizes the element is that of exact arithmetic, sizes being known or not."""
    for before in (3, 7, 13, 29):
        x = np.arange(before, dtype=np.float32).reshape(1, 1, before)
        for after in range(1, 60, 7):
            inputs: dict[str, Any] = {"scale_factor_height": 1, "scale_factor_width": (after + 1e-3) / before}
            result, given = (None, None) if open_ else (after, before)
            found = one("upsample_nearest_neighbor", typed("fp32", 1, 1, result), x,
                        x_type=typed("fp32", 1, 1, given), **inputs)  # fmt: skip
            np.testing.assert_array_equal(found[0, 0], np.arange(after) * before // after)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at_run_time", [False, True])
def test_resize(mode: str, at_run_time: bool) -> None:
    x = image(2, 3, 4, 5)
    shape = np.array([9, 0, 11], np.int32)  # the first of three is not used when two axes are resized
    target: Any = Ref("s") if at_run_time else shape
    axes = (None,) * 4 if at_run_time else (2, 3, 4, 11)
    made = operation(
        "resize", "y", typed("fp32", *axes), x=Ref("x"), shape=target, resized_dims=2, sampling_mode=mode
    )
    program = function(
        {"x": typed("fp32", *((None,) * 4 if at_run_time else x.shape)), "s": typed("int32", 3)}, [made]
    )
    np.testing.assert_allclose(run(program, x=x, s=shape)["y"], bilinear(x, 4, 11, mode), rtol=0, atol=ATOL)


@pytest.mark.parametrize("mode", MODES)
def test_resize_one_axis_and_none(mode: str) -> None:
    x = image(2, 3, 5)
    expected = along(x.astype(np.float64), points(5, 8, mode), -1)
    check("resize", x, expected, shape=[8], resized_dims=1, sampling_mode=mode)
    check("resize", x, x, shape=[8], resized_dims=0, sampling_mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("height", "width"), [(7, 11), (1, 1), (9, 1), (3, 12)])
def test_resize_to_the_nearest(mode: str, height: int, width: int) -> None:
    x = image(1, 1, 4, 6)
    places = [points(before, after, "UNALIGN_CORNERS" if mode == "DEFAULT" else mode)
              for before, after in ((4, height), (6, width))]  # fmt: skip
    # Halves go up, and what float64 makes of a half is one.
    rows, columns = (np.floor(line + 0.5 + 1e-9).astype(int) for line in places)
    inputs: dict[str, Any] = {
        "shape": [height, width],
        "resized_dims": 2,
        "interpolation_mode": "NEAREST_NEIGHBOR",
        "sampling_mode": mode,
    }
    check("resize", x, x[:, :, rows][..., columns], 0, **inputs)


def test_crop() -> None:
    x = image(2, 3, 6, 7)
    check("crop", x, x[..., 1:4, 0:5], 0, crop_height=[1, 2], crop_width=[0, 2])
    with pytest.raises(CoremlopsError, match="crops of"):
        one("crop", typed("fp32", 1, 1, 1), image(1, 2, 2), crop_height=[-1, 0], crop_width=[0, 0])


# The last one is upside down.
BOXES = np.array([[0.5, 1, 4.25, 5], [2, 2, 2, 2], [-1.5, 0, 3, 9.75], [4.5, 6, 1, 1.25]], np.float32)


def as_mode(boxes: Array, mode: str) -> Array:
    low, high = boxes[:, :2], boxes[:, 2:]
    if mode.startswith("CENTER"):
        low, high = (low + high) / 2, high - low
    if mode.endswith("WIDTH_FIRST"):
        low, high = low[:, ::-1], high[:, ::-1]
    return np.concatenate([low, high], 1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "box_mode",
    ["CORNERS_HEIGHT_FIRST", "CORNERS_WIDTH_FIRST", "CENTER_SIZE_HEIGHT_FIRST", "CENTER_SIZE_WIDTH_FIRST"],
)
@pytest.mark.parametrize("normalized", [False, True])
def test_crop_resize(mode: str, box_mode: str, normalized: bool) -> None:
    x = image(3, 2, 6, 8)
    images = np.array([2, 0, 1, 2], np.int32)
    expected = crops(x[images], BOXES, 3, 4, mode, -7)
    given = as_mode(BOXES, box_mode) * 2  # halved again by spatial_scale
    if normalized:
        extent = np.array([5, 7] if box_mode.endswith("HEIGHT_FIRST") else [7, 5], np.float32)
        given = given / np.tile(extent, 2)
    inputs: dict[str, Any] = {"target_height": 3, "target_width": 4, "box_coordinate_mode": box_mode,
              "sampling_mode": mode,
              "normalized_coordinates": normalized, "spatial_scale": 0.5, "pad_value": -7.0}  # fmt: skip
    # A point that rounding moves over the edge of the image would be padding: none of these lies there.
    for axes in (None, x.shape):
        shape = (None,) * 4 if axes is None else axes
        made = operation(
            "crop_resize",
            "y",
            typed("fp32", 4, 2, 3, 4),
            x=Ref("x"),
            boxes=Ref("b"),
            box_indices=Ref("i"),
            **inputs,
        )
        program = function(
            {"x": typed("fp32", *shape), "b": typed("fp32", 4, 4), "i": typed("int32", 4)}, [made]
        )
        found = run(program, x=x, b=given.astype(np.float32), i=images)["y"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=5e-5)


@pytest.mark.parametrize(
    ("mode", "normalized", "expected"),
    [("ALIGN_CORNERS", False, [11, 10, 7, 6]), ("UNALIGN_CORNERS", True, [3.5, 5.5, 11.5, 13.5])],
)
def test_boxes_that_are_upside_down(mode: str, normalized: bool, expected: list[float]) -> None:
    """The two cases of coremltools' own `TestCropResize`, whose results are Core ML's."""
    x = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
    inputs: dict[str, Any] = {"target_height": 2, "target_width": 2, "sampling_mode": mode}
    inputs |= {"normalized_coordinates": normalized}
    made = operation("crop_resize", "y", typed("fp32", 1, 1, 1, 2, 2), x=Ref("x"), roi=Ref("r"), **inputs)
    program = function({"x": typed("fp32", 1, 1, 4, 4), "r": typed("fp32", 1, 1, 4, 1, 1)}, [made])
    found = run(program, x=x, r=np.array([2, 2, 1, 1], np.float32).reshape(1, 1, 4, 1, 1))["y"]
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", ["fp32", "int32"])
def test_crop_resize_of_each_image_in_turn(dtype: str) -> None:
    """Without `box_indices` box i is of image i; boxes may be integers."""
    x = image(4, 2, 6, 8)
    boxes = np.array([[0, 1, 4, 5], [2, 2, 2, 2], [5, 7, 1, 0], [-1, 0, 3, 9]], np.float32)
    expected = crops(x, boxes, 3, 4, "UNALIGN_CORNERS", 0)
    inputs: dict[str, Any] = {"target_height": 3, "target_width": 4, "sampling_mode": "UNALIGN_CORNERS"}
    made = operation("crop_resize", "y", typed("fp32", 4, 2, 3, 4), x=Ref("x"), boxes=Ref("b"), **inputs)
    program = function({"x": typed("fp32", *x.shape), "b": typed(dtype, 4, 4)}, [made])
    found = run(program, x=x, b=boxes if dtype == "fp32" else boxes.astype(np.int32))["y"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "either roi or boxes is wanted"),
        ({"roi": Ref("r"), "boxes": Ref("r")}, "either roi or boxes is wanted"),
        ({"roi": Ref("r")}, r"regions of shape \(4, 4\)"),
        ({"boxes": Ref("r"), "sampling_mode": "CUBIC"}, "with sampling mode 'CUBIC'"),
        ({"boxes": Ref("r"), "target_height": 1 << 30}, "a crop"),
    ],
)
def test_boxes_that_make_no_sense(inputs: dict[str, Any], message: str) -> None:
    made = operation("crop_resize", "y", typed("fp32", 4, 2, 1, 1), x=Ref("x"), **inputs)
    with pytest.raises(CoremlopsError, match=message):
        run(
            function({"x": typed("fp32", 4, 2, 6, 8), "r": typed("fp32", 4, 4)}, [made]),
            x=image(4, 2, 6, 8),
            r=np.zeros((4, 4), np.float32),
        )


def test_corners_and_centers_at_once_have_no_grid() -> None:
    with pytest.raises(UnsupportedOpsError, match="of which Apple's documentation has no grid"):
        one("upsample_bilinear", typed("fp32", 1, 2, 2), image(1, 2, 2), half_pixel_centers=True)


def test_crop_resize_before_ios_17() -> None:
    x = image(2, 3, 6, 8)
    inputs: dict[str, Any] = {"target_height": 2, "target_width": 3, "sampling_mode": "ALIGN_CORNERS"}
    each = np.stack([crops(np.stack([x[b]] * 4), BOXES, 2, 3, "ALIGN_CORNERS", 0) for b in range(2)], 1)
    made = operation("crop_resize", "y", typed("fp32", 4, 2, 3, 2, 3), x=Ref("x"), roi=Ref("r"), **inputs)
    program = function({"x": typed("fp32", 2, 3, 6, 8), "r": typed("fp32", 4, 1, 4, 1, 1)}, [made])
    found = run(program, x=x, r=BOXES.reshape(4, 1, 4, 1, 1))["y"]
    np.testing.assert_allclose(found, each, rtol=0, atol=ATOL)
    images = np.array([1, 0, 0, 1])
    led = np.concatenate([images[:, None], BOXES], 1).astype(np.float32)
    made = operation("crop_resize", "y", typed("fp32", 4, 1, 3, 2, 3), x=Ref("x"), roi=Ref("r"), **inputs)
    program = function({"x": typed("fp32", 2, 3, 6, 8), "r": typed("fp32", 4, 1, 5, 1, 1)}, [made])
    found = run(program, x=x, r=led.reshape(4, 1, 5, 1, 1))["y"]
    np.testing.assert_allclose(found[:, 0], each[np.arange(4), images], rtol=0, atol=ATOL)


@pytest.mark.parametrize("sampling", ["bilinear", "nearest"])
@pytest.mark.parametrize("padding", ["constant", "border", "reflection", "symmetric"])
@pytest.mark.parametrize(
    "coordinates", ["normalized_minus_one_to_one", "normalized_zero_to_one", "unnormalized"]
)
@pytest.mark.parametrize("align", [False, True])
def test_resample(sampling: str, padding: str, coordinates: str, align: bool) -> None:
    x = image(2, 3, 5, 7)
    # Away from the middle between pixels, where the nearest is anyone's guess.
    pixels = RNG.integers(-9, 14, (2, 4, 6, 2)) + RNG.choice([0.25, -0.375], (2, 4, 6, 2))
    extent = np.array([7, 5])
    between = 2 * pixels / (extent - 1) - 1 if align else (2 * pixels + 1) / extent - 1
    given = {
        "normalized_minus_one_to_one": between,
        "normalized_zero_to_one": (between + 1) / 2,
        "unnormalized": pixels,
    }
    aligned = {"reflection": True, "symmetric": False}.get(padding, align)
    wanted = 2 * pixels / (extent - 1) - 1 if aligned else (2 * pixels + 1) / extent - 1
    torch_padding = {"constant": "zeros", "border": "border"}.get(padding, "reflection")
    expected = torch.nn.functional.grid_sample(
        torch.from_numpy(x).double(), torch.from_numpy(wanted), sampling, torch_padding, aligned
    )
    inputs: dict[str, Any] = {"sampling_mode": sampling, "padding_mode": padding, "padding_value": 0.0,
              "coordinates_mode": coordinates, "align_corners": align}  # fmt: skip
    made = operation("resample", "y", typed("fp32", 2, 3, 4, 6), x=Ref("x"), coordinates=Ref("c"), **inputs)
    for shape in (x.shape, (None,) * 4):
        program = function({"x": typed("fp32", *shape), "c": typed("fp32", 2, 4, 6, 2)}, [made])
        found = run(program, x=x, c=given[coordinates].astype(np.float32))["y"]
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=ATOL)


def test_resample_reflects_before_it_takes_the_nearest() -> None:
    """6.5 of two pixels reflects to 0.5, whose nearest is 0; 6, the nearest of 6.5, would reflect to 1."""
    x = np.array([11, 22, 33, 44], np.float32).reshape(1, 1, 2, 2)
    places = np.array([-1, -2, -3.7, -1, 0, 0, 3.5, 1.2], np.float32).reshape(1, 2, 2, 2)
    inputs: dict[str, Any] = {"sampling_mode": "nearest", "padding_mode": "symmetric", "padding_value": -1.0,
              "coordinates_mode": "normalized_zero_to_one", "align_corners": False}  # fmt: skip
    made = operation("resample", "y", typed("fp32", 1, 1, 2, 2), x=Ref("x"), coordinates=Ref("c"), **inputs)
    program = function({"x": typed("fp32", 1, 1, 2, 2), "c": typed("fp32", 1, 2, 2, 2)}, [made])
    np.testing.assert_array_equal(
        run(program, x=x, c=places)["y"].ravel(), [22, 33, 11, 33]
    )  # coremltools' test


def test_resample_with_another_padding_value() -> None:
    x = image(1, 1, 2, 2)
    places = np.array([[[[0, 0], [-0.25, 0], [-5, 1], [1, 1.5]]]], np.float32)
    expected = [x[0, 0, 0, 0], 0.75 * x[0, 0, 0, 0] + 0.25 * 3, 3, 0.5 * x[0, 0, 1, 1] + 0.5 * 3]
    inputs: dict[str, Any] = {"sampling_mode": "bilinear", "padding_mode": "constant", "padding_value": 3.0,
              "coordinates_mode": "unnormalized", "align_corners": False}  # fmt: skip
    made = operation("resample", "y", typed("fp32", 1, 1, 1, 4), x=Ref("x"), coordinates=Ref("c"), **inputs)
    found = run(
        function({"x": typed("fp32", 1, 1, 2, 2), "c": typed("fp32", 1, 1, 4, 2)}, [made]), x=x, c=places
    )["y"]
    np.testing.assert_allclose(found.ravel(), expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("open_", [False, True])
def test_affine(batch: int, open_: bool) -> None:
    x = image(2, 3, 5, 7)
    matrix = RNG.uniform(-1, 1, (batch, 6)).astype(np.float32)
    theta = torch.from_numpy(np.broadcast_to(matrix, (2, 6)).reshape(2, 2, 3).copy())
    grid = torch.nn.functional.affine_grid(theta, [2, 3, 4, 6], align_corners=True)
    expected = torch.nn.functional.grid_sample(torch.from_numpy(x), grid, align_corners=True).numpy()
    inputs: dict[str, Any] = {"output_height": 4, "output_width": 6, "sampling_mode": "bilinear",
              "padding_mode": "constant", "padding_value": 0.0,
              "coordinates_mode": "normalized_minus_one_to_one", "align_corners": True}  # fmt: skip
    made = operation(
        "affine", "y", typed("fp32", 2, 3, 4, 6), x=Ref("x"), transform_matrix=Ref("m"), **inputs
    )
    shapes = [(None, 3, None, None), (None, 6)] if open_ else [x.shape, matrix.shape]
    program = function({"x": typed("fp32", *shapes[0]), "m": typed("fp32", *shapes[1])}, [made])
    np.testing.assert_allclose(run(program, x=x, m=matrix)["y"], expected, rtol=0, atol=ATOL)


def test_modes_that_do_not_exist() -> None:
    with pytest.raises(UnsupportedOpsError, match="sampling_mode 'ROUND'"):
        one("resize_bilinear", typed("fp32", 1, 1, 1), image(1, 1, 1), sampling_mode="ROUND")


def test_resizing_in_fp16_is_rounded_once() -> None:
    x = image(1, 1, 4, 4).astype(np.float16)
    inputs: dict[str, Any] = {
        "target_size_height": 7,
        "target_size_width": 7,
        "sampling_mode": "UNALIGN_CORNERS",
    }
    found = one("resize_bilinear", typed("fp16", 1, 1, 7, 7), x, x_type=typed("fp16", 1, 1, 4, 4), **inputs)
    wide = one(
        "resize_bilinear",
        typed("fp32", 1, 1, 7, 7),
        x.astype(np.float32),
        x_type=typed("fp32", 1, 1, 4, 4),
        **inputs,
    )
    np.testing.assert_array_equal(found, wide.astype(np.float16))
