"""Two estimates over a whole function: how often work changes hands, and how much memory its values take."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from coremlops.dialects.neuralnetwork import Layer
from coremlops.lint.subject import Body, Op, is_open, size_bytes


@dataclass(frozen=True, slots=True)
class Segments:
    """How a part could be cut: `ops` that compute, `outside` those with a risk, `segments` pieces in all."""

    ops: int
    outside: int
    segments: int


def segments_of(body: Body, outside: Collection[str]) -> Segments:
    """An estimate for a function whose ops named in `outside` leave the Neural Engine.

    Ops of one side run as long as any of them is ready, then the other side's: with the better of both sides
    first, that is a cut with few pieces. What lies in blocks belongs to the op that holds them.
    """
    ops = [op for op in body.ops if op.depth == 0 and not op.type.startswith("constexpr_")]
    makers = {entry.name: index for index, op in enumerate(ops) for entry in op.operation.outputs}
    needs = [{makers[name] for name in _all_refs(op) if name in makers} for op in ops]
    return _cut([op.name in outside for op in ops], needs)


def segments_of_layers(layers: tuple[Layer, ...], outside: Collection[str]) -> Segments:
    """The same for a network's layers; a name that is assigned again is made by the last before."""
    makers: dict[str, int] = {}
    needs = []
    for index, layer in enumerate(layers):
        needs.append({makers[name] for name in layer.inputs if name in makers})
        makers |= dict.fromkeys(layer.outputs, index)
    return _cut([layer.name in outside for layer in layers], needs)


def _all_refs(op: Op) -> set[str]:
    """The names that an op uses, its blocks included."""
    names = set(op.refs())
    for block in op.operation.blocks:
        names |= set(block.uses())
    return names


def _cut(outside: list[bool], needs: list[set[int]]) -> Segments:
    counts = [_pieces(outside, needs, first) for first in (False, True)]
    return Segments(len(outside), sum(outside), min(counts))


def _pieces(outside: list[bool], needs: list[set[int]], side: bool) -> int:
    users: list[list[int]] = [[] for _ in needs]
    for index, before in enumerate(needs):
        for other in before:
            users[other].append(index)
    waiting = [len(before) for before in needs]
    ready: dict[bool, list[int]] = {False: [], True: []}
    for index, count in enumerate(waiting):
        if count == 0:
            ready[outside[index]].append(index)
    pieces = 0
    while ready[False] or ready[True]:
        pieces += bool(ready[side])
        while ready[side]:
            for user in users[ready[side].pop()]:
                waiting[user] -= 1
                if waiting[user] == 0:
                    ready[outside[user]].append(user)
        side = not side
    return pieces


@dataclass(frozen=True, slots=True)
class Peak:
    """The most bytes that live at once, at which op; `exact` is False when a size is not known beforehand."""

    bytes: int
    op: str
    exact: bool


def peak_activations(body: Body) -> Peak:
    """Inputs, results and what is between them, freed after the last use; weights do not count.

    As if each op made a new value: a compiler that works in place needs less, one that pads rows more.
    """
    ops = [op for op in body.ops if op.depth == 0 and not op.type.startswith("constexpr_")]
    last: dict[str, int] = {}
    for index, op in enumerate(ops):
        last |= dict.fromkeys(_all_refs(op), index)
    last |= dict.fromkeys(body.function.block.outputs, len(ops))
    live = {entry.name: size_bytes(entry.type) for entry in body.function.inputs}
    exact = not any(is_open(entry.type) for entry in body.function.inputs)
    held = sum(live.values())
    most, where = held, ""
    for index, op in enumerate(ops):
        for entry in op.operation.outputs:
            live[entry.name] = size_bytes(entry.type)
            held += live[entry.name]
            exact = exact and not is_open(entry.type)
        if held > most:
            most, where = held, op.name
        for name in {*_all_refs(op), *(entry.name for entry in op.operation.outputs)}:
            if last.get(name, index) <= index and name in live:
                held -= live.pop(name)
    return Peak(most, where, exact)
