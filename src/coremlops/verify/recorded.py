"""Answers that were measured elsewhere, on a device or a Mac, for the examples of a golden set or other data.

    {"format": 0, "model": <model digest>, "rests_on": "device", "by": "iPhone 15 Pro, iOS 18.1, ALL",
     "examples": [{"name": "0001.png", "outputs": {"classLabel": "ada", "classLabel_probs": {"ada": 0.98}}}]}

`outputs`: by the model's names: numbers, nested lists of numbers, labels, or numbers by label.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.errors import DataError
from coremlops.source import Sample

MAX_FILE_BYTES = 256 << 20
MAX_EXAMPLES = 100_000
RESTS_ON = ("device", "mac")


@dataclass(frozen=True, slots=True)
class RecordedSide:
    """The Core ML model, as somebody else executed it. `by` says what that was."""

    name: str
    digest: str
    rests_on: str
    by: str
    answers: Mapping[str, dict[str, Any]]

    def ask(self, sample: Sample) -> dict[str, Any]:
        """What was measured for the example of that name. Raises DataError where nothing was."""
        if sample.name not in self.answers:
            raise DataError(
                f"{self.name}: an answer for {sample.name} expected, got answers for "
                f"{', '.join(list(self.answers)[:4])}",
                hint="give the --data that the answers were measured on",
            )
        return self.answers[sample.name]


def read_recorded(path: Path, digest: str) -> RecordedSide:
    """Parse a file of answers of the model with this digest. Raises DataError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path}: at most {MAX_FILE_BYTES} bytes expected, got more")
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {str(error)[:200]}") from None
    keys = ("format", "model", "rests_on", "by", "examples")
    if not isinstance(value, dict) or set(value) != set(keys):
        raise DataError(f"{path}: exactly {', '.join(keys)} expected, got {value!s:.80}")
    if value["format"] != 0 or value["rests_on"] not in RESTS_ON or not isinstance(value["by"], str):
        raise DataError(f"{path}: format 0, rests_on {' or '.join(RESTS_ON)}, and a text `by` expected")
    if value["model"] != digest:
        raise DataError(
            f"{path}: answers of the model {digest[:12]} expected, got those of {str(value['model'])[:12]}"
        )
    entries = value["examples"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_EXAMPLES:
        raise DataError(f"{path}: 1 to {MAX_EXAMPLES} examples expected")
    answers = dict(_example(entry, f"{path}: examples[{i}]") for i, entry in enumerate(entries))
    return RecordedSide(path.name, digest, value["rests_on"], value["by"][:200], answers)


def _example(value: object, where: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(value, dict) or set(value) != {"name", "outputs"}:
        raise DataError(f"{where}: exactly name, outputs expected, got {value!s:.80}")
    name, outputs = value["name"], value["outputs"]
    if not isinstance(name, str) or not isinstance(outputs, dict):
        raise DataError(f"{where}: a name and outputs by name expected, got {value!s:.80}")
    return name, {str(key): _value(item, f"{where}.{key}") for key, item in outputs.items()}


def _value(value: object, where: str) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        if not all(isinstance(item, int | float) for item in value.values()):
            raise DataError(f"{where}: numbers by label expected, got {value!s:.80}")
        return {str(label): float(share) for label, share in value.items()}
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"{where}: numbers, a label or numbers by label expected") from None
    return array if array.ndim else array.reshape(1)
