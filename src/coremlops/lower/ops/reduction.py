"""Reductions. Source: coremltools, `ops/defs/iOS15/reduction.py`."""

from __future__ import annotations

from collections.abc import Callable

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Ints, Value, add_rule

# op -> (ONNX op, whether it only picks one of its inputs)
_TABLE = {
    "reduce_mean": ("ReduceMean", False),
    "reduce_sum": ("ReduceSum", False),
    "reduce_max": ("ReduceMax", True),
}


def _plain(onnx_op: str) -> Callable[..., Value]:
    def rule(ctx: Lowering, x: Value, axes: Ints | None = None, keep_dims: bool = False) -> Value:
        if axes == ():  # over no axis: each of these is the value itself, and ONNX would take all axes
            return x
        return ctx.node(onnx_op, x, None if axes is None else ctx.ints(axes), keepdims=int(keep_dims))

    rule.__qualname__ = f"reduction.{onnx_op}"
    return rule


for _op, (_onnx_op, _moves) in _TABLE.items():
    add_rule(_op, _plain(_onnx_op), moves=_moves)
