"""Images: resized, cut out and sampled, by the documented grids in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tests.reference.interpreter import Array, Inputs, op


def points(before: int, after: int, mode: str) -> Array:
    """The grid as the documentation of `resize_bilinear` has it."""
    i = np.arange(after)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        alone = (before - 1) / 2 if mode == "ALIGN_CORNERS" else 0.0
        found = i * (before - 1) / (after - 1) if after > 1 else np.array([alone])
    elif mode == "DEFAULT":
        found = i * before / after
    elif mode == "OFFSET_CORNERS":
        found = (i + 0.5) * max(1, before - 1) / after
    else:
        found = (i + 0.5) * before / after - 0.5
    return np.asarray(np.clip(found, 0, before - 1))


def along(x: Array, places: Array, axis: int) -> Array:
    """x at `places` of an axis, interpolated linearly."""
    low = np.floor(places).astype(int)
    high = np.minimum(low + 1, x.shape[axis] - 1)
    share = (places - low).reshape([-1] + [1] * (-axis - 1))
    return np.asarray(np.take(x, low, axis) * (1 - share) + np.take(x, high, axis) * share)


def bilinear(x: Array, height: int, width: int, mode: str) -> Array:
    rows, columns = points(x.shape[-2], height, mode), points(x.shape[-1], width, mode)
    return along(along(x.astype(np.float64), rows, -2), columns, -1)


def crops(x: Array, boxes: Array, height: int, width: int, mode: str, pad: float) -> Array:
    """Boxes (h0, w0, h1, w1) of images x [B, C, H, W], one each, after the documentation, in float64."""
    found = np.empty((len(boxes), x.shape[1], height, width))
    for index, box in enumerate(boxes.astype(np.float64)):
        lines = []
        for axis, count in ((0, height), (1, width)):
            start, end, i = box[axis], box[axis + 2], np.arange(count)
            if mode == "UNALIGN_CORNERS" and end < start:  # as coremltools' `TestCropResize` has it
                start, end = 0, x.shape[2 + axis] - 1
            span = end - start
            if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
                alone = span / 2 if mode == "ALIGN_CORNERS" else 0.0
                line = i * span / (count - 1) if count > 1 else np.array([alone])
            elif mode == "DEFAULT":
                line = np.minimum(span, i * (span + 1) / count)
            elif mode == "OFFSET_CORNERS":
                line = np.minimum(span, (i + 0.5) * max(1, span) / count)
            else:
                line = np.clip((i + 0.5) * (span + 1) / count - 0.5, 0, span)
            lines.append(start + line)
        rows, columns = lines
        inner = along(along(x[index].astype(np.float64), np.clip(rows, 0, x.shape[2] - 1), -2),
                      np.clip(columns, 0, x.shape[3] - 1), -1)  # fmt: skip
        inside = ((rows >= 0) & (rows <= x.shape[2] - 1))[:, None] & (
            (columns >= 0) & (columns <= x.shape[3] - 1)
        )
        found[index] = np.where(inside, inner, pad)
    return found


def _target(given: Inputs) -> tuple[int, int]:
    """The size after scaling, as float32 has it."""
    scales = [np.float32(given.get(f"scale_factor_{name}", 1)) for name in ("height", "width")]
    height, width = (
        int(np.floor(scale * np.float32(size)))
        for scale, size in zip(scales, given["x"].shape[-2:], strict=True)
    )
    return height, width


def _sizes(given: Inputs) -> tuple[int, int]:
    return int(given["target_size_height"]), int(given["target_size_width"])


@op("resize_bilinear")
def _resize_bilinear(given: Inputs) -> Any:
    return bilinear(given["x"], *_sizes(given), given.get("sampling_mode", "DEFAULT"))


@op("upsample_bilinear")
def _upsample_bilinear(given: Inputs) -> Any:
    half = given.get("half_pixel_centers", not given.get("align_corners", True))
    free = "UNALIGN_CORNERS" if half else "DEFAULT"
    mode = "STRICT_ALIGN_CORNERS" if given.get("align_corners", True) else free
    return bilinear(given["x"], *_target(given), mode)


@op("upsample_nearest_neighbor")
def _upsample_nearest(given: Inputs) -> Any:
    (height, width), x = _target(given), given["x"]
    rows, columns = (np.arange(n) * size // n for n, size in zip((height, width), x.shape[-2:], strict=True))
    return x[..., rows, :][..., columns]


@op("resize_nearest_neighbor")
def _resize_nearest(given: Inputs) -> Any:
    x = given["x"]
    pairs = zip(_sizes(given), x.shape[-2:], strict=True)
    rows, columns = ((2 * np.arange(n) + 1) * size // (2 * n) for n, size in pairs)
    return x[..., rows, :][..., columns]


@op("resize")
def _resize(given: Inputs) -> Any:
    x, mode = given["x"], given.get("sampling_mode", "DEFAULT")
    height, width = (int(size) for size in given["shape"])
    if given.get("interpolation_mode", "LINEAR") == "LINEAR":
        return bilinear(x, height, width, mode)
    mode = "UNALIGN_CORNERS" if mode == "DEFAULT" else mode
    lines = (points(size, n, mode) for size, n in zip(x.shape[-2:], (height, width), strict=True))
    rows, columns = (np.floor(line + 0.5 + 1e-9).astype(int) for line in lines)
    return x[..., rows, :][..., columns]


@op("crop_resize")
def _crop_resize(given: Inputs) -> Any:
    """Boxes of corners, height first, in pixels."""
    images = np.asarray(given["box_indices"], np.int64)
    size = int(given["target_height"]), int(given["target_width"])
    return crops(given["x"][images], given["boxes"], *size, given["sampling_mode"], float(given["pad_value"]))


def _sample(given: Inputs, grid: Any, *, align: bool) -> Any:
    """PyTorch's sampling at places from -1 to 1."""
    mode = {"constant": "zeros", "border": "border"}[given["padding_mode"]]
    x = torch.from_numpy(given["x"]).double()
    found = torch.nn.functional.grid_sample(x, grid, given["sampling_mode"], mode, align)
    return found.numpy()


@op("resample")
def _resample(given: Inputs) -> Any:
    """Places in pixels, or from -1 or 0 to 1 over the outermost centres (aligned) or edges; padding of any
    value: what is sampled of `x - value` and zeros around, and `value` again."""
    places, mode = given["coordinates"].astype(np.float64), given["coordinates_mode"]
    extent = np.array(given["x"].shape[:1:-1])
    padding, value = given["padding_mode"], float(given["padding_value"])
    if mode == "unnormalized":
        pixels = places
    else:
        share = (places + 1) / 2 if mode == "normalized_minus_one_to_one" else places
        pixels = share * (extent - 1) if given["align_corners"] else share * extent - 0.5
    if padding == "reflection":  # about the outermost centres
        span = extent - 1
        pixels = span - np.abs(np.mod(pixels, 2 * span) - span)
    elif padding == "symmetric":  # about the edges
        pixels = extent - np.abs(np.mod(pixels + 0.5, 2 * extent) - extent) - 0.5
    grid = torch.from_numpy((2 * pixels + 1) / extent - 1)
    if padding != "constant":
        return _sample({**given, "padding_mode": "border"}, grid, align=False)
    return _sample({**given, "x": given["x"] - value}, grid, align=False) + value


@op("affine")
def _affine(given: Inputs) -> Any:
    """Aligned corners, places from -1 to 1."""
    theta = torch.from_numpy(given["transform_matrix"].astype(np.float64).reshape(-1, 2, 3))
    size = [*given["x"].shape[:2], int(given["output_height"]), int(given["output_width"])]
    return _sample(given, torch.nn.functional.affine_grid(theta, size, align_corners=True), align=True)
