"""Two tensors, element by element, with NumPy's broadcasting.

Source: coremltools, `ops/defs/iOS15/elementwise_binary.py`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Value, add_rule, lowers

# op -> (ONNX op, whether it only picks one of its inputs)
_TABLE = {
    "add": ("Add", False),
    "sub": ("Sub", False),
    "mul": ("Mul", False),
    "pow": ("Pow", False),
    "maximum": ("Max", True),
    "minimum": ("Min", True),
    "equal": ("Equal", False),
    "greater": ("Greater", False),
    "greater_equal": ("GreaterOrEqual", False),
    "less": ("Less", False),
    "less_equal": ("LessOrEqual", False),
    "logical_and": ("And", False),
    "logical_or": ("Or", False),
    "logical_xor": ("Xor", False),
}


def _plain(onnx_op: str) -> Callable[[Lowering, Value, Value], Value]:
    def rule(ctx: Lowering, x: Value, y: Value) -> Value:
        return ctx.node(onnx_op, x, y)

    rule.__qualname__ = f"elementwise_binary.{onnx_op}"
    return rule


for _op, (_onnx_op, _moves) in _TABLE.items():
    add_rule(_op, _plain(_onnx_op), moves=_moves)


@lowers("not_equal")
def not_equal(ctx: Lowering, x: Value, y: Value) -> Value:
    """x != y. x, y: [*], any dtype -> their broadcast shape, bool."""
    return ctx.node("Not", ctx.node("Equal", x, y))


@lowers("real_div")
def real_div(ctx: Lowering, x: Value, y: Value) -> Value:
    """x / y; of integers, truncated (`test_real_div_int_builder_to_backend`), and 0 where y is 0.

    x, y: [*], fp16|fp32|int32 -> their broadcast shape, same dtype.
    """
    if _floats(x) or _divides(y):
        return ctx.node("Div", x, y)
    return integer_div(ctx, x, y)


@lowers("mod")
def mod(ctx: Lowering, x: Value, y: Value) -> Value:
    """The remainder, with the sign of y; of integers 0 where y is 0.

    x, y: [*], fp16|fp32|int32 -> their broadcast shape, same dtype.
    """
    if _floats(x):
        rest, other_side = _remainder(ctx, x, y)
        return ctx.node("Where", other_side, ctx.node("Add", rest, y), rest)
    if _divides(y):
        return ctx.node("Mod", x, y)
    whole = ctx.node("Mul", ctx.node("Floor", _quotient(ctx, x, y)), ctx.cast(y, "fp64"))
    return _integers(ctx, ctx.node("Sub", ctx.cast(x, "fp64"), whole), y)


@lowers("floor_div")
def floor_div(ctx: Lowering, x: Value, y: Value) -> Value:
    """x / y rounded down, as Python does it: 1 // 0.1 is 9, for 0.1 is more than a tenth.

    x, y: [*], fp16|fp32|int32 -> their broadcast shape, same dtype. Integers give 0 where y is 0.
    """
    if not _floats(x):
        return _integers(ctx, ctx.node("Floor", _quotient(ctx, x, y)), y)
    rest, other_side = _remainder(ctx, x, y)
    whole = ctx.node("Round", ctx.node("Div", ctx.node("Sub", x, rest), y))
    less = ctx.node("Sub", whole, ctx.constant(1, np.float32))
    by_zero = ctx.node("Equal", y, ctx.constant(0, np.float32))
    return ctx.node("Where", by_zero, ctx.node("Div", x, y), ctx.node("Where", other_side, less, whole))


def _floats(x: Value) -> bool:
    return x.dtype.startswith("fp")


def _remainder(ctx: Lowering, x: Value, y: Value) -> tuple[Value, Value]:
    """C's fmod, which is exact and has the sign of x, and where that is not the sign of y."""
    zero = ctx.constant(0, np.float32)
    rest = ctx.node("Mod", x, y, fmod=1)
    opposite = ctx.node("Xor", ctx.node("Less", rest, zero), ctx.node("Less", y, zero))
    return rest, ctx.node("And", opposite, ctx.node("Not", ctx.node("Equal", rest, zero)))


def _divides(y: Value) -> bool:
    """Whether the engine may divide integers by y: 0 is an error to it, and -2^31 / -1 kills the process."""
    return y.constant is not None and bool(np.all((y.constant != 0) & (y.constant != -1)))


def _quotient(ctx: Lowering, x: Value, y: Value) -> Value:
    """x / y of int32 in double, which is near enough to the true one to truncate or round it down exactly."""
    return ctx.node("Div", ctx.cast(x, "fp64"), ctx.cast(y, "fp64"))


def integer_div(ctx: Lowering, x: Value, y: Value) -> Value:
    """x / y of int32, truncated, and 0 where y is 0: a building block, safe for all values."""
    return _integers(ctx, _quotient(ctx, x, y), y)


def _integers(ctx: Lowering, result: Value, y: Value) -> Value:
    """`result`, truncated to int32, but 0 where y is 0: a program may mask what it divides by."""
    by_zero = ctx.node("Equal", y, ctx.constant(0, np.int32))
    whole = ctx.cast(ctx.cast(result, "int64"), "int32")  # 2^31 wraps around
    return ctx.node("Where", by_zero, ctx.constant(0, np.int32), whole)
