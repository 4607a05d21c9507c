"""Sampling an image at points in Apple's words, by ONNX's GridSample: a building block."""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value
from coremlops.lower.shapes import Size, size, vector

# padding mode -> ONNX's, and the alignment that it means there; None for either
_PADDING: dict[str, tuple[str, bool | None]] = {
    "constant": ("zeros", None),
    "border": ("border", None),
    "reflection": ("reflection", True),  # about the centres of the outermost pixels
    "symmetric": ("reflection", False),  # about their edges
}
_SAMPLING = {"bilinear": "bilinear", "nearest": "nearest"}


def normalized(
    ctx: Lowering, x: Value, places: Value, mode: str, padding: str, align_corners: bool
) -> tuple[Value, bool]:
    """Coordinates as GridSample wants them, from -1 to 1, and the alignment that they are meant with.

    x: [B, C, H, W]; places: [*, 2], (x, y), floats, in pixels or as `align_corners` says.
    """
    if padding.lower() not in _PADDING:
        raise Unsupported(f"padding_mode {padding!r}")
    wanted = _PADDING[padding.lower()][1]
    match mode.lower():
        case "normalized_minus_one_to_one":
            between = places
        case "normalized_zero_to_one":
            between = ctx.node("Sub", ctx.node("Mul", places, _float(ctx, 2)), _float(ctx, 1))
        case "unnormalized":
            aligned = bool(wanted)
            return _from_pixels(ctx, x, places, aligned), aligned
        case _:
            raise Unsupported(f"coordinates_mode {mode!r}")
    if wanted is None or wanted == align_corners:
        return between, align_corners
    return _from_pixels(ctx, x, _to_pixels(ctx, x, between, align_corners), wanted), wanted


def _float(ctx: Lowering, value: float) -> Value:
    return ctx.constant(value, np.float32)


def _extent(ctx: Lowering, x: Value) -> Value:
    """(W, H) as floats."""
    parts: list[Size] = [size(ctx, x, 3), size(ctx, x, 2)]
    known = [part for part in parts if isinstance(part, int)]
    if len(known) == 2:
        return ctx.constant(known, np.float32)
    return ctx.node("Cast", vector(ctx, parts), to=1)  # TensorProto.FLOAT


def _to_pixels(ctx: Lowering, x: Value, places: Value, aligned: bool) -> Value:
    shifted, extent = ctx.node("Add", places, _float(ctx, 1)), _extent(ctx, x)
    if aligned:
        half = ctx.node("Div", ctx.node("Sub", extent, _float(ctx, 1)), _float(ctx, 2))
        return ctx.node("Mul", shifted, half)
    scaled = ctx.node("Mul", shifted, ctx.node("Div", extent, _float(ctx, 2)))
    return ctx.node("Sub", scaled, _float(ctx, 0.5))


def _from_pixels(ctx: Lowering, x: Value, pixels: Value, aligned: bool) -> Value:
    twice, extent = ctx.node("Mul", pixels, _float(ctx, 2)), _extent(ctx, x)
    if aligned:
        # An axis of one pixel has no extent; all of it is that pixel.
        length = ctx.node("Max", ctx.node("Sub", extent, _float(ctx, 1)), _float(ctx, 1))
        return ctx.node("Sub", ctx.node("Div", twice, length), _float(ctx, 1))
    middle = ctx.node("Div", ctx.node("Add", twice, _float(ctx, 1)), extent)
    return ctx.node("Sub", middle, _float(ctx, 1))


def grid_sample(
    ctx: Lowering,
    x: Value,
    grid: Value,
    sampling: str,
    padding: str,
    value: float,
    aligned: bool,
) -> Value:
    """x at the points of `grid`, from -1 to 1. x: [B, C, H, W]; grid: [B, H', W', 2] -> [B, C, H', W']."""
    if padding.lower() not in _PADDING or sampling.lower() not in _SAMPLING:
        raise Unsupported(f"padding_mode {padding!r} with sampling_mode {sampling!r}")
    if padding.lower() in ("reflection", "symmetric") and sampling.lower() == "nearest":
        # ONNX Runtime takes the nearest pixel and then reflects it; Apple and PyTorch reflect first.
        pixels = _reflected(ctx, x, _to_pixels(ctx, x, grid, aligned), aligned)
        grid, aligned, padding = _from_pixels(ctx, x, pixels, False), False, "border"
    attributes = {
        "mode": _SAMPLING[sampling.lower()],
        "padding_mode": _PADDING[padding.lower()][0],
        "align_corners": int(aligned),
    }
    sampled = ctx.node("GridSample", x, grid, **attributes)
    if padding.lower() != "constant" or value == 0:
        return sampled
    # What the padding has its share in, and how much: one minus the share of an image of ones.
    ones = ctx.node("Expand", _float(ctx, 1), ctx.node("Shape", x))
    share = ctx.node("GridSample", ones, grid, **attributes)
    rest = ctx.node("Mul", ctx.node("Sub", _float(ctx, 1), share), _float(ctx, value))
    return ctx.node("Add", sampled, rest)


def _reflected(ctx: Lowering, x: Value, pixels: Value, aligned: bool) -> Value:
    """Pixels (x, y) folded into the image: about the outermost pixels' centres, or about their edges."""
    extent = _extent(ctx, x)
    last = ctx.node("Sub", extent, _float(ctx, 1))
    low = _float(ctx, 0 if aligned else -0.5)
    span = ctx.node("Max", last, _float(ctx, 1)) if aligned else extent
    distance = ctx.node("Abs", ctx.node("Sub", pixels, low))
    folds = ctx.node("Floor", ctx.node("Div", distance, span))
    rest = ctx.node("Sub", distance, ctx.node("Mul", folds, span))
    odd = ctx.node("Equal", ctx.node("Mod", folds, _float(ctx, 2), fmod=1), _float(ctx, 1))
    inside = ctx.node("Add", ctx.node("Where", odd, ctx.node("Sub", span, rest), rest), low)
    return ctx.node("Min", ctx.node("Max", inside, _float(ctx, 0)), last)
