"""What a rule is given: it adds nodes and constants here, and asks for types."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from coremlops.dialects.mil.graph import Block, Operation, Ref, TensorType
from coremlops.errors import ModelFormatError
from coremlops.lower.onnx_graph import ONNX_DTYPES, OnnxGraph, widened_bytes
from coremlops.lower.registry import Labels, State, Unsupported, Value, Values

PRECISIONS = ("typed", "float32", "float16")
WRITERS = {"write_state": "input", "coreml_update_state": "state"}  # op -> its input that is the state


# Lowers a block into the current graph, its inputs being those values; gives what leaves it.
LowerBlock: TypeAlias = Callable[[Block, Sequence[Value]], Values]


@dataclass(frozen=True, slots=True)
class Classifier:
    """What the host does for a classifier: `source` is the graph's output with the probabilities.

    `label`, `probabilities`: what the model calls the two results. `shape`: of the probabilities. `chosen`:
    the graph's output with the place of the label, where that is not the largest probability. What is not
    there is empty: the probabilities of a model that has none, and then their source.
    """

    label: str
    probabilities: str
    source: str
    shape: tuple[int | None, ...]
    labels: Labels
    chosen: str = ""


class Lowering:
    """The lowering of one function: a rule calls `node` and `constant`, and looks at `output_type`."""

    def __init__(
        self, graph: OnnxGraph, *, precision: str, opset: int, most_bytes: int = sys.maxsize
    ) -> None:
        """`most_bytes`: of all constants, as the engine has them, and of each other value."""
        self.graph = graph
        self._room = self._most_bytes = most_bytes
        self.precision = precision
        self.opset = opset
        self.operation: Operation | None = None
        self.classifier: Classifier | None = None
        self.states: dict[str, Value] = {}
        self.lower_block: LowerBlock | None = None
        self._emitted: set[str] = set()
        self._depth = 0

    def rounds(self, type_: TensorType | None) -> bool:
        """Whether a value of this type holds only what fp16 can hold."""
        if type_ is None or self.precision == "float32":
            return False
        return type_.dtype == "fp16" or (self.precision == "float16" and type_.dtype == "fp32")

    @property
    def output_type(self) -> TensorType:
        """The declared type of the current operation's (first) result. Raises Unsupported for no tensor."""
        outputs = self.operation.outputs if self.operation else ()
        if not outputs or not isinstance(outputs[0].type, TensorType):
            raise Unsupported("a result that is no tensor")
        return outputs[0].type

    def block(self, index: int, arguments: Sequence[Value] = ()) -> Values:
        """A block of the current operation, lowered into the current graph; rounded values leave it."""
        blocks = self.operation.blocks if self.operation else ()
        if self.lower_block is None or index >= len(blocks):
            raise ModelFormatError(f"an operation with {len(blocks)} blocks; expected {index + 1} or more")
        return self.lower_block(blocks[index], arguments)

    @contextmanager
    def nested(self, name: str) -> Iterator[OnnxGraph]:
        """Nodes go into a graph inside the current one, which is given.

        What states hold inside is forgotten outside: who wants it lets it leave, see `written`.
        """
        outer, self.graph = self.graph, self.graph.nested(name)
        states = dict(self.states)
        self._depth += 1
        try:
            yield self.graph
        finally:
            self.graph = outer
            self.states = states
            self._depth -= 1

    @property
    def is_nested(self) -> bool:
        """Whether nodes go into a nested graph now."""
        return self._depth > 0

    def write(self, state: State, value: Value) -> None:
        """From now on, the state holds `value`."""
        self.states[state.name] = value

    def written(self) -> tuple[str, ...]:
        """The states that blocks of the current operation write, in the order of the function's inputs."""
        blocks = self.operation.blocks if self.operation else ()
        names = {
            entry.name
            for block in blocks
            for operation in block.walk()
            for entry in operation.inputs.get(WRITERS.get(operation.type, ""), ())
            if isinstance(entry, Ref)
        }
        return tuple(name for name in self.states if name in names)

    def node(self, op: str, *inputs: Value | None, **attributes: Any) -> Value:
        """Append an ONNX node and return its output; None stands for an optional input that is not given."""
        return self.nodes(op, 1, *inputs, **attributes)[0]

    def nodes(self, op: str, count: int, *inputs: Value | None, **attributes: Any) -> tuple[Value, ...]:
        """Append an ONNX node that has `count` outputs, and return them."""
        label = self.operation.outputs[0].name if self.operation and self.operation.outputs else op
        outputs = [self.graph.reserve(label) for _ in range(count)]
        names = [self.use(value) for value in inputs]
        while names and not names[-1]:
            names.pop()
        self.graph.node(op, names, outputs, attributes)
        return tuple(map(Value, outputs))

    def use(self, value: Value | None) -> str:
        """The ONNX name of a value; a constant becomes an initializer when it is first used."""
        if value is None:
            return ""
        if value.stored is not None and value.name not in self._emitted:
            self._emitted.add(value.name)
            self.graph.constant(value.name, value.stored)
        return value.name

    def constant(self, array: Any, dtype: Any = None) -> Value:
        """A constant that a rule needs, such as the axes of a reduction."""
        label = self.operation.outputs[0].name if self.operation and self.operation.outputs else "constant"
        return Value(self.graph.reserve(f"{label}.constant"), None, self.held(np.asarray(array, dtype)))

    def held(self, array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """An array that stays as long as the graph. Raises ModelFormatError when all are too large together.

        One blob can be the weights of many ops, and small codes become large numbers.
        """
        self._room -= widened_bytes(array)
        if self._room < 0:
            raise ModelFormatError(
                f"the constants of the model, decoded, need more memory than {self._most_bytes} bytes",
                hint="COREMLOPS_MEMORY_BYTES in the environment changes the limit; 0 switches it off",
            )
        return array

    def declared(self, type_: TensorType) -> None:
        """Raises ModelFormatError for a value that is larger than memory may be: it cannot come to be.

        The engine's optimiser makes tables as long as a declared axis: of 4 bytes, whatever an element has.
        """
        size = 4 * math.prod(part or 1 for part in type_.shape or ())
        if size > self._most_bytes:
            raise ModelFormatError(
                f"a value is declared as {type_}: {size} bytes; it may have {self._most_bytes}"
            )

    def ints(self, values: Any) -> Value:
        """A constant vector of int64, as ONNX wants its axes, shapes and pads."""
        return self.constant(values, np.int64)

    def cast(self, value: Value, dtype: str) -> Value:
        """Convert to the ONNX dtype that stands for a MIL dtype."""
        return self.node("Cast", value, to=ONNX_DTYPES[dtype])
