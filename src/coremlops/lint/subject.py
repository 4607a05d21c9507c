"""What rules look at: a model as parts, and an ML Program's operations with their types and constants.

Weights stay where they are: sizes come from declared types, and a blob is read only when `small` asks for it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from coremlops.dialects.mil import (
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
    read_program,
)
from coremlops.dialects.neuralnetwork import Layer, Network, read_network
from coremlops.errors import ModelFormatError
from coremlops.model import Feature, ModelAsset, ModelDescription
from coremlops.model.bits import SUB_BYTE
from coremlops.model.labels import pipeline_members

if TYPE_CHECKING:
    from coremlops.lint.needs import Need

MAX_MEMBERS = 10_000
MAX_DEPTH = 32
BITS = {"fp16": 16, "fp32": 32, "fp64": 64, "bf16": 16, "bool": 8, "string": 0}
BITS |= {f"{sign}int{bits}": bits for sign in ("", "u") for bits in (8, 16, 32, 64)}
BITS |= {name: bits for name, (bits, _) in SUB_BYTE.items()}
_BOOKKEEPING = ("const", "identity")


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """One operation of a program, with the scope in which its inputs have their types."""

    operation: Operation
    scope: Scope
    depth: int

    @property
    def type(self) -> str:
        return self.operation.type

    @property
    def name(self) -> str:
        """The name of its first result: unlike the operation's own, it survives a reconversion."""
        outputs = self.operation.outputs
        return outputs[0].name if outputs else self.operation.name

    @property
    def outputs(self) -> tuple[TensorType, ...]:
        """The types of the results that are tensors."""
        return tuple(entry.type for entry in self.operation.outputs if isinstance(entry.type, TensorType))

    @property
    def output(self) -> TensorType:
        """The type of the first result; a scalar of no type where that is no tensor."""
        return self.outputs[0] if self.outputs else TensorType("")

    def given(self, name: str) -> Ref | Constant | None:
        """What is bound to an input; the first of several, None when it is not there."""
        return next(iter(self.operation.inputs.get(name, ())), None)

    def type_of(self, name: str) -> TensorType | None:
        """The type of an input that is a tensor."""
        return self.scope.tensor(self.given(name))

    def value(self, name: str) -> Any:
        """The constant of an input as Python's numbers, strings and lists; None for no small constant."""
        found = self.scope.constant(self.given(name))
        if not isinstance(found, Immediate):
            return None
        return found.value.tolist() if hasattr(found.value, "tolist") else found.value

    def numbers(self, name: str) -> tuple[int, ...]:
        """A constant vector of whole numbers; empty when there is none."""
        found = self.value(name)
        numbers = found if isinstance(found, list) else ()
        return tuple(number for number in numbers if isinstance(number, int))

    def bound(self) -> Iterator[tuple[str, Ref | Constant]]:
        """Every input by its name, all of a variadic one."""
        for name, entries in self.operation.inputs.items():
            for entry in entries:
                yield name, entry

    def refs(self) -> tuple[str, ...]:
        """The names that it uses itself, without what its blocks use."""
        return tuple(entry.name for _, entry in self.bound() if isinstance(entry, Ref))

    def maker(self, name: str) -> Op | None:
        """The operation that makes an input; None for a constant or an input of the function."""
        entry = self.given(name)
        return self.scope.made.get(entry.name) if isinstance(entry, Ref) else None

    def before(self, moves: Collection[str]) -> Op | None:
        """The operation that makes `x`, behind all that only move values; a file may go round in circles."""
        found, seen = self.maker("x"), set()
        while found is not None and found.type in moves and found.name not in seen:
            seen.add(found.name)
            found = found.maker("x")
        return found

    def users(self) -> Iterator[Op]:
        """The operations that use a result."""
        for entry in self.operation.outputs:
            yield from self.scope.users.get(entry.name, ())


class Scope:
    """The names of one function: their types, who makes and who uses them. `part`: as findings call it."""

    def __init__(self, function: Function, part: str) -> None:
        self.part = part
        self.types: dict[str, ValueType] = {entry.name: entry.type for entry in function.inputs}
        self.made: dict[str, Op] = {}
        self.users: dict[str, list[Op]] = {}
        self.ops: list[Op] = []
        self._read(function.block, 0)

    def _read(self, block: Block, depth: int) -> None:
        self.types |= {entry.name: entry.type for entry in block.inputs}
        for operation in block.operations:
            op = Op(operation, self, depth)
            self.ops.append(op)
            for entry in operation.outputs:
                self.types[entry.name] = entry.type
                self.made[entry.name] = op
            for name in dict.fromkeys(op.refs()):
                self.users.setdefault(name, []).append(op)
            for inner in operation.blocks:
                self._read(inner, depth + 1)

    def type(self, entry: Ref | Constant | None) -> ValueType | None:
        """The type of what is bound to an input."""
        return self.types.get(entry.name) if isinstance(entry, Ref) else getattr(entry, "type", None)

    def tensor(self, entry: Ref | Constant | None) -> TensorType | None:
        """The type of a tensor, also of one in a state."""
        found = self.type(entry)
        if isinstance(found, StateType):
            found = found.wrapped
        return found if isinstance(found, TensorType) else None

    def constant(self, entry: Ref | Constant | None) -> Constant | None:
        """The constant that is bound, or that a `const` operation gives."""
        if not isinstance(entry, Ref):
            return entry
        maker = self.made.get(entry.name)
        return maker.operation.attributes.get("val") if maker is not None and maker.type == "const" else None


@dataclass(frozen=True, eq=False)
class Body:
    """A function of a program. `part`: its name, or empty for the only or default one."""

    function: Function
    part: str

    @cached_property
    def scope(self) -> Scope:
        return Scope(self.function, self.part)

    @cached_property
    def ops(self) -> tuple[Op, ...]:
        """What computes: all but constants, those of nested blocks after the one that holds them."""
        return tuple(op for op in self.scope.ops if op.type not in _BOOKKEEPING)

    def blobs(self) -> Iterator[BlobRef]:
        """Every constant in a weight file."""
        for op in self.scope.ops:
            for entry in (*op.operation.attributes.values(), *(value for _, value in op.bound())):
                if isinstance(entry, BlobRef):
                    yield entry


@dataclass(frozen=True, eq=False)
class Part:
    """A model, or a member of a pipeline: `path` is then its number, such as `1` or `1.0`."""

    asset: ModelAsset
    path: str
    outer: Part | None = None

    @property
    def kind(self) -> str:
        return self.asset.kind or ""

    @cached_property
    def description(self) -> ModelDescription:
        return self.asset.description

    @cached_property
    def bodies(self) -> tuple[Body, ...]:
        """The functions of an ML Program; of another kind none."""
        if self.kind != "mlProgram":
            return ()
        program = read_program(self.asset.spec.mlProgram, where=str(self.asset.path))
        default = self.description.default_function or "main"
        return tuple(
            Body(function, self.label("" if name == default else name))
            for name, function in program.functions.items()
        )

    @cached_property
    def network(self) -> Network | None:
        """The layers of a neural network; of another kind None."""
        if not self.kind.startswith("neuralNetwork"):
            return None
        return read_network(getattr(self.asset.spec, self.kind), where=str(self.asset.path))

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The network's, those inside of loops and branches among them."""
        return tuple(self.network.walk()) if self.network is not None else ()

    @cached_property
    def needs(self) -> tuple[Need, ...]:
        """What in it needs which version of the format; see `coremlops.lint.needs`."""
        from coremlops.lint.needs import needs

        return tuple(needs(self))

    @property
    def features(self) -> tuple[Feature, ...]:
        return (*self.description.inputs, *self.description.outputs)

    def label(self, function: str = "") -> str:
        """How findings call it: `function f`, `member 1`, or nothing for the model itself."""
        words = [f"member {self.path}"] * bool(self.path) + [f"function {function}"] * bool(function)
        return ", ".join(words)


def parts_of(asset: ModelAsset) -> tuple[Part, ...]:
    """The model and, of a pipeline, its members, outermost first. Raises ModelFormatError."""
    found: list[Part] = []
    waiting = [(Part(asset, ""), 0)]
    while waiting:
        part, depth = waiting.pop(0)
        found.append(part)
        if depth > MAX_DEPTH or len(found) + len(waiting) > MAX_MEMBERS:
            raise ModelFormatError(f"{asset.path}: pipelines are nested too deeply, or have too many members")
        for number, spec in enumerate(pipeline_members(part.asset.spec)):
            path = f"{part.path}.{number}" if part.path else str(number)
            waiting.append((Part(replace(asset, spec=spec), path, part), depth + 1))
    return tuple(found)


def count(type_: TensorType) -> int | None:
    """The number of elements; None where an axis is open."""
    if type_.shape is None or any(axis is None for axis in type_.shape):
        return None
    return math.prod(axis for axis in type_.shape if axis is not None)


def size_bytes(type_: ValueType) -> int:
    """What a value takes, an open axis counted as one."""
    if isinstance(type_, StateType):
        type_ = type_.wrapped
    if not isinstance(type_, TensorType):
        return 0
    return -(-math.prod(axis or 1 for axis in type_.shape or ()) * BITS.get(type_.dtype, 32) // 8)


def is_open(type_: ValueType) -> bool:
    """Whether a tensor has an axis, or all of them, that is known at run time alone."""
    return isinstance(type_, TensorType) and count(type_) is None


def weight_bytes(part: Part) -> Counter[str]:
    """Bytes of the weights by dtype, from what is declared; blobs that functions share count once."""
    found: Counter[str] = Counter()
    blobs: Mapping[tuple[str, int], TensorType] = {
        (blob.file, blob.offset): blob.type for body in part.bodies for blob in body.blobs()
    }
    for type_ in blobs.values():
        found[type_.dtype] += size_bytes(type_)
    if part.network is not None:
        for weights in part.network.weights():
            bits = int(weights.message.quantization.numberOfBits)
            quantized = f"uint{bits}"
            name = {"float32": "fp32", "float16": "fp16", "linear": quantized, "lookup": quantized}
            size = 4 * len(weights.message.floatValue) or len(weights.bytes)
            found[name.get(weights.encoding, weights.encoding)] += size
    return found


def named(entries: tuple[NamedType, ...]) -> dict[str, ValueType]:
    """Types by name."""
    return {entry.name: entry.type for entry in entries}
