"""What a model keeps from one prediction to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from coremlops.dialects.mil.graph import NUMPY_DTYPES
from coremlops.errors import InputError
from coremlops.lower.function import StateTensor
from coremlops.model import ArrayFeature
from coremlops.runtime.memory import filled

State: TypeAlias = dict[str, np.ndarray[Any, Any]]


def new_state(features: Sequence[ArrayFeature], precision: str) -> State:
    """Zeros for each state. Raises ModelFormatError for states that are too large together."""
    state: State = {}
    for feature in features:
        held = sum(array.nbytes for array in state.values())
        dtype = _dtype(np.dtype(feature.dtype), precision)
        state[feature.name] = filled(feature.shape, 0, dtype, f"the state {feature.name!r}", beside=held)
    return state


def state_tensors(
    states: Sequence[StateTensor], given: Mapping[str, np.ndarray[Any, Any]] | None, precision: str
) -> dict[str, np.ndarray[Any, Any]]:
    """The states as tensors for the engine. Raises InputError for what is missing or does not fit."""
    if states and given is None:
        raise InputError(
            f"the model has the state {states[0].name!r}, and none is given",
            hint="make one with model.make_state() and pass it as state=",
        )
    tensors = {}
    for entry in states:
        value = given.get(entry.name) if given is not None else None
        if not isinstance(value, np.ndarray) or not _fits(entry, value.shape):
            got = f"shape {list(value.shape)}" if isinstance(value, np.ndarray) else type(value).__name__
            raise InputError(f"state {entry.name!r}: expected an array of type {entry.type}, got {got}")
        dtype = _dtype(NUMPY_DTYPES[entry.type.dtype], precision)
        if not value.flags.writeable or not np.can_cast(dtype, value.dtype, "same_kind"):
            what = str(value.dtype) if value.flags.writeable else "one that is read-only"
            raise InputError(
                f"state {entry.name!r}: it is updated in place, which {what} cannot hold: {dtype}"
            )
        with np.errstate(over="ignore"):
            held = value.astype(dtype, copy=False)
        tensors[entry.name] = np.ascontiguousarray(held, np.float32 if dtype.kind == "f" else dtype)
    return tensors


def _dtype(declared: np.dtype[Any], precision: str) -> np.dtype[Any]:
    if declared.kind != "f" or precision == "typed":
        return declared
    return np.dtype(precision)


def _fits(entry: StateTensor, shape: tuple[int, ...]) -> bool:
    declared = entry.type.shape
    return declared is None or (
        len(declared) == len(shape)
        and all(size in (None, got) for size, got in zip(declared, shape, strict=True))
    )
