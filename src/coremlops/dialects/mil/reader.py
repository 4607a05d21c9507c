"""Protobuf to graph, once, with limits: everything in a file is hostile until it stands here."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

from coremlops.dialects.mil.graph import (
    BlobRef,
    Block,
    Constant,
    DictionaryType,
    Function,
    ListType,
    NamedType,
    Operation,
    Program,
    Ref,
    StateType,
    TensorType,
    TupleType,
    ValueType,
)
from coremlops.dialects.mil.immediate import read_immediate
from coremlops.errors import ModelFormatError

MAX_FUNCTIONS = 1024
MAX_OPERATIONS = 1_000_000  # of a program
MAX_BLOCK_DEPTH = 32
MAX_TYPE_DEPTH = 16
MAX_RANK = 16
MAX_AXIS = 1 << 40

DTYPES = {
    1: "bool",
    2: "string",
    10: "fp16",
    11: "fp32",
    12: "fp64",
    13: "bf16",
    21: "int8",
    22: "int16",
    23: "int32",
    24: "int64",
    25: "int4",
    31: "uint8",
    32: "uint16",
    33: "uint32",
    34: "uint64",
    35: "uint4",
    36: "uint2",
    37: "uint1",
    38: "uint6",
    39: "uint3",
    40: "fp8e4m3fn",
    41: "fp8e5m2",
}


def read_program(message: Any, *, where: str) -> Program:
    """The graph of a `MILSpec.Program` message.

    `where` names the model in errors. Raises ModelFormatError.
    """
    if len(message.functions) > MAX_FUNCTIONS:
        raise ModelFormatError(f"{where}: {len(message.functions)} functions; at most {MAX_FUNCTIONS}")
    reader = _Reader(where)
    functions = {name: reader.function(name, message.functions[name]) for name in sorted(message.functions)}
    return Program(message.version, MappingProxyType(functions))


class _Reader:
    """Carries the name of the model and the number of operations seen so far."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.operations = 0

    def fail(self, message: str) -> ModelFormatError:
        return ModelFormatError(f"{self.where}: {message}")

    def function(self, name: str, message: Any) -> Function:
        if message.opset not in message.block_specializations:
            raise self.fail(f"function {name!r} has no block for its opset {message.opset!r}")
        block = self.block(message.block_specializations[message.opset], depth=1)
        return Function(name, message.opset, self.named_types(message.inputs), block)

    def block(self, message: Any, depth: int) -> Block:
        if depth > MAX_BLOCK_DEPTH:
            raise self.fail(f"blocks are nested deeper than {MAX_BLOCK_DEPTH}")
        self.operations += len(message.operations)
        if self.operations > MAX_OPERATIONS:
            raise self.fail(f"more than {MAX_OPERATIONS} operations")
        operations = tuple(self.operation(entry, depth) for entry in message.operations)
        return Block(self.named_types(message.inputs), tuple(message.outputs), operations)

    def operation(self, message: Any, depth: int) -> Operation:
        attributes = {name: self.constant(message.attributes[name]) for name in sorted(message.attributes)}
        outputs = self.named_types(message.outputs)
        label = attributes.get("name")
        name = getattr(label, "value", None)
        return Operation(
            type=message.type,
            name=name if isinstance(name, str) else (outputs[0].name if outputs else ""),
            inputs=MappingProxyType(
                {
                    key: tuple(self.binding(entry, message.type) for entry in message.inputs[key].arguments)
                    for key in sorted(message.inputs)
                }
            ),
            outputs=outputs,
            blocks=tuple(self.block(entry, depth + 1) for entry in message.blocks),
            attributes=MappingProxyType(attributes),
        )

    def binding(self, message: Any, operation: str) -> Ref | Constant:
        kind = message.WhichOneof("binding")
        if kind == "name":
            return Ref(message.name)
        if kind == "value":
            return self.constant(message.value)
        raise self.fail(f"an input of a {operation!r} operation is neither a name nor a value")

    def named_types(self, messages: Any) -> tuple[NamedType, ...]:
        if any(not entry.name for entry in messages):
            raise self.fail("a value without a name")
        return tuple(NamedType(entry.name, self.type(entry.type)) for entry in messages)

    def constant(self, message: Any) -> Constant:
        type_ = self.type(message.type)
        if message.WhichOneof("value") == "blobFileValue":
            if not isinstance(type_, TensorType):
                raise self.fail(f"a constant in a weight file is a {type(type_).__name__}; expected a tensor")
            return BlobRef(type_, message.blobFileValue.fileName, message.blobFileValue.offset)
        return read_immediate(message, type_, where=self.where)

    def type(self, message: Any, depth: int = 0) -> ValueType:
        if depth > MAX_TYPE_DEPTH:
            raise self.fail(f"types are nested deeper than {MAX_TYPE_DEPTH}")
        kind = message.WhichOneof("type")
        if kind == "tensorType":
            return self.tensor_type(message.tensorType)
        if kind == "listType":
            length = self.axis(message.listType.length)
            return ListType(self.type(message.listType.type, depth + 1), length)
        if kind == "tupleType":
            return TupleType(tuple(self.type(entry, depth + 1) for entry in message.tupleType.types))
        if kind == "dictionaryType":
            inner = message.dictionaryType
            return DictionaryType(self.type(inner.keyType, depth + 1), self.type(inner.valueType, depth + 1))
        if kind == "stateType":
            return StateType(self.type(message.stateType.wrappedType, depth + 1))
        raise self.fail("a value has no type")

    def tensor_type(self, message: Any) -> TensorType:
        if message.dataType not in DTYPES:
            raise self.fail(f"a tensor has the unknown data type {message.dataType}")
        if message.rank < 0 or any(
            entry.WhichOneof("dimension") == "unknown" and entry.unknown.variadic
            for entry in message.dimensions
        ):
            return TensorType(DTYPES[message.dataType], None)
        if message.rank != len(message.dimensions) or message.rank > MAX_RANK:
            raise self.fail(
                f"a tensor has rank {message.rank} and {len(message.dimensions)} dimensions; expected equal "
                f"numbers, at most {MAX_RANK}"
            )
        return TensorType(DTYPES[message.dataType], tuple(self.axis(entry) for entry in message.dimensions))

    def axis(self, message: Any) -> int | None:
        if message.WhichOneof("dimension") != "constant":
            return None
        size: int = message.constant.size
        if size > MAX_AXIS:
            raise self.fail(f"an axis of {size} elements; at most {MAX_AXIS}")
        return size
