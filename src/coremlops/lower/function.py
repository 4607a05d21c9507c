"""Lower one MIL function: bind each op's inputs, call its rule, round where the program's types say so.

Rounding. A value whose declared type is fp16 is computed in float32 and rounded once, by a pair of casts.
What an op returns is *pending* until something needs it; the pair is written then, once. An op that only
moves or picks values can take a pending value as it is and pass the debt on, so that Conv and Clip stay
neighbours and the engine fuses them.
"""

from __future__ import annotations

import sys
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from coremlops.dialects.mil.graph import (
    NUMPY_DTYPES,
    BlobRef,
    Block,
    Constant,
    Function,
    Immediate,
    NamedType,
    Operation,
    Ref,
    StateType,
    TensorType,
    ValueType,
)
from coremlops.errors import ModelFormatError, UnsupportedOpsError
from coremlops.lower.binding import bind
from coremlops.lower.constants import ReadBlob, as_stored, as_tensor, fits_fp16, resolve
from coremlops.lower.context import Classifier, Lowering
from coremlops.lower.onnx_graph import DEFAULT_OPSET, OnnxGraph
from coremlops.lower.passes import run_passes
from coremlops.lower.registry import Rule, State, Unsupported, Value, Values, rule_for

MAX_REPEATS = 16  # how often an operation is lowered: a loop's condition twice, one inside it four times
SMALL = 64  # elements of a constant that is worth a look at its values


@dataclass(frozen=True, slots=True)
class StateTensor:
    """A state: the graph's input of its name, and the output with what it holds afterwards, if any."""

    name: str
    type: TensorType
    output: str | None


@dataclass(frozen=True, slots=True, eq=False)
class InnerTensor:
    """A tensor of the program: its name in the graph, or the array of a constant.

    `rounds`: the graph rounds it later, so that whoever looks at it must do so himself. An array of fp16
    stands for float32.
    """

    source: str
    type: TensorType
    rounds: bool
    constant: np.ndarray[Any, Any] | None


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """An ONNX model with its big constants beside it.

    `inputs`, `outputs`: names and MIL types of what goes in and comes out as tensors; float tensors travel as
    float32. `classifier`: what the host still has to do. `renamed`: what the graph calls an output that
    has the name of an input. `states`: what outlives a run. `inner`: the tensors of the program by their
    names there, as far as the graph holds them. `nested`: those inside of blocks, and the operation that
    holds the block.
    """

    model: Any
    weights: dict[str, np.ndarray[Any, Any]]
    inputs: tuple[NamedType, ...]
    outputs: tuple[NamedType, ...]
    classifier: Classifier | None
    renamed: Mapping[str, str] = field(default_factory=dict)
    states: tuple[StateTensor, ...] = ()
    inner: Mapping[str, InnerTensor] = field(default_factory=dict)
    nested: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class _Slot:
    """What a MIL name stands for. `pending`: to be rounded before it is used; `exact`: fp16 can hold it."""

    value: Any
    pending: bool = False
    exact: bool = False


def lower_function(
    function: Function,
    read_blob: ReadBlob,
    *,
    precision: str = "typed",
    opset: int = DEFAULT_OPSET,
    where: str = "model",
    merge: bool = True,
    most_bytes: int = sys.maxsize,
) -> Lowered:
    """Lower `function` to ONNX.

    `precision`: `typed` (fp16-typed values are rounded once an op), `float32` (none is) or `float16` (all
    floats are). `where` names the model in errors. `merge`: run the passes, which may do away with values
    that somebody wants to see. `most_bytes`: of constants, and of a value. Raises UnsupportedOpsError with
    everything that cannot be lowered, and ModelFormatError.
    """
    if merge:
        function, _ = run_passes(function)
    return _FunctionLowering(function, read_blob, precision, opset, where, most_bytes).lower()


class _FunctionLowering:
    def __init__(
        self,
        function: Function,
        read_blob: ReadBlob,
        precision: str,
        opset: int,
        where: str,
        most_bytes: int,
    ) -> None:
        self.function = function
        self.read_blob = read_blob
        self.opset = opset
        self.where = where
        self.graph = OnnxGraph(function.name)
        self.context = Lowering(self.graph, precision=precision, opset=opset, most_bytes=most_bytes)
        self.context.lower_block = self._nested
        self.slots: ChainMap[str, _Slot] = ChainMap()
        self.budget = MAX_REPEATS * sum(1 for _ in function.block.walk()) + 1000
        self.unsupported: list[str] = []
        self.uses = function.block.uses()

    def lower(self) -> Lowered:
        given = {entry.name for entry in self.function.inputs if isinstance(entry.type, TensorType)}
        for name in self.function.block.outputs:
            if name not in given:
                self.graph.reserve(name)  # a result keeps its name; steps before it are numbered
        inputs = [
            self._input(entry) for entry in self.function.inputs if not isinstance(entry.type, StateType)
        ]
        states = {
            entry.name: self._state(entry.name, entry.type.wrapped)
            for entry in self.function.inputs
            if isinstance(entry.type, StateType)
        }
        self._operations(self.function.block)
        self._report()
        self.context.operation = None
        outputs, renamed = self._outputs()
        after = tuple(self._state_after(name, type_) for name, type_ in states.items())
        return Lowered(
            self.graph.build(self.opset),
            self.graph.weights,
            tuple(inputs),
            outputs,
            self.context.classifier,
            renamed,
            states=after,
            inner=self._inner(),
            nested=dict(_nested_names(self.function.block)),
        )

    def _operations(self, block: Block) -> None:
        for operation in block.operations:
            self.budget -= 1
            if self.budget < 0:
                raise ModelFormatError(
                    f"{self.where}: loops are nested in the conditions of loops too deeply"
                )
            try:
                self._operation(operation)
            except Unsupported as reason:
                self._give_up(operation, str(reason))

    def _nested(self, block: Block, arguments: Sequence[Value]) -> Values:
        """A block inside an operation, in the current graph; see `Lowering.block`."""
        operation = self.context.operation
        if len(block.inputs) != len(arguments):
            raise ModelFormatError(
                f"{self.where}: a block takes {len(block.inputs)} values; {len(arguments)} are given"
            )
        self.slots = self.slots.new_child()
        try:
            for entry, value in zip(block.inputs, arguments, strict=True):
                type_ = as_tensor(entry.type)
                if type_ is None:
                    raise Unsupported(f"a block that takes {entry.type}")
                argument = Value(value.name, type_, value.stored)
                self._define(entry.name, _Slot(argument, exact=self.context.rounds(type_)))
            self._operations(block)
            self.context.operation = operation
            values = tuple(self._taking(Ref(name)) for name in block.outputs)
        finally:
            self.slots = self.slots.parents
        if not all(isinstance(value, Value) and value.type is not None for value in values):
            raise ModelFormatError(f"{self.where}: what leaves a block is no tensor")
        return values

    def _settle(self, operation: Operation) -> None:
        """Round, out here, what the blocks of `operation` use: inside, each block would do it again."""
        for block in operation.blocks:
            for name in block.uses():
                if name in self.slots:
                    self._taking(Ref(name))

    def _state(self, name: str, held: ValueType) -> TensorType:
        type_ = as_tensor(held)
        if type_ is None:
            self.unsupported.append(f"state ({name}): {held}")
            type_ = TensorType("fp32", None)
        elif self.graph.reserve(name) != name:
            raise ModelFormatError(f"{self.where}: an output is the state {name!r} itself")
        else:
            self.graph.input(name, type_)
        self._define(name, _Slot(State(name)))
        self.context.states[name] = Value(name, type_)
        return type_

    def _state_after(self, name: str, type_: TensorType) -> StateTensor:
        value = self.context.states[name]
        if value.name == name:
            return StateTensor(name, type_, None)
        output = self.graph.reserve(f"{name}.written")
        self.graph.node("Identity", [self.context.use(value)], [output], {})
        self.graph.output(output, type_)
        return StateTensor(name, type_, output)

    def _inner(self) -> dict[str, InnerTensor]:
        return {
            name: InnerTensor(slot.value.name, slot.value.type, slot.pending, slot.value.stored)
            for name, slot in self.slots.items()
            if isinstance(slot.value, Value) and slot.value.type is not None
        }

    def _input(self, entry: NamedType) -> NamedType:
        if not isinstance(entry.type, TensorType) or entry.type.dtype not in NUMPY_DTYPES:
            self.unsupported.append(f"input ({entry.name}): {entry.type}")
            self.slots[entry.name] = _Slot(Value(entry.name, TensorType("fp32", None)))
            return entry
        if self.graph.reserve(entry.name) != entry.name:
            raise ModelFormatError(f"{self.where}: two inputs have the name {entry.name!r}")
        self.context.declared(entry.type)
        self.graph.input(entry.name, entry.type)
        rounds = self.context.rounds(entry.type)
        self._define(entry.name, _Slot(Value(entry.name, entry.type), pending=rounds, exact=rounds))
        return entry

    def _define(self, name: str, slot: _Slot) -> None:
        if name in self.slots.maps[0]:
            raise ModelFormatError(f"{self.where}: the value {name!r} is defined twice")
        self.slots[name] = slot

    def _operation(self, operation: Operation) -> None:
        self.context.operation = operation
        if operation.type == "const":
            self._const(operation)
            return
        rule = rule_for(operation.type)
        if rule is None:
            raise Unsupported("")
        if operation.type.startswith("constexpr_"):  # until iOS17 their inputs are written as attributes
            given = {name: (value,) for name, value in operation.attributes.items() if name != "name"}
            operation = replace(operation, inputs={**given, **operation.inputs})
        movable = rule.moves and self._can_move(operation)
        arguments = bind(rule, operation, self._taking_raw if movable else self._taking)
        self._settle(operation)
        try:
            result = rule.function(self.context, **arguments)
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # A rule may trust that its inputs fit each other; a file where they do not ends here.
            raise ModelFormatError(
                f"{self.where}: {operation.type} ({operation.name}): its inputs do not fit each other: "
                f"{error}"
            ) from error
        if result is None:  # done on the host
            for output in operation.outputs:
                self._define(output.name, _Slot(None))
            return
        self._results(operation, rule, result, movable)

    def _results(self, operation: Operation, rule: Rule, result: Any, movable: bool) -> None:
        values = result if isinstance(result, tuple) else (result,)
        if len(values) != len(operation.outputs):
            raise ModelFormatError(
                f"{self.where}: {operation.type} ({operation.name}) has {len(operation.outputs)} results; "
                f"expected {len(values)}"
            )
        kept = rule.moves and not movable and self._inputs_exact(operation)
        for value, output in zip(values, operation.outputs, strict=True):
            type_ = as_tensor(output.type)
            if type_ is None:
                raise Unsupported(f"a result of type {output.type}")
            self.context.declared(type_)
            rounds = self.context.rounds(type_)
            if value.stored is not None:
                self.context.held(value.stored)
            typed = Value(value.name, type_, value.stored)
            pending = rounds and not kept and not rule.rounded
            self._define(output.name, _Slot(typed, pending=pending, exact=rounds or kept))

    def _const(self, operation: Operation) -> None:
        if "val" not in operation.attributes or len(operation.outputs) != 1:
            raise ModelFormatError(f"{self.where}: const ({operation.name}) has no value")
        output = operation.outputs[0].name
        self._define(output, self._constant_slot(operation.attributes["val"], output))

    def _constant_slot(self, constant: Constant, name: str) -> _Slot:
        value = resolve(constant, self.read_blob)
        if not isinstance(value, np.ndarray):
            return _Slot(value)
        declared = constant.type
        assert isinstance(declared, TensorType)  # noqa: S101  arrays come from tensors alone
        rounds = self.context.rounds(declared)
        array = self.context.held(as_stored(value, round_to_fp16=rounds))
        # Small constants are looked at: bounds, fills. A weight that is not known to fit costs one rounding.
        exact = rounds or (array.size <= SMALL and fits_fp16(array))
        return _Slot(Value(self.graph.reserve(name), declared, array), exact=exact)

    def _slot(self, entry: Ref | Constant) -> _Slot:
        if isinstance(entry, Immediate | BlobRef):
            return self._constant_slot(entry, "constant")
        if entry.name not in self.slots:
            raise ModelFormatError(f"{self.where}: the value {entry.name!r} is used before it is defined")
        return self.slots[entry.name]

    def _taking_raw(self, entry: Ref | Constant) -> Any:
        return self._slot(entry).value

    def _taking(self, entry: Ref | Constant) -> Any:
        slot = self._slot(entry)
        if slot.pending:
            half = self.context.node("Cast", slot.value, to=10)  # TensorProto.FLOAT16
            rounded = self.context.node("Cast", half, to=1)  # TensorProto.FLOAT
            slot.value = Value(rounded.name, slot.value.type)
            slot.pending = False
        return slot.value

    def _refs(self, operation: Operation) -> list[_Slot]:
        return [
            self._slot(entry)
            for bindings in operation.inputs.values()
            for entry in bindings
            if isinstance(entry, Ref)
        ]

    def _inputs_exact(self, operation: Operation) -> bool:
        """Whether fp16 holds every float that goes in, so that what is moved or picked needs no rounding."""
        floats = [slot for slot in self._refs(operation) if _is_float(slot.value)]
        constants = (
            entry
            for bindings in operation.inputs.values()
            for entry in bindings
            if not isinstance(entry, Ref)
        )
        # An integer that becomes a float is no float that was moved: it must be rounded.
        return bool(floats) and all(slot.exact for slot in floats) and all(map(_fits, constants))

    def _can_move(self, operation: Operation) -> bool:
        """Whether the rounding of this op's inputs may be done after it, none lost, none twice."""
        outputs_round = all(
            isinstance(output.type, TensorType) and self.context.rounds(output.type)
            for output in operation.outputs
        )
        pending = [
            entry.name
            for bindings in operation.inputs.values()
            for entry in bindings
            if isinstance(entry, Ref) and self._slot(entry).pending
        ]
        return (
            bool(pending)
            and outputs_round
            and all(self.uses[name] == 1 for name in pending)
            and self._inputs_exact(operation)
        )

    def _outputs(self) -> tuple[tuple[NamedType, ...], dict[str, str]]:
        """The outputs, and what the graph calls those that are an input itself: its names are unique."""
        classifier = self.context.classifier
        host = {classifier.label, classifier.probabilities} if classifier else set()
        inputs = {entry.name for entry in self.function.inputs}
        outputs, renamed = [], {}
        for name in dict.fromkeys(self.function.block.outputs):  # one that is given twice is one
            if name in host:
                continue
            value = self._taking(Ref(name))
            if not isinstance(value, Value) or value.type is None:
                raise ModelFormatError(f"{self.where}: the output {name!r} is no tensor")
            target = name
            if name in inputs:
                target = renamed[name] = self.graph.reserve(name)
            self.graph.node("Identity", [self.context.use(value)], [target], {})
            self.graph.output(target, value.type)
            outputs.append(NamedType(name, value.type))
        if classifier:
            self.graph.output(classifier.source, TensorType("fp32", classifier.shape))
        return tuple(outputs), renamed

    def _give_up(self, operation: Operation, reason: str) -> None:
        """Note what is not supported, and define its results so that the rest can be looked at too."""
        line = f"{operation.type} ({operation.name})"
        self.unsupported.append(f"{line}: {reason}" if reason else line)
        inner = (entry for block in operation.blocks for entry in block.walk())
        for entry in inner:
            if entry.type != "const" and rule_for(entry.type) is None:
                self.unsupported.append(f"{entry.type} ({entry.name})")
        for output in operation.outputs:
            type_ = as_tensor(output.type) or TensorType("fp32", None)
            self.slots[output.name] = _Slot(Value(self.graph.reserve(output.name), type_))

    def _report(self) -> None:
        if not self.unsupported:
            return
        found = tuple(dict.fromkeys(self.unsupported))
        shown = "".join(f"\n  {line}" for line in found[:20])
        more = f"\n  ... and {len(found) - 20} more" if len(found) > 20 else ""
        raise UnsupportedOpsError(
            f"{self.where}: not supported here, in function {self.function.name!r} "
            f"({len(found)}):{shown}{more}",
            found,
            hint="docs/reference/ops.md lists the supported ones",
        )


def _nested_names(block: Block) -> Iterator[tuple[str, str]]:
    """The names that blocks of operations define, each with the operation that is nearest."""
    for operation in block.walk():
        for inner in operation.blocks:
            values = [*inner.inputs, *(output for entry in inner.operations for output in entry.outputs)]
            for value in values:
                yield value.name, f"{operation.type} ({operation.name})"


def _fits(constant: Constant) -> bool:
    if isinstance(constant, BlobRef):
        return constant.type.dtype == "fp16"
    value = constant.value
    return (
        not isinstance(value, np.ndarray)
        or value.dtype.kind != "f"
        or (value.size <= SMALL and fits_fp16(value))
    )


def _is_float(value: Any) -> bool:
    return (
        isinstance(value, Value) and value.type is not None and value.type.dtype in ("fp16", "fp32", "fp64")
    )
