"""Layers that sample height and width anew.

A grid of points along an axis becomes a matrix of hat functions, so that bilinear sampling is a product
with it from either side: exact for any grid, known or not. ONNX's Resize is used where it has that grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from coremlops.dialects.neuralnetwork import Fields
from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering, Size
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.registry import Ints, Value

# How Resize's words say which grid. `asymmetric` begins at 0 with a spacing of in / out.
_RESIZE = {
    "STRICT_ALIGN_ENDPOINTS_MODE": "align_corners",
    "ALIGN_ENDPOINTS_MODE": "align_corners",
    "UPSAMPLE_MODE": "asymmetric",
}
_UPSAMPLE = {
    "DEFAULT": "asymmetric",
    "ALIGN_CORNERS_TRUE": "align_corners",
    "ALIGN_CORNERS_FALSE": "half_pixel",
}


@layer("upsample")
def upsample(
    ctx: NetworkLowering,
    x: Value,
    *,
    scalingFactor: Ints,
    fractionalScalingFactor: Sequence[float],
    mode: str,
    linearUpsampleMode: str,
) -> Value:
    """Height and width times a factor. x: [..., C, H, W]. Sizes are rounded down."""
    factors = tuple(fractionalScalingFactor) or tuple(scalingFactor) or (1, 1)
    if len(factors) != 2 or min(factors) <= 0:
        raise ModelFormatError(f"the scaling factors {list(factors)}; expected two that are positive")
    if mode == "NN":
        attributes: dict[str, Any] = {
            "mode": "nearest",
            "coordinate_transformation_mode": "asymmetric",
            "nearest_mode": "floor",
        }
    else:
        attributes = {"mode": "linear", "coordinate_transformation_mode": _UPSAMPLE[linearUpsampleMode]}

    def function(view: Value) -> Value:
        target = [_scaled(ctx, ctx.size(view, axis), factors[axis - 2]) for axis in (2, 3)]
        return _resized(ctx, view, target, attributes)

    return ctx.on_images(x, function)


def _scaled(ctx: NetworkLowering, size: Size, factor: float) -> Size:
    """A size times a factor, which stands in the file as float32: 2.66 * 50 must not become 132."""
    if isinstance(size, int):
        return int(np.floor(size * factor + 1e-4))
    product = ctx.node("Mul", ctx.node("Cast", size, to=TensorProto.DOUBLE), ctx.constant(factor, np.float64))
    rounded = ctx.node("Floor", ctx.node("Add", product, ctx.constant(1e-4, np.float64)))
    return ctx.node("Cast", rounded, to=TensorProto.INT64)


def _resized(ctx: NetworkLowering, x: Value, target: Sequence[Size], attributes: dict[str, Any]) -> Value:
    known = [size if isinstance(size, int) else None for size in target]
    if any(size is not None and size < 1 for size in known):
        raise ModelFormatError(f"height and width {known}")
    sizes = ctx.vector([*ctx.sizes(x, 0, 2), *target])
    result = ctx.node("Resize", x, None, None, sizes, **attributes)
    return ctx.retyped(result, *x.shape[:2], *known)


@layer("resizeBilinear")
def resize_bilinear(ctx: NetworkLowering, x: Value, *, targetSize: Ints, mode: Fields | None) -> Value:
    """Height and width of that size. x: [..., C, H, W]."""
    target, method = _target(targetSize), _method(mode)

    def function(view: Value) -> Value:
        plain = method in _RESIZE and not (method == "ALIGN_ENDPOINTS_MODE" and 1 in target)
        if plain:
            words = {"mode": "linear", "coordinate_transformation_mode": _RESIZE[method]}
            return _resized(ctx, view, target, words)
        rows, columns = (_matrix(ctx, view, axis, target[axis - 2], method) for axis in (2, 3))
        return ctx.node("MatMul", ctx.node("MatMul", rows, view), ctx.transpose(columns, [1, 0]))

    return ctx.on_images(x, function)


def _matrix(ctx: NetworkLowering, x: Value, axis: int, count: int, method: str) -> Value:
    """The matrix [count, size of the axis] that samples a whole axis."""
    size = ctx.size(x, axis)
    if not isinstance(size, int):
        start, last = ctx.constant([[0.0]]), ctx.node("Sub", ctx.numbers(size), ctx.constant(1.0))
        hats = _hats(ctx, start, ctx.reshape(last, [1, 1]), last, size, count, method)
        return ctx.reshape(hats, [count, -1])
    first, spacing = _grid(size - 1.0, count, method)
    points = np.clip(first + spacing * np.arange(count), 0, size - 1)
    return ctx.constant(np.maximum(0, 1 - np.abs(points[:, None] - np.arange(size))).astype(np.float32))


def _target(size: Ints) -> tuple[int, int]:
    if len(size) not in (0, 2) or min(size, default=1) < 1:
        raise ModelFormatError(f"the target size {list(size)}; expected height and width")
    return (size[0], size[1]) if size else (1, 1)


def _method(mode: Fields | None) -> str:
    return str(mode["samplingMethod"]) if mode is not None else "STRICT_ALIGN_ENDPOINTS_MODE"


def _grid(length: float, count: int, method: str) -> tuple[float, float]:
    """The first of `count` points along an axis that ends at `length`, and the distance of the next."""
    if method == "ROI_ALIGN_MODE":
        spacing = max(1.0, length) / count
        return spacing / 2, spacing
    return (0.0, length / (count - 1)) if count > 1 else (length / 2, 0.0)


@layer("cropResize")
def crop_resize(
    ctx: NetworkLowering,
    x: Value,
    boxes: Value,
    *,
    targetSize: Ints,
    normalizedCoordinates: bool,
    mode: Fields | None,
    boxIndicesMode: Fields | None,
    spatialScale: float,
) -> Value:
    """Regions of a size each. x: [1, B, C, H, W]; boxes: [N, 1, 4, 1, 1] -> [N, B, C, h, w].

    boxes [N, 1, 5, 1, 1] name the image first, and give [N, 1, C, h, w]. `spatialScale` 0 means 1.
    """
    images, target, method = ctx.merged(x), _target(targetSize), _method(mode)
    count = ctx.size(boxes, 0)
    columns = boxes.shape[-3]
    if columns not in (4, 5):
        raise ModelFormatError(f"boxes of the shape {list(boxes.shape)}; expected 4 or 5 coordinates")
    flat = ctx.reshape(boxes, [count, columns])
    if columns == 5:
        chosen = ctx.integers(ctx.reshape(ctx.slice(flat, 1, 0, 1), [count]))
        images = ctx.node("Unsqueeze", ctx.node("Gather", images, chosen, axis=0), ctx.ints([1]))
        flat = ctx.slice(flat, 1, 1, 5)
    corners = _corners(ctx, flat, boxIndicesMode)
    matrices = []
    for axis, wanted in enumerate(target):
        size = ctx.size(x, x.rank - 2 + axis)
        length = ctx.constant(float(size)) if isinstance(size, int) else ctx.numbers(size)
        last = ctx.node("Sub", length, ctx.constant(1.0))
        ends = [ctx.node("Mul", end, ctx.constant(spatialScale or 1.0)) for end in corners[axis]]
        if normalizedCoordinates:
            ends = [ctx.node("Mul", end, last) for end in ends]
        matrices.append(_hats(ctx, ends[0], ends[1], last, size, wanted, method))
    rows = ctx.node("MatMul", matrices[0], images)
    return ctx.node("MatMul", rows, ctx.transpose(matrices[1], [0, 1, 2, 4, 3]))


def _corners(
    ctx: NetworkLowering, boxes: Value, mode: Fields | None
) -> tuple[tuple[Value, Value], tuple[Value, Value]]:
    """From boxes [N, 4] where each begins and ends: of height, then of width; [N, 1] each."""
    word = str(mode["boxMode"]) if mode is not None else "CORNERS_HEIGHT_FIRST"
    a, b, c, d = (ctx.slice(boxes, 1, column, column + 1) for column in range(4))
    if word.endswith("WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    if word.startswith("CORNERS"):
        return (a, c), (b, d)
    half = ctx.constant(0.5)

    def ends(center: Value, size: Value) -> tuple[Value, Value]:
        reach = ctx.node("Mul", size, half)
        return ctx.node("Sub", center, reach), ctx.node("Add", center, reach)

    return ends(a, c), ends(b, d)


def _hats(
    ctx: NetworkLowering, start: Value, end: Value, last: Value, size: int | Value, count: int, method: str
) -> Value:
    """The matrices [N, 1, 1, count, size] that sample between `start` and `end`, [N, 1] each."""
    length = ctx.node("Sub", end, start)
    steps = np.arange(count, dtype=np.float32)[None]
    if method == "ROI_ALIGN_MODE":
        # An interval that is shorter than one element counts as one.
        spacing = ctx.node("Div", ctx.node("Max", length, ctx.constant(1.0)), ctx.constant(float(count)))
        offsets = ctx.node("Mul", spacing, ctx.constant(steps + np.float32(0.5)))
    elif method == "UPSAMPLE_MODE":
        spacing = ctx.node("Div", ctx.node("Add", length, ctx.constant(1.0)), ctx.constant(float(count)))
        offsets = ctx.node("Mul", spacing, ctx.constant(steps))
    elif count > 1:
        offsets = ctx.node("Mul", length, ctx.constant(steps / np.float32(count - 1)))
    else:
        middle = 0.5 if method == "ALIGN_ENDPOINTS_MODE" else 0.0
        offsets = ctx.node("Mul", length, ctx.constant(np.array([[middle]], np.float32)))
    points = ctx.node("Add", start, offsets)
    points = ctx.node("Min", ctx.node("Max", points, ctx.constant(0.0)), last)
    if isinstance(size, int):
        places = ctx.constant(np.arange(size, dtype=np.float32))
    else:
        stop = ctx.reshape(ctx.numbers(size), [])
        places = ctx.node("Range", ctx.constant(0.0), stop, ctx.constant(1.0))
    distance = ctx.node("Abs", ctx.node("Sub", ctx.node("Unsqueeze", points, ctx.ints([1, 2, 4])), places))
    return ctx.node("Max", ctx.node("Sub", ctx.constant(1.0), distance), ctx.constant(0.0))
