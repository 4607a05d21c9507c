"""Repeated numbers of a message as arrays, and the limits that all readers of this dialect share."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from coremlops.errors import ModelFormatError

Array: TypeAlias = np.ndarray[Any, Any]
Labels: TypeAlias = tuple[str | int, ...]


def vector(values: Any, dtype: Any = np.float64) -> Array:
    """A repeated field as an array [n]."""
    return np.fromiter(values, dtype, len(values))


def matrix(rows: Any, *, what: str, where: str) -> Array:
    """Rows of doubles, all of one length, as [rows, columns]. Raises ModelFormatError."""
    widths = {len(row) for row in rows}
    if len(widths) > 1:
        raise ModelFormatError(f"{where}: {what} of {min(widths)} and of {max(widths)} numbers")
    width = widths.pop() if widths else 0
    flat = (value for row in rows for value in row)
    return np.fromiter(flat, np.float64, len(rows) * width).reshape(len(rows), width)


def class_labels(message: Any) -> Labels:
    """The class labels of a classifier; empty when the message names none."""
    chosen = message.WhichOneof("ClassLabels")
    return () if chosen is None else tuple(getattr(message, chosen).vector)


def enum_name(message: Any, field: str, *, where: str) -> str:
    """The name of an enum field's value. Raises ModelFormatError for a number that has none."""
    number = getattr(message, field)
    values = message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number
    if number not in values:
        raise ModelFormatError(f"{where}: {field} {number} is unknown; expected one of {sorted(values)}")
    name: str = values[number].name
    return name
