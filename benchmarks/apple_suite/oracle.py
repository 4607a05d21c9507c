"""Our answers, each compared with an interpreter of the file that shares no code with the runtime.

For cases whose tolerance is finer than the halves that their file declares: where the test has weights that
were not rounded, or rounds at another place, only such a reading of the file itself can tell who is right.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

import backend
import numpy as np

from coremlops.dialects.mil import read_program
from coremlops.model import ModelAsset
from tests.reference import interpreter

STEPS = 1  # of fp16: the order in which a sum is added up may decide how it is rounded
SHARE = 0.02  # of the elements, at most, may differ by that
SMALL = 2e-3  # of a tensor's largest value: what is below has lost its last bits to cancellation


def predict(
    path: str,
    inputs: dict[str, Any],
    state: MutableMapping[str, Any] | None = None,
    function_name: str | None = None,
) -> dict[str, Any]:
    """As `backend.predict`. Raises AssertionError where the interpreter says something else."""
    found = backend.predict(path, inputs, state, function_name)
    asset = ModelAsset.open(path)
    program = read_program(asset.spec.mlProgram, where=path).functions[function_name or "main"]
    results = [output for operation in program.block.operations for output in operation.outputs]
    types = [entry.type for entry in (*program.inputs, *results)]
    assert any(getattr(type_, "dtype", "") == "fp16" for type_ in types), "the file declares no fp16"
    feeds = {entry.name: np.asarray(inputs[entry.name]) for entry in program.inputs}
    values = interpreter.run(program, feeds, lambda blob: asset.blobs(blob.file).read(blob.offset))
    for name in program.block.outputs:
        _agree(name, np.asarray(found[name]), np.asarray(values[name]))
    return found


def _agree(name: str, found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    found = found.reshape(expected.shape)
    finite = np.isfinite(found) & np.isfinite(expected)
    assert np.array_equal(found[~finite], expected[~finite], equal_nan=True), f"{name}: NaN or infinity"
    found, expected = (array[finite].astype(np.float64) for array in (found, expected))
    largest = np.abs(expected).max(initial=0)
    near = np.abs(expected) < SMALL * largest
    assert (np.abs(found - expected)[near] <= 2**-10 * SMALL * largest).all(), f"{name}: small values"
    steps = np.abs(_places(found) - _places(expected))[~near]
    assert steps.max(initial=0) <= STEPS, f"{name}: {steps.max(initial=0)} steps of fp16"
    assert np.count_nonzero(steps) <= max(1, SHARE * steps.size), f"{name}: {np.count_nonzero(steps)} differ"


def _places(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where the values, rounded to fp16, stand among all fp16 values in order."""
    bits = values.astype(np.float16).view(np.int16).astype(np.int32)
    return np.where(bits < 0, -(bits & 0x7FFF), bits)
