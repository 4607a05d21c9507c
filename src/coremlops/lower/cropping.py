"""Boxes of images, resized with bilinear interpolation: a building block for all dialects.

Source: coremltools, `ops/defs/iOS15/image_resizing.py`, `crop_resize` and `resize_bilinear`. A box from
`start` to `end` holds `end - start + 1` pixels, in which the grid lies as `resize_bilinear` says. A box that
ends before it starts is read backwards where corners are aligned, and is the whole image in UNALIGN_CORNERS:
coremltools' `TestCropResize` (iOS14 mode 4, iOS15) has one case of each, and the documentation says neither.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value
from coremlops.lower.resizing import SAMPLING_MODES
from coremlops.lower.shapes import MAX_TABLE, bounded, size, vector

_FLOAT = 1  # TensorProto.FLOAT
_INT64 = 7  # TensorProto.INT64
_BOX_MODES = (
    "CORNERS_HEIGHT_FIRST",
    "CORNERS_WIDTH_FIRST",
    "CENTER_SIZE_HEIGHT_FIRST",
    "CENTER_SIZE_WIDTH_FIRST",
)


@dataclass(frozen=True, slots=True)
class Boxes:
    """What the numbers of a box mean, and how it is resized."""

    normalized: bool
    scale: float
    box_mode: str
    sampling_mode: str
    height: int
    width: int


def crop_and_resize(
    ctx: Lowering, x: Value, boxes: Value, images: Value, given: Boxes, pad_value: float
) -> Value:
    """x: [B, C, H, W]; boxes: [N, 4], floats; images: [N or 1, M], int64 -> [N, M, C, h, w].

    Crop (n, m) is box n of image `images[n, m]`.
    """
    if given.box_mode not in _BOX_MODES or given.sampling_mode not in SAMPLING_MODES:
        raise Unsupported(f"box mode {given.box_mode!r} with sampling mode {given.sampling_mode!r}")
    for length in (given.height, given.width):
        bounded([length], "a crop", MAX_TABLE)
    known = [part for part in x.shape[1:2] if part is not None]
    bounded([*known, given.height, given.width], "a crop")
    ends = ctx.nodes("Split", 4, boxes, axis=1, num_outputs=4)  # [N, 1] each
    if given.box_mode.endswith("WIDTH_FIRST"):
        ends = (ends[1], ends[0], ends[3], ends[2])
    rows = _axis(ctx, x, 2, ends[0], ends[2], given, given.height)
    columns = _axis(ctx, x, 3, ends[1], ends[3], given, given.width)
    sampled = _sample(ctx, x, images, rows, columns)
    inside = ctx.node("And", _spread(ctx, rows.inside, 1, 2, 4), _spread(ctx, columns.inside, 1, 2, 3))
    return ctx.node("Where", inside, sampled, ctx.constant(pad_value, np.float32))


@dataclass(frozen=True, slots=True)
class _Axis:
    """Grid points of one axis, [N, h]: the pixels on both sides, the second's share, which are in x."""

    low: Value
    high: Value
    share: Value
    inside: Value


def _axis(ctx: Lowering, x: Value, axis: int, first: Value, second: Value, given: Boxes, count: int) -> _Axis:
    def number(value: float) -> Value:
        return ctx.constant(value, np.float32)

    extent = size(ctx, x, axis)
    if isinstance(extent, int):
        last = number(extent - 1)
    else:
        last = ctx.node("Sub", ctx.node("Cast", extent, to=_FLOAT), number(1))
    if given.normalized:
        first, second = (ctx.node("Mul", value, last) for value in (first, second))
    if given.scale != 1:
        first, second = (ctx.node("Mul", value, number(given.scale)) for value in (first, second))
    if given.box_mode.startswith("CENTER"):
        half = ctx.node("Div", second, number(2))
        first, second = ctx.node("Sub", first, half), ctx.node("Add", first, half)
    if given.sampling_mode == "UNALIGN_CORNERS":
        inverted = ctx.node("Less", second, first)
        first = ctx.node("Where", inverted, number(0), first)
        second = ctx.node("Where", inverted, last, second)
    length = ctx.node("Sub", second, first)
    points = ctx.node("Add", first, _offsets(ctx, length, given.sampling_mode, count))
    inside = ctx.node(
        "And",
        ctx.node("GreaterOrEqual", points, number(0)),
        ctx.node("LessOrEqual", points, last),
    )
    kept = ctx.node("Min", ctx.node("Max", points, number(0)), last)
    floor = ctx.node("Floor", kept)
    low = ctx.node("Cast", floor, to=_INT64)
    high = ctx.node("Cast", ctx.node("Min", ctx.node("Add", floor, number(1)), last), to=_INT64)
    return _Axis(low, high, ctx.node("Sub", kept, floor), inside)


def _offsets(ctx: Lowering, length: Value, mode: str, count: int) -> Value:
    """Where the grid points of a box lie, counted from its start: [N, count] of `length` [N, 1]."""
    places = np.arange(count, dtype=np.float32)[None]

    def number(value: object) -> Value:
        return ctx.constant(value, np.float32)

    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        alone = 0.5 if mode == "ALIGN_CORNERS" else 0.0
        shares = places / (count - 1) if count > 1 else np.full((1, 1), alone)
        return ctx.node("Mul", length, number(shares))
    if mode == "OFFSET_CORNERS":
        wide = ctx.node("Max", length, number(1))
        return ctx.node("Min", ctx.node("Mul", wide, number((places + 0.5) / count)), length)
    pixels = ctx.node("Add", length, number(1))
    if mode == "DEFAULT":
        return ctx.node("Min", ctx.node("Mul", pixels, number(places / count)), length)
    middle = ctx.node("Sub", ctx.node("Mul", pixels, number((places + 0.5) / count)), number(0.5))
    return ctx.node("Min", ctx.node("Max", middle, number(0)), length)


def _spread(ctx: Lowering, value: Value, *axes: int) -> Value:
    return ctx.node("Unsqueeze", value, ctx.ints(axes))


def _sample(ctx: Lowering, x: Value, images: Value, rows: _Axis, columns: _Axis) -> Value:
    """The bilinear mean of four pixels each. images: [N or 1, M] -> [N, M, C, h, w]."""
    batch_channels_last = ctx.node("Transpose", x, perm=(0, 2, 3, 1))
    table = ctx.node("Flatten", batch_channels_last, axis=3)  # [B * H * W, C]
    height, width = (vector(ctx, [size(ctx, x, axis)]) for axis in (2, 3))
    base = _spread(ctx, ctx.node("Mul", images, height), 2, 3)  # [., M, 1, 1]

    def line(row: Value, column: Value) -> Value:
        whole = ctx.node("Mul", ctx.node("Add", base, _spread(ctx, row, 1, 3)), width)
        return ctx.node("Gather", table, ctx.node("Add", whole, _spread(ctx, column, 1, 2)), axis=0)

    def mean(first: Value, second: Value, share: Value) -> Value:
        rest = ctx.node("Sub", ctx.constant(1, np.float32), share)
        return ctx.node("Add", ctx.node("Mul", first, rest), ctx.node("Mul", second, share))

    across = _spread(ctx, columns.share, 1, 2, 4)
    top = mean(line(rows.low, columns.low), line(rows.low, columns.high), across)
    bottom = mean(line(rows.high, columns.low), line(rows.high, columns.high), across)
    blended = mean(top, bottom, _spread(ctx, rows.share, 1, 3, 4))  # [N, M, h, w, C]
    return ctx.node("Transpose", blended, perm=(0, 1, 4, 2, 3))
