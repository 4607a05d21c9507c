"""Constants that stand in the program itself: protobuf to NumPy arrays, strings and tuples."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from coremlops.dialects.mil.graph import (
    NUMPY_DTYPES,
    DictionaryType,
    Immediate,
    ListType,
    TensorType,
    TupleType,
    ValueType,
)
from coremlops.errors import ModelFormatError
from coremlops.model.bits import SUB_BYTE, packed_bytes, unpack

MAX_DEPTH = 16
MAX_EMPTY = 1 << 31  # the other axes of a tensor with an axis of 0: NumPy cannot hold any number
_NUMBERS = ("floats", "doubles", "ints", "longInts", "bools")


def read_immediate(message: Any, type_: ValueType, *, where: str) -> Immediate:
    """The constant in a `MILSpec.Value` message, whose declared type has been read.

    Raises ModelFormatError when the value does not fit its type.
    """
    return Immediate(type_, _value(message, type_, where, 0))


def _value(message: Any, type_: ValueType, where: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ModelFormatError(f"{where}: values are nested deeper than {MAX_DEPTH}")
    if message.WhichOneof("value") != "immediateValue":
        raise ModelFormatError(f"{where}: a constant of type {type_} has no value")
    immediate = message.immediateValue
    kind = immediate.WhichOneof("value")
    match type_:
        case TensorType() if kind == "tensor":
            return _tensor(immediate.tensor, type_, where)
        case ListType(element=element) if kind == "list":
            return tuple(_value(entry, element, where, depth + 1) for entry in immediate.list.values)
        case TupleType(elements=elements) if kind == "tuple" and len(elements) == len(immediate.tuple.values):
            return tuple(
                _value(entry, element, where, depth + 1)
                for entry, element in zip(immediate.tuple.values, elements, strict=True)
            )
        case DictionaryType(key=key, value=value) if kind == "dictionary":
            return tuple(
                (_value(entry.key, key, where, depth + 1), _value(entry.value, value, where, depth + 1))
                for entry in immediate.dictionary.values
            )
    raise ModelFormatError(f"{where}: a constant of type {type_} holds a {kind}")


def _tensor(message: Any, type_: TensorType, where: str) -> Any:
    shape = type_.shape
    if shape is None or any(axis is None for axis in shape):
        raise ModelFormatError(f"{where}: a constant of the open shape {type_}")
    sizes = tuple(axis for axis in shape if axis is not None)
    count = math.prod(sizes)
    kind = message.WhichOneof("value")
    if kind is None and count == 0 and type_.dtype == "string":
        return ()
    if type_.dtype == "string":
        strings = tuple(message.strings.values) if kind == "strings" else None
        if strings is None or len(strings) != count:
            raise ModelFormatError(
                f"{where}: a constant of type {type_} holds {kind}; expected {count} strings"
            )
        return strings[0] if sizes == () else strings
    if type_.dtype in SUB_BYTE:
        return _sub_byte(message, type_, sizes, where)
    if type_.dtype not in NUMPY_DTYPES:
        raise ModelFormatError(f"{where}: a constant of type {type_} inside the program is not decoded here")
    dtype = NUMPY_DTYPES[type_.dtype]
    if count == 0 and math.prod(filter(None, sizes)) > MAX_EMPTY:
        raise ModelFormatError(f"{where}: a constant of type {type_}, which is too large to be empty")
    if kind is None and count == 0:
        return np.empty(sizes, dtype)
    if kind == "bytes":
        data = message.bytes.values
        # Types of 8 and 16 bits, and unsigned ones, travel as raw little-endian bytes.
        if len(data) != count * dtype.itemsize:
            raise ModelFormatError(
                f"{where}: a constant of type {type_} holds {len(data)} bytes; "
                f"expected {count * dtype.itemsize}"
            )
        return np.frombuffer(data, dtype).reshape(sizes)
    if kind not in _NUMBERS or (kind in ("floats", "doubles") and dtype.kind != "f"):
        raise ModelFormatError(
            f"{where}: a constant of type {type_} holds {kind}; expected numbers of that type"
        )
    values = getattr(message, kind).values
    if len(values) != count:
        raise ModelFormatError(
            f"{where}: a constant of type {type_} holds {len(values)} values; expected {count}"
        )
    try:
        # From Python numbers: NumPy refuses an integer that does not fit, where astype() would wrap around.
        with np.errstate(over="ignore"):  # a double beyond fp16 is infinite
            array = np.array(list(values), dtype=dtype)
    except (OverflowError, ValueError) as error:
        raise ModelFormatError(f"{where}: a constant of type {type_} holds a value out of range") from error
    array = array.reshape(sizes)
    array.flags.writeable = False
    return array


def _sub_byte(message: Any, type_: TensorType, sizes: tuple[int, ...], where: str) -> Any:
    """Values of fewer than eight bits, which travel packed: int4 as int8, the others as uint8."""
    count = math.prod(sizes)
    expected = packed_bytes(count, SUB_BYTE[type_.dtype][0])
    data = message.bytes.values if message.WhichOneof("value") == "bytes" else b""
    if len(data) != expected or (count == 0 and math.prod(filter(None, sizes)) > MAX_EMPTY):
        raise ModelFormatError(
            f"{where}: a constant of type {type_} holds {len(data)} bytes; expected {expected}"
        )
    array = unpack(data, type_.dtype, count).reshape(sizes)
    array.flags.writeable = False
    return array
