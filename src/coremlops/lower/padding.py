"""Padding in Apple's words, as ONNX wants it: a building block for convolutions and pools."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from coremlops.errors import ModelFormatError
from coremlops.lower.context import Lowering
from coremlops.lower.registry import Ints, Unsupported, Value

MAX_PADDED = 1 << 31  # elements of one channel with its padding


def spatial_padding(
    pad_type: str,
    pad: Ints | None,
    *,
    input_sizes: Sequence[int | None],
    kernel: Ints,
    strides: Ints,
    dilations: Ints,
) -> Ints | None:
    """What is added before each axis, then what is added after each; None when run-time sizes decide.

    `pad` is Apple's: before and after each axis in turn, used when `pad_type` is `custom` alone. `same` gives
    `ceil(input / stride)` results; an odd padding has its extra element after (`same_lower`: before).
    Source: coremltools, `ops/defs/_utils.py`, `aggregated_pad`.
    """
    axes = len(kernel)
    if len(strides) != axes or len(dilations) != axes or (pad is not None and len(pad) != 2 * axes):
        raise ModelFormatError(
            f"a window of {axes} axes with strides {strides}, dilations {dilations} and pad {pad}; expected "
            f"{axes}, {axes} and {2 * axes} numbers"
        )
    if any(value < 1 for value in (*strides, *dilations, *kernel)) or any(value < 0 for value in pad or ()):
        raise ModelFormatError(
            f"a window of {kernel} with strides {strides}, dilations {dilations}, pad {pad}"
        )
    pads = _pads(pad_type.lower(), pad, input_sizes, kernel, strides, dilations)
    if pads is not None:
        padded = [(size or 1) + pads[i] + pads[i + axes] for i, size in enumerate(input_sizes)]
        if math.prod(padded) > MAX_PADDED:
            raise ModelFormatError(f"an input padded to {padded}")
    return pads


def _pads(
    pad_type: str,
    pad: Ints | None,
    input_sizes: Sequence[int | None],
    kernel: Ints,
    strides: Ints,
    dilations: Ints,
) -> Ints | None:
    match pad_type:
        case "valid":
            return (0,) * (2 * len(kernel))
        case "custom":
            given = pad or (0,) * (2 * len(kernel))
            return (*given[0::2], *given[1::2])
        case "same" | "same_lower":
            totals = []
            for size, width, stride, dilation in zip(input_sizes, kernel, strides, dilations, strict=True):
                reach = (width - 1) * dilation + 1
                if stride == 1:
                    totals.append(reach - 1)
                elif size is None:
                    return None
                else:
                    totals.append(max(0, (-(-size // stride) - 1) * stride + reach - size))
            less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
            return (*less, *more) if pad_type == "same" else (*more, *less)
    raise Unsupported(f"pad_type {pad_type!r}")


def same_padding_at_run_time(
    ctx: Lowering, sizes: Value, kernel: Ints, strides: Ints, dilations: Ints, *, lower: bool
) -> tuple[Value, Value]:
    """What `same` (or, when `lower`, `same_lower`) adds before and after axes of `sizes`, int64 [axes]."""
    reach = ctx.ints([(width - 1) * dilation + 1 for width, dilation in zip(kernel, dilations, strict=True)])
    steps = ctx.ints(strides)
    last = ctx.node("Mul", ctx.node("Div", ctx.node("Sub", sizes, ctx.ints((1,))), steps), steps)
    total = ctx.node("Max", ctx.node("Sub", ctx.node("Add", last, reach), sizes), ctx.ints((0,)))
    less = ctx.node("Div", total, ctx.ints((2,)))
    more = ctx.node("Sub", total, less)
    return (more, less) if lower else (less, more)


def pad_spatially(ctx: Lowering, x: Value, before: Value, after: Value, fill: float) -> Value:
    """x [n, C, *D] with its spatial axes made longer by int64 [axes] before and after each."""
    kept = ctx.ints((0, 0))
    amounts = ctx.node("Concat", kept, before, kept, after, axis=0)
    return ctx.node("Pad", x, amounts, ctx.constant(fill, np.float32), mode="constant")


def padded_or_pads(
    ctx: Lowering, x: Value, pad_type: str, pad: Ints | None, kernel: Ints, strides: Ints, dilations: Ints
) -> tuple[Value, Ints]:
    """x [n, C, *D] and a convolution's attribute `pads`; where run-time sizes decide, x itself is padded."""
    pads = spatial_padding(
        pad_type, pad, input_sizes=x.shape[2:], kernel=kernel, strides=strides, dilations=dilations
    )
    if pads is not None:
        return x, pads
    lower = pad_type.lower() == "same_lower"
    sizes = ctx.node("Shape", x, start=2)
    before, after = same_padding_at_run_time(ctx, sizes, kernel, strides, dilations, lower=lower)
    return pad_spatially(ctx, x, before, after, 0), (0,) * (2 * len(kernel))
