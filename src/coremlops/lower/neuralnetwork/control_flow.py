"""Branches and loops, whose networks share all values by name with what is around them.

ONNX's If and Loop have explicit results, so the names that an inner network assigns become results. After a
`loopBreak` or `loopContinue` nothing of the body follows: when one stands inside a branch, what follows the
branch is lowered into its sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from onnx import helper

from coremlops.dialects.mil.graph import TensorType
from coremlops.dialects.neuralnetwork import Layer, Network
from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.registry import Unsupported, Value

Values: TypeAlias = dict[str, Value]

BREAK = "\0break"  # the name of a value that says whether the loop has been left; no layer can have it
THRESHOLD = 1e-6  # a condition holds when its absolute value is greater
MAX_ROUNDS = 8  # of looking for the shapes that a loop's values have in every iteration
_JUMPS = ("loopBreak", "loopContinue")


class Lowerer(Protocol):
    """Lowers layers in order; what `network` does."""

    ctx: NetworkLowering
    wanted: frozenset[str]

    def run(self, layers: Sequence[Layer], values: Values) -> None:
        """Lower `layers`, which read and assign `values`."""
        ...


def holds(ctx: NetworkLowering, condition: Value) -> Value:
    """A truth value without axes, from a value of one element; of several the first counts.

    The format wants one. coremltools' tests have models with more of them, which Apple's framework runs.
    """
    shape = condition.type.shape if condition.type is not None else None
    if shape is None or any(axis != 1 for axis in shape):
        flat = ctx.reshape(condition, [-1])
        condition = ctx.node("Slice", flat, ctx.ints((0,)), ctx.ints((1,)), ctx.ints((0,)))
    size = ctx.node("Abs", ctx.reshape(condition, []))
    return ctx.node("Greater", size, ctx.constant(THRESHOLD))


def jumps(layer: Layer) -> bool:
    """Whether a branch holds a jump out of the loop around it."""
    if layer.kind in _JUMPS:
        return True
    return layer.kind == "branch" and any(jumps(entry) for inner in layer.networks for entry in inner.layers)


def lower_branch(lowerer: Lowerer, layer: Layer, rest: Sequence[Layer], values: Values) -> None:
    """Lower a branch, and `rest` inside either side of it."""
    ctx = lowerer.ctx
    if len(layer.inputs) != 1 or layer.inputs[0] not in values:
        raise ModelFormatError(f"branch ({layer.name}): one input expected, which is known there")
    condition = holds(ctx, values[layer.inputs[0]])
    sides: list[tuple[list[Any], Values]] = []
    for name in ("ifBranch", "elseBranch"):
        inner = layer.fields[name]
        layers = (*(inner.layers if isinstance(inner, Network) else ()), *rest)
        found = dict(values)
        with ctx.subgraph() as nodes:
            lowerer.run(layers, found)
        sides.append((nodes, found))
    changed = sorted(
        name
        for name in {*sides[0][1], *sides[1][1]}
        if any(found.get(name) is not values.get(name) for _, found in sides)
        and (name in lowerer.wanted or name == BREAK)
    )
    ctx.label = layer.name or "branch"
    types = {name: _merged([found[name].type for _, found in sides if name in found]) for name in changed}
    bodies = [_side(ctx, nodes, found, changed, types) for nodes, found in sides]
    if not changed:
        return
    results = ctx.nodes("If", len(changed), condition, then_branch=bodies[0], else_branch=bodies[1])
    for name, result in zip(changed, results, strict=True):
        values[name] = Value(result.name, types[name])


def _side(
    ctx: NetworkLowering, nodes: list[Any], found: Values, names: Sequence[str], types: dict[str, TensorType]
) -> Any:
    with ctx.subgraph() as last:
        # What a side does not assign is never read when that side was taken: zeros stand for it.
        outputs = [
            ctx.node("Identity", found[name] if name in found else placeholder(ctx, types[name]))
            for name in names
        ]
    return helper.make_graph([*nodes, *last], ctx.graph.reserve("side"), [], [ctx.info(v) for v in outputs])


def placeholder(ctx: NetworkLowering, type_: TensorType) -> Value:
    """Zeros of a type; an axis that is not known has one element."""
    sizes = [size if size is not None else 1 for size in type_.shape or ()]
    return ctx.node("Expand", ctx.constant(0.0), ctx.ints(sizes))


def _merged(types: Sequence[TensorType | None]) -> TensorType:
    """What is known of a value that has one of these types."""
    shapes = [type_.shape if type_ is not None else None for type_ in types]
    first = shapes[0]
    if first is None or any(shape is None or len(shape) != len(first) for shape in shapes):
        return TensorType("fp32", None)
    known = zip(*(shape or () for shape in shapes), strict=True)
    return TensorType("fp32", tuple(sizes[0] if len(set(sizes)) == 1 else None for sizes in known))


def lower_loop(lowerer: Lowerer, layer: Layer, values: Values) -> None:
    """Lower a loop: over a count, while a condition holds, or both."""
    ctx, body = lowerer.ctx, layer.fields["bodyNetwork"]
    variable = layer.fields["conditionVar"]
    test = layer.fields["conditionNetwork"] if variable else None  # a network without one says nothing
    if not isinstance(body, Network) or len(layer.inputs) > 1:
        raise ModelFormatError(f"loop ({layer.name}): a body and at most one input expected")
    limit: Value | None = None
    if layer.inputs:
        if layer.inputs[0] not in values:
            raise ModelFormatError(f"loop ({layer.name}): its input {layer.inputs[0]!r} is not known there")
        limit = ctx.reshape(ctx.integers(values[layer.inputs[0]]), [])
    elif layer.fields["maxLoopIterations"] or not isinstance(test, Network):
        limit = ctx.reshape(ctx.ints([layer.fields["maxLoopIterations"]]), [])
    start = ctx.constant(True, "bool")
    conditions: Sequence[Layer] = ()
    if isinstance(test, Network):
        conditions = test.layers
        lowerer.run(conditions, values)
        start = _condition(ctx, layer, variable, values)
    assigned = {
        name
        for inner in (body, *((test,) if test else ()))
        for entry in inner.walk()
        for name in entry.outputs
    }
    carried = sorted(assigned & lowerer.wanted)
    if not carried:  # nobody sees what it does
        return
    types: dict[str, TensorType] = {name: _merged([values[name].type]) for name in carried if name in values}
    for _ in range(MAX_ROUNDS):
        graph, after = _body(lowerer, layer, body, conditions, carried, types, values)
        found = {
            name: _merged([after[name].type, *([types[name]] if name in types else [])]) for name in carried
        }
        if found == types:
            break
        types = found
    else:
        raise Unsupported("a loop whose values have another shape each time")
    ctx.label = layer.name or "loop"
    initial = [values[name] if name in values else placeholder(ctx, types[name]) for name in carried]
    results = ctx.nodes("Loop", len(carried), limit, start, *initial, body=graph)
    for name, result in zip(carried, results, strict=True):
        values[name] = Value(result.name, types[name])


def _condition(ctx: NetworkLowering, layer: Layer, variable: str, values: Values) -> Value:
    if variable not in values:
        raise ModelFormatError(f"loop ({layer.name}): its condition {variable!r} is not computed")
    return holds(ctx, values[variable])


def _body(
    lowerer: Lowerer,
    layer: Layer,
    body: Network,
    conditions: Sequence[Layer],
    carried: Sequence[str],
    types: dict[str, TensorType],
    values: Values,
) -> tuple[Any, Values]:
    """The body of the ONNX Loop when its values begin with these types, and the values after it."""
    ctx = lowerer.ctx
    ctx.label = layer.name or "loop"
    found = dict(values)
    formals = []
    for name in carried:
        shape = types[name].shape if name in types else None
        formal = ctx.untyped() if shape is None else ctx.formal(*shape)
        formals.append(formal)
        if name in types:
            found[name] = formal
    iteration, running = ctx.formal(dtype="int64"), ctx.formal(dtype="bool")
    found[BREAK] = ctx.constant(0.0)
    with ctx.subgraph() as nodes:
        lowerer.run(body.layers, found)
        go_on = ctx.node("Identity", ctx.constant(True, "bool"))
        if conditions:
            lowerer.run(conditions, found)
            go_on = _condition(ctx, layer, layer.fields["conditionVar"], found)
        stopped = found.pop(BREAK)
        if stopped.constant is None or stopped.constant.item() != 0:
            go_on = ctx.node("And", go_on, ctx.node("Not", holds(ctx, stopped)))
        missing = [name for name in carried if name not in found]
        if missing:
            raise ModelFormatError(f"loop ({layer.name}): {missing[0]!r} is not computed on every way")
        outputs = [ctx.node("Identity", found[name]) for name in carried]
    graph = helper.make_graph(
        list(nodes),
        ctx.graph.reserve("body"),
        [ctx.info(value) for value in (iteration, running, *formals)],
        [ctx.info(value) for value in (go_on, *outputs)],
    )
    return graph, found
