"""Shapes, some of whose sizes are known at run time alone: building blocks for all rules.

A size that is known is an int and is computed with here; one that is not is a vector of one int64 in the
graph. So a rule is written once, and a graph of known shapes holds no arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from coremlops.errors import ModelFormatError
from coremlops.lower.context import Lowering
from coremlops.lower.registry import Value

Size: TypeAlias = int | Value
MAX_ELEMENTS = 1 << 30  # of a tensor that a file can ask for with a few numbers, such as a fill
MAX_TABLE = 1 << 24  # elements of a constant that is made here from a few numbers

_PYTHON: dict[str, Callable[[int, int], int]] = {
    "Add": lambda x, y: x + y,
    "Sub": lambda x, y: x - y,
    "Mul": lambda x, y: x * y,
    "Div": lambda x, y: x // y,
    "Min": min,
    "Max": max,
}


def size(ctx: Lowering, x: Value, axis: int) -> Size:
    """The size of one axis of x."""
    axis = x.axis(axis)
    known = x.shape[axis]
    return known if known is not None else ctx.node("Shape", x, start=axis, end=axis + 1)


def sizes(ctx: Lowering, x: Value) -> list[Size]:
    """The size of each axis of x."""
    return [size(ctx, x, axis) for axis in range(x.rank)]


def compute(ctx: Lowering, op: str, x: Size, y: Size) -> Size:
    """`x op y`, where op is an ONNX op out of Add, Sub, Mul, Div (of no negative numbers), Min, Max."""
    if isinstance(x, int) and isinstance(y, int):
        return _PYTHON[op](x, y)
    return ctx.node(op, vector(ctx, [x]), vector(ctx, [y]))


def product(ctx: Lowering, factors: Sequence[Size]) -> Size:
    """The product of sizes; 1 of none."""
    total: Size = 1
    for factor in factors:
        total = compute(ctx, "Mul", total, factor)
    return total


def vector(ctx: Lowering, parts: Sequence[Size]) -> Value:
    """The sizes as one vector of int64."""
    if all(isinstance(part, int) for part in parts):
        return ctx.ints(parts)
    values = [part if isinstance(part, Value) else ctx.ints([part]) for part in parts]
    return values[0] if len(values) == 1 else ctx.node("Concat", *values, axis=0)


def scalar(ctx: Lowering, part: Size) -> Value:
    """The size as an int64 of rank 0."""
    if isinstance(part, int):
        return ctx.constant(part, np.int64)
    return ctx.node("Reshape", part, ctx.ints([]))


def reshaped(ctx: Lowering, x: Value, shape: Sequence[Size]) -> Value:
    """x with another shape of equal volume."""
    unknown = [index for index, part in enumerate(shape) if not isinstance(part, int)]
    if len(unknown) == 1 and 0 not in shape:
        shape = [-1 if index == unknown[0] else part for index, part in enumerate(shape)]
        return ctx.node("Reshape", x, vector(ctx, shape))
    return ctx.node("Reshape", x, vector(ctx, shape), allowzero=1)


def longs(ctx: Lowering, value: Value) -> Value:
    """A tensor of integers as int64."""
    if value.constant is not None:
        return ctx.ints(value.constant)
    return ctx.node("Cast", value, to=7)  # TensorProto.INT64


def element(ctx: Lowering, vector_: Value, index: int) -> Size:
    """One element of a vector of int64."""
    if vector_.constant is not None:
        return int(vector_.constant[index])
    return ctx.node("Slice", vector_, ctx.ints([index]), ctx.ints([index + 1]))


def float_range(ctx: Lowering, start: Value, end: Value, step: Value) -> Value:
    """start, start + step, ... before `end`, as float32; all three are floats of rank 0.

    ONNX's Range adds the step up, and with it each rounding: 0.1, ten thousand times, is 0.1 away from 1000.
    """
    first, last, by = (ctx.cast(value, "fp64") for value in (start, end, step))
    count = ctx.node("Squeeze", ctx.node("Shape", ctx.node("Range", first, last, by)))
    places = ctx.node("Range", ctx.constant(0, np.int64), count, ctx.constant(1, np.int64))
    return ctx.cast(ctx.node("Add", first, ctx.node("Mul", ctx.cast(places, "fp64"), by)), "fp32")


def bounded(shape: Sequence[Size], what: str, most: int = MAX_ELEMENTS) -> None:
    """Raise ModelFormatError for a shape that holds absurdly many elements, before one is allocated."""
    known = [part for part in shape if isinstance(part, int)]
    if any(part < 0 for part in known) or math.prod(known) > most:
        raise ModelFormatError(f"{what} of shape {tuple(known)}; at most {most} elements")


def filled(ctx: Lowering, shape: Sequence[int | None], value: float) -> Value:
    """A constant of float32 that holds one value everywhere. Raises ModelFormatError for an absurd shape."""
    sizes = [part or 0 for part in shape]
    bounded(sizes, "a constant", MAX_TABLE)
    return ctx.constant(np.full(sizes, value, np.float32))
