"""Tensors to 8 bits and back. Source: coremltools, `ops/defs/iOS17/quantization_ops.py`."""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value, lowers


@lowers("quantize")
def quantize(
    ctx: Lowering,
    input: Value,
    scale: Value,
    output_dtype: str,
    zero_point: Value | None = None,
    axis: int | None = None,
) -> Value:
    """clip(round(input / scale) + zero_point), half to even.

    input: [*], fp16|fp32; scale, zero_point: [] or [n] along `axis` -> [*], int8|uint8.
    """
    if output_dtype not in ("int8", "uint8"):
        raise Unsupported(f"a quantization to {output_dtype}")
    zeros = _zeros(ctx, scale, zero_point, np.dtype(output_dtype))
    return ctx.node("QuantizeLinear", input, scale, zeros, axis=_axis(input, axis))


@lowers("dequantize")
def dequantize(
    ctx: Lowering, input: Value, scale: Value, zero_point: Value | None = None, axis: int | None = None
) -> Value:
    """scale * (input - zero_point).

    input: [*], int8|uint8; scale, zero_point: [] or [n] along `axis` -> [*], the scale's dtype.
    """
    if input.dtype not in ("int8", "uint8"):
        raise Unsupported(f"a dequantization of {input.dtype}")
    zeros = _zeros(ctx, scale, zero_point, np.dtype(input.dtype))
    return ctx.node("DequantizeLinear", input, scale, zeros, axis=_axis(input, axis))


def _zeros(ctx: Lowering, scale: Value, zero_point: Value | None, dtype: np.dtype[np.generic]) -> Value:
    if scale.constant is None:
        raise Unsupported("a scale known at run time alone")
    return zero_point or ctx.constant(np.zeros(scale.constant.shape, dtype))


def _axis(value: Value, axis: int | None) -> int | None:
    return None if axis is None else value.axis(axis)
