"""The same values in another shape or order.

Source: coremltools, `ops/defs/iOS15/tensor_transformation.py`, `iOS17/tensor_transformation.py`.
"""

from __future__ import annotations

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Ints, Unsupported, Value, lowers


@lowers("reshape", moves=True)
def reshape(ctx: Lowering, x: Value, shape: Value) -> Value:
    """x with another shape of equal volume; -1 is inferred, 0 copies the axis of x counted from the right.

    x: [*], any dtype -> same dtype. A declared result shape that is known wins: it is what all versions of
    the op agree on.
    """
    declared = ctx.output_type.shape
    if declared is not None and None not in declared:
        return ctx.node("Reshape", x, ctx.ints(declared), allowzero=1)
    sizes = shape.ints("shape")
    if 0 in sizes:
        raise Unsupported("a shape with 0 over sizes known at run time alone")
    return ctx.node("Reshape", x, ctx.ints(sizes))


@lowers("transpose", moves=True)
def transpose(ctx: Lowering, x: Value, perm: Ints) -> Value:
    """x with its axes in the order `perm`. x: [*], any dtype -> same dtype."""
    return ctx.node("Transpose", x, perm=tuple(x.axis(axis) for axis in perm))


@lowers("squeeze", moves=True)
def squeeze(ctx: Lowering, x: Value, axes: Ints | None = None) -> Value:
    """x without its axes of size 1: those named, or all. Named axes of another size stay, as in PyTorch."""
    shape = x.shape
    named = range(x.rank) if axes is None else map(x.axis, axes)
    single = sorted({axis for axis in named if shape[axis] == 1})
    return ctx.node("Squeeze", x, ctx.ints(single)) if single else x


@lowers("expand_dims", moves=True)
def expand_dims(ctx: Lowering, x: Value, axes: Ints) -> Value:
    """x with axes of size 1 that stand at `axes` of the result. x: [*], any dtype -> same dtype."""
    return ctx.node("Unsqueeze", x, ctx.ints(axes))
