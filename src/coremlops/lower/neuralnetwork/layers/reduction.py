"""Reductions along axes, and the place of the greatest and the least."""

from __future__ import annotations

from collections.abc import Callable

from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.registry import add_layer_rule, layer
from coremlops.lower.registry import Ints, Unsupported, Value

# Layer -> ONNX op.
_REDUCTIONS = {
    "reduceL1": "ReduceL1",
    "reduceL2": "ReduceL2",
    "reduceMax": "ReduceMax",
    "reduceMin": "ReduceMin",
    "reduceSum": "ReduceSum",
    "reduceProd": "ReduceProd",
    "reduceMean": "ReduceMean",
    "reduceLogSum": "ReduceLogSum",
    "reduceSumSquare": "ReduceSumSquare",
    "reduceLogSumExp": "ReduceLogSumExp",
}
# What the older layer `reduce` calls them, and its axes.
_MODES = {
    "SUM": "ReduceSum",
    "AVG": "ReduceMean",
    "PROD": "ReduceProd",
    "SUMSQUARE": "ReduceSumSquare",
    "L1": "ReduceL1",
    "L2": "ReduceL2",
    "MAX": "ReduceMax",
    "MIN": "ReduceMin",
}
_AXES = {"CHW": (-3, -2, -1), "HW": (-2, -1), "C": (-3,), "H": (-2,), "W": (-1,)}


def _reduction(op: str) -> Callable[..., Value]:
    def rule(ctx: NetworkLowering, x: Value, *, axes: Ints, keepDims: bool, reduceAll: bool) -> Value:
        chosen = tuple(range(x.rank)) if reduceAll or not axes else tuple(x.axis(axis) for axis in axes)
        return ctx.at_least_1d(reduced(ctx, op, x, chosen, keepDims))

    return rule


for _kind, _op in _REDUCTIONS.items():
    add_layer_rule(_kind, _reduction(_op), moves=_op in ("ReduceMax", "ReduceMin"))


def reduced(ctx: NetworkLowering, op: str, x: Value, axes: Ints, keep: bool = True) -> Value:
    """A reduction over constant axes."""
    return ctx.node(op, x, ctx.ints(axes), keepdims=int(keep))


@layer("reduce")
def reduce(ctx: NetworkLowering, x: Value, *, mode: str, epsilon: float, axis: str) -> Value:
    """A reduction over channels, height, width or several of them. x: [..., C, H, W] -> those axes are 1.

    `epsilon` (of LOGSUM) 0 means 1e-6.
    """
    axes = _AXES[axis]
    if mode == "ARGMAX":
        if len(axes) > 1:
            raise Unsupported(f"ARGMAX along {axis}: one place in several axes; the format means C, H or W")
        return ctx.numbers(ctx.node("ArgMax", x, axis=axes[0], keepdims=1))
    if mode == "LOGSUM":
        return reduced(
            ctx, "ReduceSum", ctx.node("Log", ctx.node("Add", x, ctx.constant(epsilon or 1e-6))), axes
        )
    return reduced(ctx, _MODES[mode], x, axes)


@layer("argMax")
def arg_max(ctx: NetworkLowering, x: Value, *, axis: int, removeDim: bool) -> Value:
    """The index of the greatest along an axis, the first when there are several."""
    return ctx.at_least_1d(ctx.numbers(ctx.node("ArgMax", x, axis=axis, keepdims=int(not removeDim))))


@layer("argMin")
def arg_min(ctx: NetworkLowering, x: Value, *, axis: int, removeDim: bool) -> Value:
    """The index of the least along an axis, the first when there are several."""
    return ctx.at_least_1d(ctx.numbers(ctx.node("ArgMin", x, axis=axis, keepdims=int(not removeDim))))


@layer("cumSum")
def cum_sum(
    ctx: NetworkLowering,
    x: Value,
    axis_value: Value | None = None,
    *,
    axis: int,
    excludeFinalSum: bool,
    reverse: bool,
) -> Value:
    """Sums of everything up to each element along an axis (`excludeFinalSum`: without itself)."""
    if axis_value is not None:
        along = ctx.reshape(ctx.integers(axis_value), [])
    else:
        along = ctx.constant(x.axis(axis), "int64")
    return ctx.node("CumSum", x, along, exclusive=int(excludeFinalSum), reverse=int(reverse))
