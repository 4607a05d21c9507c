"""Resizing, cropping and resampling images.

Source: coremltools, `ops/defs/iOS15/image_resizing.py`, `iOS16/`, `iOS17/`.
"""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.cropping import Boxes, crop_and_resize
from coremlops.lower.registry import Ints, Unsupported, Value, lowers
from coremlops.lower.resizing import linear, nearest
from coremlops.lower.sampling import grid_sample, normalized
from coremlops.lower.shapes import MAX_TABLE, Size, element, longs, size, vector
from coremlops.lower.slicing import trimmed

_FLOAT = 1  # TensorProto.FLOAT
_INT64 = 7  # TensorProto.INT64


@lowers("crop", moves=True)
def crop(ctx: Lowering, x: Value, crop_height: Ints, crop_width: Ints) -> Value:
    """x without its first and last rows and columns. x: [*, H, W], fp16|fp32 -> [*, H', W'], same dtype."""
    return trimmed(ctx, x, crop_height, crop_width)


@lowers("resize_bilinear")
def resize_bilinear(
    ctx: Lowering,
    x: Value,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Value:
    """The last two axes resized with bilinear interpolation. x: [*, H, W], fp16|fp32 -> [*, H', W']."""
    return linear(ctx, x, (target_size_height, target_size_width), sampling_mode)


@lowers("resize_nearest_neighbor", moves=True)
def resize_nearest_neighbor(
    ctx: Lowering, x: Value, target_size_height: int, target_size_width: int
) -> Value:
    """The last two axes resized by the element under the middle of each place, as TensorFlow's half pixels.

    x: [*, H, W], fp16|fp32 -> [*, H', W'].
    """
    return nearest(ctx, x, (target_size_height, target_size_width), "centre")


@lowers("upsample_nearest_neighbor", moves=True)
def upsample_nearest_neighbor(
    ctx: Lowering, x: Value, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Value:
    """The last two axes `floor(size * scale)` long, by the element at or before each place.

    x: [*, H, W], fp16|fp32 -> [*, H', W'].
    """
    scales = scale_factor_height, scale_factor_width
    whole = all(float(scale).is_integer() for scale in scales)
    return nearest(ctx, x, _scaled(ctx, x, *scales), "floor", whole=whole)


@lowers("upsample_bilinear")
def upsample_bilinear(
    ctx: Lowering,
    x: Value,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Value:
    """The last two axes `floor(size * scale)` long, with bilinear interpolation between those sizes.

    x: [*, H, W], fp16|fp32 -> [*, H', W']. `half_pixel_centers` is not `align_corners` when it is not named.
    """
    halves = (not align_corners) if half_pixel_centers is None else half_pixel_centers
    if align_corners and halves:
        raise Unsupported("align_corners with half_pixel_centers, of which Apple's documentation has no grid")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if halves else "DEFAULT"
    return linear(ctx, x, _scaled(ctx, x, scale_factor_height, scale_factor_width), mode)


def _scaled(ctx: Lowering, x: Value, *scales: float) -> list[Size]:
    """`floor(size * scale)` of the last axes, in float32 as coremltools does it."""
    target: list[Size] = []
    for axis, scale in zip((-2, -1), scales, strict=True):
        before = size(ctx, x, axis)
        factor = np.float32(scale)
        if not np.isfinite(factor) or factor <= 0:
            raise ValueError(f"a scale of {scale}")
        if isinstance(before, int):
            target.append(int(np.floor(factor * np.float32(before))))
            continue
        product = ctx.node("Mul", ctx.node("Cast", before, to=_FLOAT), ctx.constant(factor))
        target.append(ctx.node("Cast", ctx.node("Floor", product), to=_INT64))
    return target


@lowers("resize")
def resize(
    ctx: Lowering,
    x: Value,
    shape: Value,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Value:
    """The last `resized_dims` axes with the last sizes of `shape`, of which 0 keeps an axis as it is.

    x: [*], fp16|fp32|int32; shape: [K], integers, known now or at run time -> same dtype.
    NEAREST_NEIGHBOR in the DEFAULT mode is `resize_nearest_neighbor`, which this op replaces.
    """
    if interpolation_mode not in ("LINEAR", "NEAREST_NEIGHBOR"):
        raise Unsupported(f"interpolation_mode {interpolation_mode!r}")
    wanted, given = longs(ctx, shape), shape.shape[0]
    if given is None or not 0 <= resized_dims <= min(given, x.rank):
        raise ValueError(f"{resized_dims} axes of {x.rank} resized to a shape of {given}")
    if resized_dims == 0:
        return x
    target: list[Size] = []
    for index in range(resized_dims):
        kept = size(ctx, x, index - resized_dims)
        part = element(ctx, wanted, given - resized_dims + index)
        if isinstance(part, int):
            target.append(part or kept)
        else:
            keep = kept if isinstance(kept, Value) else ctx.ints([kept])
            target.append(ctx.node("Where", ctx.node("Equal", part, ctx.ints([0])), keep, part))
    if interpolation_mode == "LINEAR":
        return linear(ctx, x, target, sampling_mode)
    return nearest(ctx, x, target, "centre" if sampling_mode == "DEFAULT" else sampling_mode)


@lowers("crop_resize")
def crop_resize(
    ctx: Lowering,
    x: Value,
    roi: Value | None = None,
    boxes: Value | None = None,
    box_indices: Value | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Value:
    """Boxes of x, resized with bilinear interpolation; what lies outside x is `pad_value`.

    x: [B, C, H, W], fp16|fp32. Before iOS 17 roi: [N, 1, 4, 1, 1] -> [N, B, C, h, w], each box of each
    image, or [N, 1, 5, 1, 1], led by the image's index -> [N, 1, C, h, w]. Since iOS 17 boxes: [N, 4];
    box_indices: [N], by default 0, 1, ... -> [N, C, h, w].
    """
    if (roi is None) == (boxes is None):
        raise ValueError("either roi or boxes is wanted")
    given = Boxes(
        normalized_coordinates, spatial_scale, box_coordinate_mode, sampling_mode, target_height, target_width
    )
    if boxes is not None:
        numbers = boxes if boxes.dtype.startswith("fp") else ctx.cast(boxes, "fp32")
        if box_indices is not None:
            images = longs(ctx, box_indices)
        else:
            count = ctx.node("Squeeze", ctx.node("Shape", boxes, start=0, end=1))
            images = ctx.node("Range", ctx.constant(0, np.int64), count, ctx.constant(1, np.int64))
        images = ctx.node("Unsqueeze", images, ctx.ints([1]))
        crops = crop_and_resize(ctx, x, numbers, images, given, pad_value)  # [N, 1, C, h, w]
        return ctx.node("Squeeze", crops, ctx.ints([1]))
    assert roi is not None  # noqa: S101  one of the two is given
    if roi.rank != 5 or roi.shape[2] not in (4, 5):
        raise ValueError(f"regions of shape {roi.shape}")
    flat = ctx.node("Reshape", roi, ctx.ints([-1, roi.shape[2]]))
    if roi.shape[2] == 4:
        count = ctx.node("Squeeze", ctx.node("Shape", x, start=0, end=1))
        images = ctx.node("Range", ctx.constant(0, np.int64), count, ctx.constant(1, np.int64))
        return crop_and_resize(ctx, x, flat, ctx.node("Unsqueeze", images, ctx.ints([0])), given, pad_value)
    index, numbers = ctx.nodes("Split", 2, flat, ctx.ints([1, 4]), axis=1)
    return crop_and_resize(ctx, x, numbers, ctx.node("Cast", index, to=_INT64), given, pad_value)


@lowers("resample")
def resample(
    ctx: Lowering,
    x: Value,
    coordinates: Value,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Value:
    """x at given places: (x, y) in pixels, from -1 to 1 or from 0 to 1.

    x: [B, C, H, W], fp16|fp32; coordinates: [B, H', W', 2], numbers -> [B, C, H', W'], dtype of x.
    """
    places = coordinates if coordinates.dtype.startswith("fp") else ctx.cast(coordinates, "fp32")
    grid, aligned = normalized(ctx, x, places, coordinates_mode, padding_mode, align_corners)
    return grid_sample(ctx, x, grid, sampling_mode, padding_mode, padding_value, aligned)


@lowers("affine")
def affine(
    ctx: Lowering,
    x: Value,
    transform_matrix: Value,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Value:
    """x at places that a matrix makes of each place: x' = a0 x + a1 y + a2, y' = b0 x + b1 y + b2.

    x: [B, C, H, W], fp16|fp32; transform_matrix: [B or 1, 6] -> [B, C, H', W'], dtype of x. A result that is
    one pixel wide or high lies at 0, the middle, as in PyTorch.
    """
    if coordinates_mode.lower() != "normalized_minus_one_to_one":
        raise Unsupported(f"coordinates_mode {coordinates_mode!r}")
    if min(output_height, output_width) < 1 or output_height * output_width > MAX_TABLE:
        raise ValueError(f"a result of {output_height} by {output_width} pixels")
    rows, columns = _line(output_height, align_corners), _line(output_width, align_corners)
    points = np.ones((output_height, output_width, 3), np.float32)
    points[..., 0], points[..., 1] = columns, rows[:, None]
    matrix = ctx.node("Reshape", transform_matrix, ctx.ints([-1, 2, 3]))
    turned = ctx.node("Transpose", matrix, perm=(0, 2, 1))
    grid = ctx.node("MatMul", ctx.constant(points.reshape(-1, 3)), turned)
    flat = ctx.node("Reshape", grid, ctx.ints([-1, output_height, output_width, 2]))
    if transform_matrix.shape[0] != x.shape[0] or x.shape[0] is None:
        flat = ctx.node("Expand", flat, vector(ctx, [size(ctx, x, 0), output_height, output_width, 2]))
    return grid_sample(ctx, x, flat, sampling_mode, padding_mode, padding_value, align_corners)


def _line(count: int, align_corners: bool) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Places from -1 to 1: those of the outermost pixels' centres, or of their edges."""
    if align_corners:
        return np.linspace(-1, 1, count, dtype=np.float32) if count > 1 else np.zeros(1, np.float32)
    return ((2 * np.arange(count) + 1) / count - 1).astype(np.float32)
