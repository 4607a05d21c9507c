"""One of two tensors, element by element. Source: coremltools, `ops/defs/iOS15/control_flow.py`."""

from __future__ import annotations

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Value, lowers
from coremlops.lower.where import where


@lowers("select", moves=True)
def select(ctx: Lowering, cond: Value, a: Value, b: Value) -> Value:
    """`a` where `cond`, else `b`, all three broadcast.

    cond: [*], bool; a, b: [*], any dtype -> same dtype.
    """
    return where(ctx, cond, a, b, ctx.output_type.dtype)
