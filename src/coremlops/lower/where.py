"""ONNX's Where for all of MIL's dtypes: a building block."""

from __future__ import annotations

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Value

_BARE = ("bool", "int16", "uint16")  # what ONNX Runtime's Where does not take


def where(ctx: Lowering, condition: Value, chosen: Value, other: Value, dtype: str) -> Value:
    """`chosen` where `condition`, else `other`; both are of the MIL dtype `dtype`."""
    if dtype not in _BARE:
        return ctx.node("Where", condition, chosen, other)
    wide = [ctx.cast(value, "int32") for value in (chosen, other)]
    return ctx.cast(ctx.node("Where", condition, *wide), dtype)
