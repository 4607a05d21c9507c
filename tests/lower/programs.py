"""Small MIL functions made by hand, and the engine to run them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from coremlops.dialects.mil import (
    Block,
    Constant,
    Function,
    Immediate,
    NamedType,
    Operation,
    Ref,
    TensorType,
    ValueType,
)
from coremlops.dialects.mil.graph import NUMPY_DTYPES, ListType
from coremlops.lower import Lowered, lower_function
from coremlops.runtime.session import Session

Array: TypeAlias = np.ndarray[Any, Any]


def typed(dtype: str, *shape: int | None) -> TensorType:
    """A tensor type."""
    return TensorType(dtype, shape)


def constant(value: Any, dtype: str | None = None) -> Constant:
    """A constant from Python's or NumPy's value: strings, numbers, lists of integers, arrays, labels."""
    if isinstance(value, str):
        return Immediate(TensorType("string"), value)
    if isinstance(value, tuple) and value and isinstance(value[0], str):
        return Immediate(ListType(TensorType("string"), len(value)), value)
    names = {dtype: name for name, dtype in NUMPY_DTYPES.items()}
    if dtype is None and not isinstance(value, np.ndarray):
        kinds = {"i": "int32", "f": "fp32", "b": "bool"}
        dtype = kinds[np.asarray(value).dtype.kind]
    array = np.asarray(value, NUMPY_DTYPES[dtype] if dtype else None)
    return Immediate(TensorType(names[array.dtype], array.shape), array)


def operation(kind: str, output: str, type_: ValueType, **inputs: Any) -> Operation:
    """An operation; an input that is a Ref or a tuple of Refs is a use, anything else a constant."""
    bound: dict[str, tuple[Ref | Constant, ...]] = {}
    for name, value in inputs.items():
        many = isinstance(value, tuple) and bool(value) and isinstance(value[0], Ref)
        bound[name] = tuple(
            entry if isinstance(entry, Ref | Immediate) else constant(entry)
            for entry in (value if many else [value])
        )
    return Operation(kind, f"{output}_op", bound, (NamedType(output, type_),), (), {})


def function(inputs: Mapping[str, TensorType], operations: Sequence[Operation], *outputs: str) -> Function:
    """A function whose results are `outputs`, or that of the last operation."""
    entries = tuple(NamedType(name, type_) for name, type_ in inputs.items())
    results = outputs or (operations[-1].outputs[0].name,)
    return Function("main", "CoreML6", entries, Block((), results, tuple(operations)))


def lower(program: Function, precision: str = "typed") -> Lowered:
    """Lower a function that has no weight file."""

    def read_blob(_: Any) -> Array:
        raise AssertionError("no blob expected")

    return lower_function(program, read_blob, precision=precision)


def run(program: Function, precision: str = "typed", /, **feeds: Array) -> dict[str, Array]:
    """Lower and execute; float feeds are given as float32."""
    given = {
        name: value.astype(np.float32) if value.dtype.kind == "f" else value for name, value in feeds.items()
    }
    return Session(lower(program, precision)).run(given)


def one(
    kind: str,
    type_: TensorType,
    x: Array,
    *,
    precision: str = "typed",
    x_type: TensorType | None = None,
    **inputs: Any,
) -> Array:
    """Execute one operation on `x`, whose type is that of the result unless `x_type` says otherwise."""
    program = function(
        {"x": x_type or TensorType(type_.dtype, x.shape)}, [operation(kind, "y", type_, x=Ref("x"), **inputs)]
    )
    return run(program, precision, x=x)["y"]


def onnx_ops(program: Function, precision: str = "typed") -> list[str]:
    """The ONNX ops that a function becomes, in order, without the Identity at its end."""
    return [node.op_type for node in lower(program, precision).model.graph.node if node.op_type != "Identity"]
