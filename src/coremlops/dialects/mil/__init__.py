"""MIL, the language of ML Programs: the graph, and its reader."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.dialects.mil.graph import (
        BlobRef,
        Block,
        Constant,
        DictionaryType,
        Function,
        Immediate,
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
    from coremlops.dialects.mil.reader import read_program

_GRAPH = (
    "BlobRef",
    "Block",
    "Constant",
    "DictionaryType",
    "Function",
    "Immediate",
    "ListType",
    "NamedType",
    "Operation",
    "Program",
    "Ref",
    "StateType",
    "TensorType",
    "TupleType",
    "ValueType",
)
__all__ = [
    "BlobRef",
    "Block",
    "Constant",
    "DictionaryType",
    "Function",
    "Immediate",
    "ListType",
    "NamedType",
    "Operation",
    "Program",
    "Ref",
    "StateType",
    "TensorType",
    "TupleType",
    "ValueType",
    "read_program",
]


def __getattr__(name: str) -> Any:
    if name in _GRAPH:
        return getattr(importlib.import_module("coremlops.dialects.mil.graph"), name)
    if name == "read_program":
        return importlib.import_module("coremlops.dialects.mil.reader").read_program
    raise AttributeError(f"module 'coremlops.dialects.mil' has no attribute {name!r}")
