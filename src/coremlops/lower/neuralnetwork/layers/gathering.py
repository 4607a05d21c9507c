"""Layers that take elements from places, and put them into places, that are inputs."""

from __future__ import annotations

from collections.abc import Callable

from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.registry import Value

_REDUCTIONS = {
    "SCATTER_UPDATE": "none",
    "SCATTER_ADD": "add",
    "SCATTER_SUB": "add",
    "SCATTER_MUL": "mul",
    "SCATTER_DIV": "mul",
    "SCATTER_MAX": "max",
    "SCATTER_MIN": "min",
}


@layer("gather", moves=True)
def gather(ctx: NetworkLowering, x: Value, indices: Value, *, axis: int) -> Value:
    """The slices of an axis at those indices; negative ones count from the end."""
    return ctx.node("Gather", x, ctx.integers(indices), axis=axis)


@layer("gatherND", moves=True)
def gather_nd(ctx: NetworkLowering, x: Value, indices: Value) -> Value:
    """The elements or slices at those places; the last axis of `indices` is a place."""
    return ctx.node("GatherND", x, ctx.integers(indices))


@layer("gatherAlongAxis", moves=True)
def gather_along_axis(ctx: NetworkLowering, x: Value, indices: Value, *, axis: int) -> Value:
    """For each place of `indices` the element there with the index along the axis replaced."""
    return ctx.node("GatherElements", x, ctx.integers(indices), axis=axis)


@layer("scatter")
def scatter(ctx: NetworkLowering, x: Value, indices: Value, updates: Value, *, axis: int, mode: str) -> Value:
    """x with slices of an axis replaced by those of `updates`, or joined with them as `mode` says.

    updates: the shape of x with that of `indices` in place of the axis.
    """
    place = x.axis(axis)
    order = [place, *(other for other in range(x.rank) if other != place)]
    back = [order.index(other) for other in range(x.rank)]
    count = indices.rank
    wide = [*range(place, place + count), *range(place), *range(place + count, x.rank - 1 + count)]
    places = ctx.node("Unsqueeze", ctx.integers(indices), ctx.ints([-1]))
    result = _scattered(
        ctx,
        ctx.transpose(x, order),
        ctx.transpose(updates, wide),
        mode,
        lambda data, values, how: ctx.node("ScatterND", data, places, values, reduction=how),
    )
    return ctx.transpose(result, back)


@layer("scatterND")
def scatter_nd(ctx: NetworkLowering, x: Value, indices: Value, updates: Value, *, mode: str) -> Value:
    """x with the elements or slices at places replaced, or joined; the last axis of `indices` is a place."""
    places = ctx.integers(indices)
    return _scattered(
        ctx,
        x,
        updates,
        mode,
        lambda data, values, how: ctx.node("ScatterND", data, places, values, reduction=how),
    )


@layer("scatterAlongAxis")
def scatter_along_axis(
    ctx: NetworkLowering, x: Value, indices: Value, updates: Value, *, axis: int, mode: str
) -> Value:
    """x with elements replaced, or joined: at their places, but with `indices` along the axis."""
    places = ctx.integers(indices)
    return _scattered(
        ctx,
        x,
        updates,
        mode,
        lambda data, values, how: ctx.node("ScatterElements", data, places, values, axis=axis, reduction=how),
    )


def _scattered(
    ctx: NetworkLowering,
    x: Value,
    updates: Value,
    mode: str,
    put: Callable[[Value, Value, str], Value],
) -> Value:
    """ONNX has no difference and no quotient: what is taken away is added up, what divides is multiplied."""
    how = _REDUCTIONS[mode]
    if mode == "SCATTER_SUB":
        return put(x, ctx.node("Neg", updates), how)
    if mode == "SCATTER_DIV":
        ones = ctx.node("Expand", ctx.constant(1.0), ctx.shape_vector(x))
        return ctx.node("Div", x, put(ones, updates, how))
    return put(x, updates, how)
