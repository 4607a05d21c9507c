"""Two tensors, element by element, with NumPy's broadcasting.

Source: coremltools, `ops/defs/iOS15/elementwise_binary.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value, add_rule

# op -> (ONNX op, whether it only picks one of its inputs)
_TABLE = {
    "add": ("Add", False),
    "sub": ("Sub", False),
    "mul": ("Mul", False),
    "maximum": ("Max", True),
    "minimum": ("Min", True),
}


def _plain(onnx_op: str) -> Callable[[Lowering, Value, Value], Value]:
    def rule(ctx: Lowering, x: Value, y: Value) -> Value:
        return ctx.node(onnx_op, x, y)

    rule.__qualname__ = f"elementwise_binary.{onnx_op}"
    return rule


def real_div(ctx: Lowering, x: Value, y: Value) -> Value:
    """x / y. x, y: [*], fp16|fp32 -> their broadcast shape, same dtype."""
    if not ctx.output_type.dtype.startswith("fp"):
        raise Unsupported("a division of integers")
    return ctx.node("Div", x, y)


for _op, (_onnx_op, _moves) in _TABLE.items():
    add_rule(_op, _plain(_onnx_op), moves=_moves)
add_rule("real_div", real_div, moves=False)
