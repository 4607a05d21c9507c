"""Cut a MIL function into pieces that run alone: what a piece uses and does not make is given to it.

A piece whose own values are given too is a row of ops that do not hear each other: each computes from the
values that somebody else computed, so what it gives differs by its own error alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from coremlops.dialects.mil import Block, Function, NamedType, Operation, Ref, StateType, TensorType
from coremlops.lower.context import WRITERS

OWN = " (own)"
_READERS = {"read_state": "input", "coreml_update_state": "state"}


def is_constant(operation: Operation) -> bool:
    """Whether an op holds a weight: it is in the file, not computed from an input."""
    return operation.type == "const" or operation.type.startswith("constexpr_")


def tensors(operation: Operation) -> dict[str, TensorType]:
    """The results of an op that can go from one piece to the next, by name."""
    return {entry.name: entry.type for entry in operation.outputs if isinstance(entry.type, TensorType)}


def is_movable(operation: Operation) -> bool:
    """Whether an op can stand in a piece: it computes tensors. Labels and lists go by without."""
    made = tensors(operation)
    return bool(made) and len(made) == len(operation.outputs) and not is_constant(operation)


def uses(operation: Operation) -> list[str]:
    """The names that an op takes from outside, those that its blocks take among them."""
    counts: Counter[str] = Counter()
    for bindings in operation.inputs.values():
        counts.update(entry.name for entry in bindings if isinstance(entry, Ref))
    for block in operation.blocks:
        inside = {entry.name for entry in block.inputs}
        inside |= {output.name for entry in block.walk() for output in entry.outputs}
        inside |= {entry.name for nested in _blocks(block) for entry in nested.inputs}
        counts.update(name for name in block.uses() if name not in inside)
    return list(counts)


def _blocks(block: Block) -> Iterator[Block]:
    for operation in block.walk():
        yield from operation.blocks


def types_of(function: Function) -> dict[str, TensorType]:
    """The tensors of a function by name, those inside of blocks left out."""
    entries = [*function.inputs, *(output for entry in function.block.operations for output in entry.outputs)]
    return {entry.name: entry.type for entry in entries if isinstance(entry.type, TensorType)}


def without_states(function: Function) -> Function:
    """The function with each state as an input, and each read of it as what was written last.

    States in nested blocks stay as they are.
    """
    states = {entry.name: entry.name for entry in function.inputs if isinstance(entry.type, StateType)}
    if not states:
        return function
    inputs = tuple(
        NamedType(entry.name, entry.type.wrapped) if isinstance(entry.type, StateType) else entry
        for entry in function.inputs
    )
    operations = []
    for operation in function.block.operations:
        writes, reads = WRITERS.get(operation.type), _READERS.get(operation.type)
        if writes:
            [state] = operation.inputs[writes]
            [value] = operation.inputs["value" if operation.type == "coreml_update_state" else "data"]
            if isinstance(state, Ref) and isinstance(value, Ref):
                states[state.name] = value.name
        if reads:
            [state] = operation.inputs[reads]
            now = Ref(states[state.name]) if isinstance(state, Ref) else state
            operation = replace(operation, type="identity", inputs={"x": (now,)})
        if reads or not writes:
            operations.append(operation)
    return replace(function, inputs=inputs, block=replace(function.block, operations=tuple(operations)))


def slices(function: Function, most_bytes: int) -> Iterator[tuple[Operation, ...]]:
    """The movable ops in order, in rows whose results take about `most_bytes` together."""
    row: list[Operation] = []
    size = 0
    for operation in filter(is_movable, function.block.operations):
        row.append(operation)
        size += sum(map(_bytes, tensors(operation).values()))
        if size >= most_bytes:
            yield tuple(row)
            row, size = [], 0
    if row:
        yield tuple(row)


def _bytes(type_: TensorType) -> int:
    return 4 * math.prod(axis or 1 for axis in type_.shape or ())


def piece(
    function: Function,
    operations: Sequence[Operation],
    given: Collection[str] = (),
    wanted: Collection[str] | None = None,
) -> Function:
    """A function of these ops alone.

    `given`: values that come from outside even where an op of the piece makes them; what the op itself makes
    is called `name + OWN` then. `wanted`: which results leave, by the names of the program; None for all.
    """
    weights = {
        output.name: entry
        for entry in function.block.operations
        if is_constant(entry)
        for output in entry.outputs
    }
    types = types_of(function)
    own = [_renamed(operation, given) for operation in operations]
    made = {output.name for entry in own for output in entry.outputs}
    taken = dict.fromkeys(name for entry in own for name in uses(entry) if name not in made)
    needed = set(_with_inputs((name for name in taken if name in weights), weights))
    constants = (entry for entry in function.block.operations if is_constant(entry))
    kept = tuple(entry for entry in constants if any(output.name in needed for output in entry.outputs))
    inputs = tuple(NamedType(name, types[name]) for name in taken if name not in weights and name in types)
    outputs = tuple(
        output.name
        for before, after in zip(operations, own, strict=True)
        for first, output in zip(before.outputs, after.outputs, strict=True)
        if isinstance(output.type, TensorType) and (wanted is None or first.name in wanted)
    )
    return replace(function, inputs=inputs, block=Block((), outputs, (*kept, *own)))


def _renamed(operation: Operation, given: Collection[str]) -> Operation:
    outputs = tuple(
        NamedType(entry.name + OWN, entry.type) if entry.name in given else entry
        for entry in operation.outputs
    )
    return replace(operation, outputs=outputs)


def _with_inputs(names: Iterable[str], weights: Mapping[str, Operation]) -> Iterator[str]:
    """Weights and what they are decoded from."""
    for name in names:
        yield name
        yield from _with_inputs((entry for entry in uses(weights[name]) if entry in weights), weights)
