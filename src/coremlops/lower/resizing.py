"""Resizing the last axes of a tensor in Apple's sampling modes: a building block for all dialects.

Source: coremltools, `ops/defs/iOS15/image_resizing.py`, `resize_bilinear`, whose words for the grid are
STRICT_ALIGN_CORNERS, ALIGN_CORNERS, DEFAULT, OFFSET_CORNERS and UNALIGN_CORNERS.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value
from coremlops.lower.shapes import (
    MAX_TABLE,
    Size,
    bounded,
    compute,
    product,
    reshaped,
    scalar,
    size,
    sizes,
    vector,
)

_FLOAT = 1  # TensorProto.FLOAT
# sampling mode -> ONNX's way from a place in the result to one in the input
_TRANSFORM = {
    "STRICT_ALIGN_CORNERS": "align_corners",
    "ALIGN_CORNERS": "tf_crop_and_resize",  # of the whole: the centre when there is one place alone
    "DEFAULT": "asymmetric",
    "UNALIGN_CORNERS": "half_pixel",
}
SAMPLING_MODES = (*_TRANSFORM, "OFFSET_CORNERS")
_ONNX_NEAREST = {"floor": ("asymmetric", "floor"), "centre": ("half_pixel", "round_prefer_ceil")}


def linear(ctx: Lowering, x: Value, target: Sequence[Size], mode: str) -> Value:
    """The last axes of x with `target` sizes, interpolated linearly. x: [*], fp16|fp32|int32."""
    if mode == "OFFSET_CORNERS":
        return _weighted(ctx, x, target)
    if mode not in _TRANSFORM:
        raise Unsupported(f"sampling_mode {mode!r}")
    return _resize(
        ctx,
        x,
        target,
        _whole(ctx, target, mode),
        mode="linear",
        coordinate_transformation_mode=_TRANSFORM[mode],
    )


def _whole(ctx: Lowering, target: Sequence[Size], mode: str) -> Value | None:
    """The region that `tf_crop_and_resize` wants: all of the input."""
    ends = [0] * len(target) + [1] * len(target)
    return ctx.constant(ends, np.float32) if mode == "ALIGN_CORNERS" else None


def _weighted(ctx: Lowering, x: Value, target: Sequence[Size]) -> Value:
    """OFFSET_CORNERS, of which ONNX knows nothing: a product with the weights of each axis."""
    if len(target) > min(2, x.rank) or not x.dtype.startswith("fp"):
        raise Unsupported(f"OFFSET_CORNERS over {len(target)} axes of {x.type}")
    bounded(
        [*(part for part in x.shape[: x.rank - len(target)] if part is not None), *target], "a resized tensor"
    )
    if x.rank == 1:
        return ctx.node("MatMul", _weights(ctx, size(ctx, x, 0), target[0]), x)
    result = ctx.node("MatMul", x, _turned(ctx, _weights(ctx, size(ctx, x, -1), target[-1])))
    if len(target) == 1:
        return result
    return ctx.node("MatMul", _weights(ctx, size(ctx, x, -2), target[-2]), result)


def _turned(ctx: Lowering, matrix: Value) -> Value:
    return ctx.node("Transpose", matrix, perm=(1, 0))


def _weights(ctx: Lowering, before: Size, after: Size) -> Value:
    """How much each element has in each place: [after, before]."""

    def number(value: float) -> Value:
        return ctx.constant(value, np.float32)

    def line(count: Size) -> Value:
        bounds = (ctx.constant(0, np.int64), scalar(ctx, count), ctx.constant(1, np.int64))
        return ctx.node("Cast", ctx.node("Range", *bounds), to=_FLOAT)

    bounded([before, after], "a table of weights")
    last = ctx.node("Sub", ctx.node("Cast", vector(ctx, [before]), to=_FLOAT), number(1))
    count = ctx.node("Cast", vector(ctx, [after]), to=_FLOAT)
    step = ctx.node("Div", ctx.node("Max", last, number(1)), count)
    grid = ctx.node("Min", ctx.node("Mul", ctx.node("Add", line(after), number(0.5)), step), last)
    distance = ctx.node("Sub", ctx.node("Unsqueeze", grid, ctx.ints([1])), line(before))
    return ctx.node("Max", ctx.node("Sub", number(1), ctx.node("Abs", distance)), number(0))


def nearest(ctx: Lowering, x: Value, target: Sequence[Size], mode: str, *, whole: bool = False) -> Value:
    """The last axes of x with `target` sizes, each place taking the nearest element.

    x: [*], any dtype that ONNX resizes. `mode`: a sampling mode, of whose grid points the halves go up; or
    `floor`, the element at or before `i * in / out`; or `centre`, the one under the middle of each place.
    `whole`: each of `target` is known to be a multiple of the size that there is.
    """
    if mode not in (*SAMPLING_MODES, "floor", "centre"):
        raise Unsupported(f"sampling_mode {mode!r}")
    before = [size(ctx, x, axis - len(target)) for axis in range(len(target))]
    pairs = list(zip(before, target, strict=True))
    multiples = all(isinstance(a, int) and isinstance(b, int) and a and b % a == 0 for a, b in pairs)
    if (whole or multiples) and mode in _ONNX_NEAREST:
        way, rounding = _ONNX_NEAREST[mode]
        attributes = {"coordinate_transformation_mode": way, "nearest_mode": rounding}
        return _resize(ctx, x, target, None, mode="nearest", **attributes)
    # ONNX Runtime divides by a scale in float32, which falls on the wrong side for some sizes.
    lead = x.shape[: x.rank - len(target)]
    bounded([*(part for part in lead if part is not None), *target], "a resized tensor")
    for axis, (old, new) in enumerate(pairs, -len(target)):
        x = ctx.node("Gather", x, _places(ctx, old, new, mode), axis=axis)
    return x


def _places(ctx: Lowering, before: Size, after: Size, mode: str) -> Value:
    """The element that each place takes: [after], in exact arithmetic. Halves go up."""
    slope, offset, divisor = _line(ctx, before, after, mode)
    most = compute(ctx, "Sub", before, 1)
    line = [slope, offset, divisor, most, after]
    if all(isinstance(part, int) for part in line):
        a, b, c, last, count = (part for part in line if isinstance(part, int))
        bounded([count], "a resized axis", MAX_TABLE)
        return ctx.ints(np.minimum((a * np.arange(count) + b) // c, last))
    bounds = (ctx.constant(0, np.int64), scalar(ctx, after), ctx.constant(1, np.int64))
    steps = compute(ctx, "Mul", ctx.node("Range", *bounds), slope)
    found = compute(ctx, "Div", compute(ctx, "Add", steps, offset), divisor)
    return vector(ctx, [compute(ctx, "Min", found, most)])


def _line(ctx: Lowering, before: Size, after: Size, mode: str) -> tuple[Size, Size, Size]:
    """Place i takes the element `(slope * i + offset) // divisor`: slope, offset, divisor."""

    def of(op: str, x: Size, y: Size) -> Size:
        return compute(ctx, op, x, y)

    twice = of("Max", of("Mul", after, 2), 1)
    match mode:
        case "floor":
            return before, 0, of("Max", after, 1)
        case "centre" | "UNALIGN_CORNERS":
            return of("Mul", before, 2), before, twice
        case "DEFAULT":
            return of("Mul", before, 2), after, twice
        case "OFFSET_CORNERS":
            span = of("Max", of("Sub", before, 1), 1)
            return of("Mul", span, 2), of("Add", span, after), twice
    gaps = of("Sub", after, 1)
    offset = gaps
    if mode == "ALIGN_CORNERS":  # a single place takes the middle
        offset = of("Max", gaps, of("Mul", of("Sub", 2, after), of("Div", before, 2)))
    return of("Mul", of("Sub", before, 1), 2), offset, of("Max", of("Mul", gaps, 2), 1)


def _resize(
    ctx: Lowering, x: Value, target: Sequence[Size], region: Value | None, **attributes: Any
) -> Value:
    """ONNX's Resize, which wants a batch, channels and two or three axes to resize."""
    count = len(target)
    if not 1 <= count <= 3 or count > x.rank:
        raise Unsupported(f"{count} axes of a tensor of rank {x.rank} resized")
    bounded([*(part for part in x.shape[: x.rank - count] if part is not None), *target], "a resized tensor")
    shape = sizes(ctx, x)
    lead, spatial = shape[: x.rank - count], shape[x.rank - count :]
    wanted = list(target)
    if count == 1:
        spatial, wanted = [1, *spatial], [1, *wanted]
        region = _with_a_row(ctx, region)
    flat = len(lead) == 2 and count > 1
    image = x if flat else reshaped(ctx, x, [1, product(ctx, lead), *spatial])
    axes = list(range(2, 2 + len(spatial)))
    resized = ctx.node("Resize", image, region, None, vector(ctx, wanted), axes=axes, **attributes)
    return resized if flat else reshaped(ctx, resized, [*lead, *target])


def _with_a_row(ctx: Lowering, region: Value | None) -> Value | None:
    """The region of one axis as that of two, the first of which has one element."""
    if region is None:
        return None
    zero, one = ctx.constant([0], np.float32), ctx.constant([1], np.float32)
    first, last = ctx.nodes("Split", 2, region, axis=0, num_outputs=2)
    return ctx.node("Concat", zero, first, one, last, axis=0)
