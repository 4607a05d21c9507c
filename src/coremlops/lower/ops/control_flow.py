"""Branches, loops and lists. Source: coremltools, `ops/defs/iOS15/control_flow.py`.

A list is a tensor with one more axis in front, which grows when an element is written behind its end.
A state that a block writes leaves it as one more result; a loop hands it from turn to turn.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from coremlops.dialects.mil.graph import TensorType
from coremlops.errors import ModelFormatError
from coremlops.lower.constants import as_tensor
from coremlops.lower.context import Lowering
from coremlops.lower.onnx_graph import ONNX_DTYPES, OnnxGraph
from coremlops.lower.registry import Entries, State, Unsupported, Value, Values, lowers
from coremlops.lower.shapes import bounded


@lowers("cond", rounded=True)
def cond(ctx: Lowering, pred: Value) -> Values:
    """What one of two blocks gives. pred: [], bool."""
    count, written = len(_results(ctx)), ctx.written()
    if count + len(written) == 0:
        return ()  # nobody can tell which one was taken
    branches = []
    for index, name in enumerate(("true", "false")):
        with ctx.nested(name) as graph:
            values = ctx.block(index)
            if len(values) != count:
                raise ModelFormatError(f"cond: a branch gives {len(values)} values; expected {count}")
            _leave(ctx, graph, (*values, *_held(ctx, written)))
            branches.append(graph.body())
    found = ctx.nodes("If", count + len(written), pred, then_branch=branches[0], else_branch=branches[1])
    _hold(ctx, written, found[count:])
    return found[:count]


@lowers("while_loop", rounded=True)
def while_loop(ctx: Lowering, loop_vars: Values = ()) -> Values:
    """Block 1, again and again, as long as block 0 says so.

    loop_vars: what both blocks take, and what block 1 gives; any types. ONNX's Loop wants to know beforehand
    whether to go on, so the condition stands before the loop and at the end of its body.
    """
    types, written = _results(ctx), ctx.written()
    if len(types) != len(loop_vars):
        raise ModelFormatError(f"while_loop: {len(loop_vars)} variables and {len(types)} results")
    if len(types) + len(written) == 0:
        return ()
    first = _condition(ctx, loop_vars)
    before = _held(ctx, written)
    with ctx.nested("body") as graph:
        turn, going = graph.reserve("turn"), graph.reserve("going")
        graph.input(turn, TensorType("int64", ()))
        graph.input(going, TensorType("bool", ()))
        inputs = tuple(Value(graph.reserve("variable"), type_) for type_ in types)
        for value, type_ in zip(inputs, types, strict=True):
            graph.input(value.name, TensorType(type_.dtype, None))
        states = tuple(Value(graph.reserve(name)) for name in written)
        for state, value in zip(states, before, strict=True):
            graph.input(state.name, TensorType(value.dtype, None))
        _hold(ctx, written, states)
        values = ctx.block(1, inputs)
        if len(values) != len(types):
            raise ModelFormatError(f"while_loop: the body gives {len(values)} values; expected {len(types)}")
        going_on = _condition(ctx, values)  # which may write states, too
        _leave(ctx, graph, (going_on, *values, *_held(ctx, written)))
        body = graph.body()
    found = ctx.nodes("Loop", len(types) + len(written), None, first, *loop_vars, *before, body=body)
    _hold(ctx, written, found[len(types) :])
    return found[: len(types)]


def _held(ctx: Lowering, names: Sequence[str]) -> Values:
    """What those states hold now."""
    return tuple(ctx.states[name] for name in names)


def _hold(ctx: Lowering, names: Sequence[str], values: Values) -> None:
    """From now on, those states hold `values`, of the types that they have."""
    for name, value in zip(names, values, strict=True):
        ctx.write(State(name), Value(value.name, ctx.states[name].type))


def _condition(ctx: Lowering, values: Values) -> Value:
    found = ctx.block(0, values)
    if len(found) != 1 or found[0].dtype != "bool":
        raise ModelFormatError("while_loop: the condition is no single bool")
    return Value(ctx.node("Reshape", found[0], ctx.ints(())).name, TensorType("bool", ()))


def _results(ctx: Lowering) -> tuple[TensorType, ...]:
    outputs = ctx.operation.outputs if ctx.operation else ()
    types = [as_tensor(output.type) for output in outputs]
    if None in types:
        raise Unsupported("a block with results that are no tensors")
    return tuple(type_ for type_ in types if type_ is not None)


def _leave(ctx: Lowering, graph: OnnxGraph, values: Values) -> None:
    """`values` as the outputs of a nested graph: each a new name, since it may be one from outside."""
    for value in values:
        result = ctx.node("Identity", value)
        # Shapes may change from turn to turn, and from branch to branch.
        graph.output(result.name, TensorType(value.dtype, None))


@lowers("make_list", rounded=True)
def make_list(
    ctx: Lowering,
    init_length: Value | None = None,
    dynamic_length: bool = True,
    elem_shape: Entries = (),
    dtype: str = "fp32",
) -> Value:
    """A list of zeros. `elem_shape`: sizes, or names of sizes that the first element tells."""
    if dtype not in ("bool", "fp16", "fp32", "int32"):
        raise Unsupported(f"a list of {dtype}")
    sizes = [0 if isinstance(entry, str) else entry.ints("elem_shape")[0] for entry in elem_shape]
    if any(size < 0 for size in sizes):
        raise ModelFormatError(f"make_list: elements of the shape {sizes}")
    count = ctx.ints((1,))
    if init_length is not None:
        length = [] if init_length.constant is None else [int(init_length.constant.item())]
        bounded([*length, *sizes], "a list")
        count = ctx.node("Cast", ctx.node("Reshape", init_length, ctx.ints((1,))), to=ONNX_DTYPES["int64"])
    shape = ctx.node("Concat", count, ctx.ints(sizes), axis=0) if sizes else count
    zeros = ctx.node("Expand", ctx.constant(0, np.int32), shape)
    return ctx.cast(zeros, dtype)


@lowers("list_length", rounded=True)
def list_length(ctx: Lowering, ls: Value) -> Value:
    """How many elements there are now -> [], int32."""
    length = ctx.node("Shape", ls, start=0, end=1)
    return ctx.cast(ctx.node("Reshape", length, ctx.ints(())), "int32")


@lowers("list_read", rounded=True)
def list_read(ctx: Lowering, ls: Value, index: Value) -> Value:
    """The element at `index`, [], int32."""
    return ctx.node("Gather", ls, ctx.node("Reshape", index, ctx.ints(())), axis=0)


@lowers("list_gather", rounded=True)
def list_gather(ctx: Lowering, ls: Value, indices: Value) -> Value:
    """The elements at `indices` [k], int32, as one tensor [k, *element]."""
    return ctx.node("Gather", ls, indices, axis=0)


@lowers("list_write", rounded=True)
def list_write(ctx: Lowering, ls: Value, index: Value, value: Value) -> Value:
    """The list with `value` at `index`, [], int32."""
    place = ctx.node("Reshape", index, ctx.ints((1,)))
    return _scatter(ctx, ls, place, ctx.node("Unsqueeze", value, ctx.ints((0,))))


@lowers("list_scatter", rounded=True)
def list_scatter(ctx: Lowering, ls: Value, indices: Value, value: Value) -> Value:
    """The list with the elements of `value` [k, *element] at `indices` [k], int32."""
    return _scatter(ctx, ls, indices, value)


def _scatter(ctx: Lowering, ls: Value, indices: Value, values: Value) -> Value:
    """`ls` with zeros behind its end as far as they are needed, and there the new values."""
    places = ctx.node("Cast", indices, to=ONNX_DTYPES["int64"])
    length = ctx.node("Add", ctx.node("ReduceMax", places, ctx.ints((0,))), ctx.ints((1,)))
    element = ctx.node("Shape", values, start=1)
    wanted = ctx.node("Concat", length, element, axis=0)
    missing = ctx.node("Max", ctx.node("Sub", wanted, ctx.node("Shape", ls)), ctx.ints((0,)))
    nothing = ctx.node("Sub", missing, missing)
    grown = ctx.node("Pad", ls, ctx.node("Concat", nothing, missing, axis=0))
    return ctx.node("ScatterND", grown, ctx.node("Unsqueeze", places, ctx.ints((1,))), values)
