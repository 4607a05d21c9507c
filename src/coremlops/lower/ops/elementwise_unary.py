"""One tensor, element by element.

Source: coremltools, `ops/defs/iOS15/elementwise_unary.py`, `iOS17/elementwise_unary.py`. ONNX Runtime
approximates Tanh to about 3e-7 and Erf to about 6e-8, absolute; the others are right to a unit or two in the
last place of float32.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from coremlops.dialects.mil.graph import NUMPY_DTYPES
from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value, add_rule, lowers

# op -> (ONNX op, whether rounding its input to fp16 may as well be done after it). What jumps (floor, sign)
# may not: a value just below a jump can round to the other side of it.
_TABLE = {
    "abs": ("Abs", True),
    "acos": ("Acos", False),
    "asin": ("Asin", False),
    "atan": ("Atan", False),
    "atanh": ("Atanh", False),
    "ceil": ("Ceil", False),
    "cos": ("Cos", False),
    "cosh": ("Cosh", False),
    "erf": ("Erf", False),
    "exp": ("Exp", False),
    "floor": ("Floor", False),
    "logical_not": ("Not", False),
    "round": ("Round", False),  # halves to the even neighbour, as NumPy does
    "sign": ("Sign", False),
    "sin": ("Sin", False),
    "sinh": ("Sinh", False),
    "sqrt": ("Sqrt", False),
    "tan": ("Tan", False),
    "tanh": ("Tanh", False),
}
_FLOATS = ("fp16", "fp32")
_NARROW = ("int8", "uint8", "int16", "uint16")


def _plain(onnx_op: str) -> Callable[[Lowering, Value], Value]:
    def rule(ctx: Lowering, x: Value) -> Value:
        return ctx.node(onnx_op, x)

    rule.__qualname__ = f"elementwise_unary.{onnx_op}"
    return rule


for _op, (_onnx_op, _moves) in _TABLE.items():
    add_rule(_op, _plain(_onnx_op), moves=_moves)


@lowers("cast", moves=True)
def cast(ctx: Lowering, x: Value, dtype: str) -> Value:
    """x as another dtype; a float becomes an integer by truncation. x: [*] -> same shape.

    What a narrow integer cannot hold wraps around, as in NumPy.
    """
    if dtype not in NUMPY_DTYPES:
        raise Unsupported(f"to {dtype!r}")
    if x.dtype == dtype or (x.dtype in _FLOATS and dtype in _FLOATS):
        # Both are float32 here; the declared type of the result decides whether it is rounded.
        return x
    if x.dtype in _FLOATS and dtype in _NARROW:  # C++ leaves this conversion open, so it is done in two steps
        return ctx.cast(ctx.cast(x, "int32"), dtype)
    return ctx.cast(x, dtype)


@lowers("clip", moves=True)
def clip(ctx: Lowering, x: Value, alpha: float, beta: float) -> Value:
    """min(max(x, alpha), beta). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Clip", x, ctx.constant(alpha, np.float32), ctx.constant(beta, np.float32))


@lowers("threshold", moves=True)
def threshold(ctx: Lowering, x: Value, alpha: Value) -> Value:
    """max(x, alpha). x: [*], fp16|fp32|int32; alpha: [] -> same shape and dtype as x."""
    return ctx.node("Max", x, alpha)


@lowers("exp2")
def exp2(ctx: Lowering, x: Value) -> Value:
    """2 to the power of x. x: [*], fp16|fp32|int32 -> same shape and dtype, of integers without fractions."""
    if x.dtype in _FLOATS:
        return ctx.node("Pow", ctx.constant(2, np.float32), x)
    return ctx.cast(ctx.node("Pow", ctx.constant(2, np.float32), ctx.cast(x, "fp32")), x.dtype)


@lowers("square")
def square(ctx: Lowering, x: Value) -> Value:
    """x * x. x: [*], fp16|fp32|int32 -> same shape and dtype."""
    return ctx.node("Mul", x, x)


@lowers("inverse")
def inverse(ctx: Lowering, x: Value, epsilon: float | None = None) -> Value:
    """1 / (x + epsilon); epsilon is 1e-4 by default. x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Reciprocal", _raised(ctx, x, epsilon, 1e-4))


@lowers("log")
def log(ctx: Lowering, x: Value, epsilon: float | None = None) -> Value:
    """The natural logarithm of x + epsilon, 1e-45 by default. x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Log", _raised(ctx, x, epsilon, 1e-45))


@lowers("rsqrt")
def rsqrt(ctx: Lowering, x: Value, epsilon: float | None = None) -> Value:
    """1 / sqrt(x + epsilon), 1e-12 by default. x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Reciprocal", ctx.node("Sqrt", _raised(ctx, x, epsilon, 1e-12)))


def _raised(ctx: Lowering, x: Value, epsilon: float | None, default: float) -> Value:
    """x + epsilon. The default is what x's dtype can hold of it: nothing, of 1e-45 in fp16."""
    if epsilon is None:
        epsilon = float(NUMPY_DTYPES[x.dtype].type(default))
    return x if epsilon == 0 else ctx.node("Add", x, ctx.constant(epsilon, np.float32))


@lowers("identity", moves=True)
def identity(ctx: Lowering, x: Value) -> Value:
    """x. x: [*] -> same shape and dtype."""
    return x
