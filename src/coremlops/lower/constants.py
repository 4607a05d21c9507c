"""Constants of a program as NumPy arrays, in the numbers that the engine computes with."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from coremlops.dialects.mil.graph import STORED_DTYPES, BlobRef, Constant, ListType, TensorType, ValueType
from coremlops.errors import ModelFormatError
from coremlops.lower.onnx_graph import ONNX_DTYPES, widened
from coremlops.lower.registry import Unsupported

# Gives the flat array behind a reference into a weight file.
ReadBlob: TypeAlias = Callable[[BlobRef], np.ndarray[Any, Any]]


def resolve(constant: Constant, read_blob: ReadBlob) -> Any:
    """The value of a constant: an array in its declared dtype and shape, a str, or a tuple.

    Raises Unsupported for dtypes that are not decoded yet, ModelFormatError when a blob does not fit its
    type.
    """
    if not isinstance(constant, BlobRef):
        return constant.value
    type_ = constant.type
    if type_.dtype not in STORED_DTYPES:
        raise Unsupported(f"weights of type {type_.dtype}")
    flat = read_blob(constant)
    if type_.shape is None or any(axis is None for axis in type_.shape):
        raise ModelFormatError(f"a constant of the open shape {type_} in {constant.file}")
    shape = tuple(axis for axis in type_.shape if axis is not None)
    if flat.dtype != STORED_DTYPES[type_.dtype] or flat.size != math.prod(shape):
        raise ModelFormatError(
            f"the blob at {constant.offset} of {constant.file} holds {flat.size} values of {flat.dtype}; "
            f"the program says {type_}"
        )
    try:
        return flat.reshape(shape)
    except ValueError as error:  # no elements, and other axes that NumPy cannot hold
        raise ModelFormatError(
            f"the blob at {constant.offset} of {constant.file}: {type_}: {error}"
        ) from error


def as_computed(array: np.ndarray[Any, Any], *, round_to_fp16: bool) -> np.ndarray[Any, Any]:
    """A constant in the dtype that the engine computes with: fp16 becomes float32, the rest stays.

    `round_to_fp16`: float32 is rounded to what fp16 can hold.
    """
    return widened(as_stored(array, round_to_fp16=round_to_fp16))


def as_stored(array: np.ndarray[Any, Any], *, round_to_fp16: bool) -> np.ndarray[Any, Any]:
    """A constant before it is widened; see `as_computed`."""
    if not round_to_fp16 or array.dtype != np.float32:
        return array
    with np.errstate(over="ignore"):
        return array.astype(np.float16)


def fits_fp16(array: np.ndarray[Any, Any]) -> bool:
    """Whether every value survives a round trip through fp16 unchanged."""
    if array.dtype.kind != "f":
        return True
    with np.errstate(over="ignore"):
        return bool(np.array_equal(array.astype(np.float16).astype(array.dtype), array, equal_nan=True))


def as_tensor(type_: ValueType) -> TensorType | None:
    """The tensor that holds a value of this type; a list has one more axis in front. None: there is none."""
    if isinstance(type_, ListType) and isinstance(type_.element, TensorType):
        shape = type_.element.shape
        type_ = TensorType(type_.element.dtype, None if shape is None else (None, *shape))
    return type_ if isinstance(type_, TensorType) and type_.dtype in ONNX_DTYPES else None
