"""`golden.json`, parsed strictly: it reaches devices, and a device trusts nothing that it has not checked.

    {"format": 0, "model": <model digest>, "tolerance": 0.02,
     "input": {"name": "image", "width": 224, "height": 224, "color": "RGB"},
     "examples": [{"file": "0001.png", "sha256": ..., "label": "ada",
                   "probabilities": {"ada": 0.99, "bob": 0.01}}]}

`tolerance` is the largest difference that a probability may have. `probabilities` holds the largest ones when
a model has many labels.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coremlops.errors import GoldenError

FILE = "golden.json"
MAX_DOCUMENT_BYTES = 1 << 20
MAX_EXAMPLES = 32
MAX_PICTURE_BYTES = 16 << 20
MAX_SIDE = 4096
MAX_PROBABILITIES = 64
MAX_LABEL_LENGTH = 200
# A set whose tolerance is wider than this would pass models that answer anything.
MAX_TOLERANCE = 0.25
_NAME = re.compile(r"[0-9]{4}\.png")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class GoldenInput:
    """One picture, a PNG of the model's exact size, and what the model must answer."""

    file: str
    sha256: str
    label: str
    probabilities: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """A whole set. `input_name`, `width`, `height`, `color` ("RGB" or "L") are the model's image input."""

    model: str
    tolerance: float
    input_name: str
    width: int
    height: int
    color: str
    examples: tuple[GoldenInput, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "format": 0,
            "model": self.model,
            "tolerance": self.tolerance,
            "input": {
                "name": self.input_name,
                "width": self.width,
                "height": self.height,
                "color": self.color,
            },
            "examples": [
                {
                    "file": item.file,
                    "sha256": item.sha256,
                    "label": item.label,
                    "probabilities": dict(item.probabilities),
                }
                for item in self.examples
            ],
        }


def read_golden(folder: Path) -> GoldenSet:
    """Parse `folder/golden.json`. Raises GoldenError for anything but a well-formed set."""
    path = folder / FILE
    try:
        if path.is_symlink() or not path.is_file():
            raise GoldenError(f"{path}: a file expected, got none")
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise GoldenError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_DOCUMENT_BYTES:
        raise GoldenError(f"{path}: at most {MAX_DOCUMENT_BYTES} bytes expected, got more")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise GoldenError(f"{path} is no JSON: {str(error)[:200]}") from None
    return _parse(value)


def _parse(value: object) -> GoldenSet:
    top = _fields(value, ("format", "model", "tolerance", "input", "examples"), FILE)
    if top["format"] != 0 or isinstance(top["format"], bool):
        raise GoldenError(f"{FILE}: format 0 expected, got {_short(top['format'])}")
    image = _fields(top["input"], ("name", "width", "height", "color"), f"{FILE}: input")
    if image["color"] not in ("RGB", "L"):
        raise GoldenError(f"{FILE}: input.color: RGB or L expected, got {_short(image['color'])}")
    entries = top["examples"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_EXAMPLES:
        raise GoldenError(f"{FILE}: 1 to {MAX_EXAMPLES} examples expected, got {_short(entries)}")
    examples = tuple(_example(entry, f"{FILE}: examples[{i}]") for i, entry in enumerate(entries))
    if len({item.file for item in examples}) != len(examples):
        raise GoldenError(f"{FILE}: each file once expected, got one twice")
    return GoldenSet(
        model=_match(top["model"], _DIGEST, f"{FILE}: model", "a SHA-256"),
        tolerance=_number(top["tolerance"], 0.0, MAX_TOLERANCE, f"{FILE}: tolerance"),
        input_name=_word(image["name"], f"{FILE}: input.name"),
        width=_side(image["width"], f"{FILE}: input.width"),
        height=_side(image["height"], f"{FILE}: input.height"),
        color=image["color"],
        examples=examples,
    )


def _example(value: object, where: str) -> GoldenInput:
    fields = _fields(value, ("file", "sha256", "label", "probabilities"), where)
    shares = fields["probabilities"]
    if not isinstance(shares, dict) or not 1 <= len(shares) <= MAX_PROBABILITIES:
        raise GoldenError(f"{where}: 1 to {MAX_PROBABILITIES} probabilities expected, got {_short(shares)}")
    probabilities = {
        _word(label, f"{where}.probabilities"): _number(share, 0.0, 1.001, f"{where}.probabilities")
        for label, share in shares.items()
    }
    label = _word(fields["label"], f"{where}.label")
    if label not in probabilities:
        raise GoldenError(f"{where}: the probability of its own label {_short(label)} expected, got none")
    return GoldenInput(
        file=_match(fields["file"], _NAME, f"{where}.file", "a name such as 0001.png"),
        sha256=_match(fields["sha256"], _DIGEST, f"{where}.sha256", "a SHA-256"),
        label=label,
        probabilities=MappingProxyType(probabilities),
    )


def _fields(value: object, names: tuple[str, ...], where: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        got = _short(sorted(value)) if isinstance(value, dict) else _short(value)
        raise GoldenError(f"{where}: exactly {', '.join(names)} expected, got {got}")
    return value


def _match(value: object, pattern: re.Pattern[str], where: str, what: str) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise GoldenError(f"{where}: {what} expected, got {_short(value)}")
    return value


def _word(value: object, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_LABEL_LENGTH or not value.isprintable():
        raise GoldenError(f"{where}: a printable name expected, got {_short(value)}")
    return value


def _number(value: object, low: float, high: float, where: str) -> float:
    # A whole number may be beyond all floats, for which math.isfinite has no answer but an error.
    finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if isinstance(value, bool) or not isinstance(value, int | float) or not finite:
        raise GoldenError(f"{where}: a number expected, got {_short(value)}")
    if not low <= value <= high:
        raise GoldenError(f"{where}: a number from {low:g} to {high:g} expected, got {_short(value)}")
    return float(value)


def _side(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SIDE:
        raise GoldenError(f"{where}: a whole number 1..{MAX_SIDE} expected, got {_short(value)}")
    return value


def _short(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of more than 4300 digits has no repr
        text = f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:77] + "..."
