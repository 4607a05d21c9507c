"""MIL as frozen values: program, functions, blocks, operations, types and constants.

Names are those of the format (`MIL.proto`). A value inside a block is known by its name, which one
operation or block input defines.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from coremlops.model.bits import SUB_BYTE


@dataclass(frozen=True, slots=True)
class TensorType:
    """`dtype` in MIL's words (`fp16`, `int32`, `bool`, ...); an axis of None is unknown until run time.

    `shape` None: even the rank is unknown. A scalar has the shape `()`.
    """

    dtype: str
    shape: tuple[int | None, ...] | None = ()

    @property
    def rank(self) -> int | None:
        """The number of axes; None when unknown."""
        return None if self.shape is None else len(self.shape)

    def __str__(self) -> str:
        axes = (
            "*"
            if self.shape is None
            else ", ".join("?" if axis is None else str(axis) for axis in self.shape)
        )
        return f"{self.dtype}[{axes}]"


@dataclass(frozen=True, slots=True)
class ListType:
    """A list of equal elements; `length` None is unknown."""

    element: ValueType
    length: int | None


@dataclass(frozen=True, slots=True)
class TupleType:
    """Values of several types."""

    elements: tuple[ValueType, ...]


@dataclass(frozen=True, slots=True)
class DictionaryType:
    """Values by key."""

    key: ValueType
    value: ValueType


@dataclass(frozen=True, slots=True)
class StateType:
    """A value that lives longer than one prediction."""

    wrapped: ValueType


ValueType: TypeAlias = TensorType | ListType | TupleType | DictionaryType | StateType


@dataclass(frozen=True, slots=True)
class NamedType:
    """A value that is defined here: its name and type."""

    name: str
    type: ValueType


@dataclass(frozen=True, slots=True, eq=False)
class Immediate:
    """A constant inside the program.

    `value`: for a tensor of numbers or booleans a NumPy array of the declared shape (rank 0 for a scalar);
    for a scalar string a str; for a tensor of strings, a list or a tuple, a tuple; for a dictionary a tuple
    of pairs.
    """

    type: ValueType
    value: Any


@dataclass(frozen=True, slots=True)
class BlobRef:
    """A constant in a weight file: its record is at `offset` bytes of `file` (`@model_path/...`)."""

    type: TensorType
    file: str
    offset: int


Constant: TypeAlias = Immediate | BlobRef


@dataclass(frozen=True, slots=True)
class Ref:
    """A use of the value of that name."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One operation. An input is a tuple of uses or constants, of one element unless it is variadic."""

    type: str
    name: str
    inputs: Mapping[str, tuple[Ref | Constant, ...]]
    outputs: tuple[NamedType, ...]
    blocks: tuple[Block, ...]
    attributes: Mapping[str, Constant]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Operations in order; `outputs` names the values that leave."""

    inputs: tuple[NamedType, ...]
    outputs: tuple[str, ...]
    operations: tuple[Operation, ...]

    def walk(self) -> Iterator[Operation]:
        """Every operation, those of nested blocks after the one that holds them."""
        for operation in self.operations:
            yield operation
            for block in operation.blocks:
                yield from block.walk()

    def uses(self) -> Counter[str]:
        """How often each name is used, nested blocks and what leaves a block included."""
        counts = Counter(self.outputs)
        for operation in self.operations:
            counts.update(
                entry.name
                for bindings in operation.inputs.values()
                for entry in bindings
                if isinstance(entry, Ref)
            )
            for block in operation.blocks:
                counts.update(block.uses())
        return counts


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A function: `opset` such as `CoreML6`, and the block that is specialised for it."""

    name: str
    opset: str
    inputs: tuple[NamedType, ...]
    block: Block

    def histogram(self) -> dict[str, int]:
        """How often each operation occurs, most frequent first, then by name; constants are not counted."""
        counts = Counter(operation.type for operation in self.block.walk() if operation.type != "const")
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """An ML Program."""

    version: int
    functions: Mapping[str, Function]


NUMPY_DTYPES: dict[str, np.dtype[Any]] = {
    "fp16": np.dtype("<f2"),
    "fp32": np.dtype("<f4"),
    "fp64": np.dtype("<f8"),
    "int8": np.dtype("i1"),
    "int16": np.dtype("<i2"),
    "int32": np.dtype("<i4"),
    "int64": np.dtype("<i8"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "bool": np.dtype("?"),
}
# What a constant is decoded to: numbers below one byte take one.
STORED_DTYPES: dict[str, np.dtype[Any]] = {
    **NUMPY_DTYPES,
    **{name: stored for name, (_, stored) in SUB_BYTE.items()},
}
