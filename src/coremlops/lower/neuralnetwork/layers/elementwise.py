"""Elementwise layers: one, two or many inputs, comparisons and logic.

Plain ones are rows of a table.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.registry import add_layer_rule, layer
from coremlops.lower.registry import Value

# Layer -> ONNX op. x: [*] -> same shape.
_UNARY = {
    "sin": "Sin",
    "cos": "Cos",
    "tan": "Tan",
    "asin": "Asin",
    "acos": "Acos",
    "atan": "Atan",
    "sinh": "Sinh",
    "cosh": "Cosh",
    "tanh": "Tanh",
    "asinh": "Asinh",
    "acosh": "Acosh",
    "atanh": "Atanh",
    "erf": "Erf",
}
# The same, for those whose result fp16 holds whenever it holds the input.
_UNARY_EXACT = {"ceil": "Ceil", "floor": "Floor", "round": "Round", "sign": "Sign"}

# Layer -> ONNX op of two values that broadcast as in NumPy.
_BINARY = {
    "addBroadcastable": "Add",
    "subtractBroadcastable": "Sub",
    "multiplyBroadcastable": "Mul",
    "divideBroadcastable": "Div",
    "powBroadcastable": "Pow",
    "maxBroadcastable": "Max",
    "minBroadcastable": "Min",
}
# Layer -> ONNX op; with one input the other side is `alpha`. 1.0 where it holds, else 0.0.
_COMPARISONS = {
    "equal": ("Equal", False),
    "notEqual": ("Equal", True),
    "lessThan": ("Less", False),
    "lessEqual": ("LessOrEqual", False),
    "greaterThan": ("Greater", False),
    "greaterEqual": ("GreaterOrEqual", False),
}
# Layer -> ONNX op of two truth values.
_LOGIC = {"logicalAnd": "And", "logicalOr": "Or", "logicalXor": "Xor"}


def _unary(op: str) -> Callable[[NetworkLowering, Value], Value]:
    def rule(ctx: NetworkLowering, x: Value) -> Value:
        return ctx.elementwise(lambda value: ctx.node(op, value), x)

    return rule


def _binary(op: str) -> Callable[[NetworkLowering, Value, Value], Value]:
    def rule(ctx: NetworkLowering, x: Value, y: Value) -> Value:
        return ctx.elementwise(lambda a, b: ctx.node(op, a, b), x, y)

    return rule


def _comparison(op: str, negated: bool) -> Callable[..., Value]:
    def rule(ctx: NetworkLowering, x: Value, y: Value | None = None, *, alpha: float) -> Value:
        found = ctx.node(op, x, y if y is not None else ctx.constant(alpha))
        return ctx.numbers(ctx.node("Not", found) if negated else found)

    return rule


def _logic(op: str) -> Callable[[NetworkLowering, Value, Value], Value]:
    def rule(ctx: NetworkLowering, x: Value, y: Value) -> Value:
        return ctx.numbers(ctx.node(op, ctx.truth(x), ctx.truth(y)))

    return rule


for _kind, _op in _UNARY.items():
    add_layer_rule(_kind, _unary(_op))
for _kind, _op in _UNARY_EXACT.items():
    add_layer_rule(_kind, _unary(_op), moves=True)
for _kind, _op in _BINARY.items():
    add_layer_rule(_kind, _binary(_op), moves=_op in ("Max", "Min"))
for _kind, (_op, _negated) in _COMPARISONS.items():
    add_layer_rule(_kind, _comparison(_op, _negated), moves=True)
for _kind, _op in _LOGIC.items():
    add_layer_rule(_kind, _logic(_op), moves=True)


@layer("logicalNot", moves=True)
def logical_not(ctx: NetworkLowering, x: Value) -> Value:
    """1.0 where x is zero, else 0.0. x: [*] -> same shape."""
    return ctx.numbers(ctx.node("Not", ctx.truth(x)))


@layer("exp2")
def exp2(ctx: NetworkLowering, x: Value) -> Value:
    """2 to the power of x. x: [*] -> same shape."""
    return ctx.node("Pow", ctx.constant(2.0), x)


@layer("clip")
def clip(ctx: NetworkLowering, x: Value, *, minVal: float, maxVal: float) -> Value:
    """min(max(x, minVal), maxVal). x: [*] -> same shape."""
    return ctx.elementwise(lambda v: ctx.node("Clip", v, ctx.constant(minVal), ctx.constant(maxVal)), x)


@layer("unary")
def unary(
    ctx: NetworkLowering,
    x: Value,
    *,
    type: str,
    alpha: float,
    epsilon: float,
    shift: float,
    scale: float,
) -> Value:
    """A function of `scale * x + shift`. x: [*] -> same shape.

    `scale` 0 means 1; `epsilon` (of RSQRT, INVERSE and LOG, as coremltools' tests have it) 0 means 1e-6.
    """
    return ctx.elementwise(
        lambda value: _function(ctx, value, type, alpha, epsilon or 1e-6, shift, scale or 1), x
    )


def _function(
    ctx: NetworkLowering, x: Value, kind: str, alpha: float, epsilon: float, shift: float, scale: float
) -> Value:
    if scale != 1:
        x = ctx.node("Mul", x, ctx.constant(scale))
    if shift:
        x = ctx.node("Add", x, ctx.constant(shift))
    match kind:
        case "SQRT" | "EXP" | "ABS":
            return ctx.node(kind.capitalize(), x)
        case "LOG":
            return ctx.node("Log", ctx.node("Add", x, ctx.constant(epsilon)))
        case "RSQRT":
            return ctx.node("Reciprocal", ctx.node("Sqrt", ctx.node("Add", x, ctx.constant(epsilon))))
        case "INVERSE":
            return ctx.node("Reciprocal", ctx.node("Add", x, ctx.constant(epsilon)))
        case "POWER":
            return ctx.node("Pow", x, ctx.constant(alpha))
        case "THRESHOLD":
            return ctx.node("Max", x, ctx.constant(alpha))
    raise ModelFormatError(f"the unary function {kind}")


@layer("modBroadcastable")
def mod(ctx: NetworkLowering, x: Value, y: Value) -> Value:
    """x - floor(x / y) * y: the remainder has the sign of y. x, y broadcast as in NumPy."""
    return ctx.node("Sub", x, ctx.node("Mul", floor_div(ctx, x, y), y))


@layer("floorDivBroadcastable")
def floor_div(ctx: NetworkLowering, x: Value, y: Value) -> Value:
    """The greatest whole number that is not above x / y. x, y broadcast as in NumPy."""
    return ctx.node("Floor", ctx.node("Div", x, y))


@layer("add")
def add(ctx: NetworkLowering, x: Value, *values: Value, alpha: float) -> Value:
    """The sum of all inputs, which broadcast; of one input and `alpha`."""
    return _many(ctx, "Add", x, values, alpha)


@layer("multiply")
def multiply(ctx: NetworkLowering, x: Value, *values: Value, alpha: float) -> Value:
    """The product of all inputs, which broadcast; of one input and `alpha`."""
    return _many(ctx, "Mul", x, values, alpha)


@layer("average")
def average(ctx: NetworkLowering, x: Value, *values: Value) -> Value:
    """The mean of all inputs, which broadcast."""
    total = _many(ctx, "Add", x, values, 0)
    return ctx.node("Mul", total, ctx.constant(1 / (1 + len(values)), np.float32))


@layer("max", moves=True)
def maximum(ctx: NetworkLowering, x: Value, *values: Value) -> Value:
    """The greatest of all inputs, which broadcast."""
    return ctx.elementwise(lambda *all_: ctx.node("Max", *all_), x, *values)


@layer("min", moves=True)
def minimum(ctx: NetworkLowering, x: Value, *values: Value) -> Value:
    """The least of all inputs, which broadcast."""
    return ctx.elementwise(lambda *all_: ctx.node("Min", *all_), x, *values)


def _many(ctx: NetworkLowering, op: str, x: Value, values: tuple[Value, ...], alpha: float) -> Value:
    if not values:
        return ctx.elementwise(lambda value: ctx.node(op, value, ctx.constant(alpha)), x)

    def function(first: Value, *rest: Value) -> Value:
        for value in rest:
            first = ctx.node(op, first, value)
        return first

    return ctx.elementwise(function, x, *values)


@layer("whereBroadcastable", moves=True)
def where_broadcastable(ctx: NetworkLowering, condition: Value, x: Value, y: Value) -> Value:
    """x where `condition` is not zero, else y; all three broadcast as in NumPy."""
    return ctx.node("Where", ctx.truth(condition), x, y)
