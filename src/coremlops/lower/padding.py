"""Padding in Apple's words, as ONNX wants it: a building block for convolutions and pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coremlops.errors import ModelFormatError
from coremlops.lower.registry import Ints, Unsupported


def spatial_padding(
    pad_type: str,
    pad: Ints | None,
    *,
    input_sizes: Sequence[int | None],
    kernel: Ints,
    strides: Ints,
    dilations: Ints,
) -> dict[str, Any]:
    """The ONNX attributes `pads` or `auto_pad`.

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
    match pad_type:
        case "valid":
            return {"pads": (0,) * (2 * axes)}
        case "custom":
            given = pad or (0,) * (2 * axes)
            return {"pads": (*given[0::2], *given[1::2])}
        case "same" | "same_lower":
            if any(size is None for size in input_sizes):
                return {"auto_pad": "SAME_UPPER" if pad_type == "same" else "SAME_LOWER"}
            totals = []
            for size, width, stride, dilation in zip(input_sizes, kernel, strides, dilations, strict=True):
                known = size or 0
                reach = (width - 1) * dilation + 1
                totals.append(max(0, (-(-known // stride) - 1) * stride + reach - known))
            less, more = [total // 2 for total in totals], [total - total // 2 for total in totals]
            return {"pads": (*less, *more) if pad_type == "same" else (*more, *less)}
    raise Unsupported(f"pad_type {pad_type!r}")
