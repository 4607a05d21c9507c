"""`model.json`: how an image becomes the tensor that a trained model takes, and what its outputs are called.

    {"format": 1,
     "input": {"name": "image", "width": 224, "height": 224, "color": "RGB",
               "scale": 0.0078125, "bias": [-0.99, -0.99, -0.99], "image_option": "scaleFit"},
     "labels": ["ada", "bob"]}

The tensor is `pixels * scale + bias`, float32 [1, channels, height, width], pixels 0..255.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from coremlops.errors import InputError

CHANNELS = {"RGB": 3, "L": 1}
IMAGE_OPTIONS = ("scaleFit", "centerCrop", "scaleFill")
MAX_CARD_BYTES = 4 << 20
MAX_SIDE = 8192
MAX_LABELS = 100_000
MAX_LABEL_LENGTH = 200
MAX_NUMBER = 3.4e38  # float32, in which the tensor is made


@dataclass(frozen=True, slots=True)
class ImageInput:
    """One image input. `color` is "RGB" or "L"; `bias` has one number a channel."""

    name: str
    width: int
    height: int
    color: str
    scale: float
    bias: tuple[float, ...]
    image_option: str

    @property
    def channels(self) -> int:
        return CHANNELS[self.color]

    def to_json(self) -> dict[str, Any]:
        """The value of `input` in `model.json`, and of the metadata key `com.coremlops.preparation`."""
        return {
            "name": self.name,
            "width": self.width,
            "height": self.height,
            "color": self.color,
            "scale": self.scale,
            "bias": list(self.bias),
            "image_option": self.image_option,
        }


@dataclass(frozen=True, slots=True)
class Card:
    """All that `model.json` says."""

    input: ImageInput
    labels: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return {"format": 1, "input": self.input.to_json(), "labels": list(self.labels)}


def read_card(path: Path) -> Card:
    """Parse a `model.json`.

    Raises InputError for a file that is missing, too large, no JSON, or says what cannot be.
    """
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise InputError(f"{path}: at most {MAX_CARD_BYTES} bytes expected, got {path.stat().st_size}")
        value = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from None
    where = path.name
    fields = _fields(value, ("format", "input", "labels"), where)
    if fields["format"] != 1 or isinstance(fields["format"], bool):
        raise InputError(f"{where}: format 1 expected, got {fields['format']!r}")
    return Card(parse_image_input(fields["input"], f"{where}: input"), parse_labels(fields["labels"], where))


def parse_image_input(value: object, where: str) -> ImageInput:
    """Parse the `input` of a `model.json`; `where` begins each message. Raises InputError."""
    names = ("name", "width", "height", "color", "scale", "bias", "image_option")
    fields = _fields(value, names, where)
    name, color, option = fields["name"], fields["color"], fields["image_option"]
    if not isinstance(name, str) or not name.isidentifier() or len(name) > MAX_LABEL_LENGTH:
        raise InputError(f"{where}.name: a plain name such as 'image' expected, got {_short(name)}")
    if not isinstance(color, str) or color not in CHANNELS:
        raise InputError(f"{where}.color: one of {', '.join(CHANNELS)} expected, got {_short(color)}")
    if option not in IMAGE_OPTIONS:
        raise InputError(
            f"{where}.image_option: one of {', '.join(IMAGE_OPTIONS)} expected, got {_short(option)}"
        )
    scale = _number(fields["scale"], f"{where}.scale")
    if scale == 0:
        raise InputError(f"{where}.scale: not 0, it would make every image the same")
    bias = fields["bias"]
    if not isinstance(bias, list) or len(bias) != CHANNELS[color]:
        raise InputError(f"{where}.bias: a list of {CHANNELS[color]} numbers expected, got {_short(bias)}")
    return ImageInput(
        name=name,
        width=_side(fields["width"], f"{where}.width"),
        height=_side(fields["height"], f"{where}.height"),
        color=color,
        scale=scale,
        bias=tuple(_number(item, f"{where}.bias") for item in bias),
        image_option=option,
    )


def parse_labels(value: object, where: str) -> tuple[str, ...]:
    """Parse class labels: at least one, printable, no label twice. Raises InputError."""
    if not isinstance(value, list) or not value or len(value) > MAX_LABELS:
        raise InputError(f"{where}: labels: a list of 1 to {MAX_LABELS} names expected, got {_short(value)}")
    for label in value:
        if not isinstance(label, str) or not 0 < len(label) <= MAX_LABEL_LENGTH or not label.isprintable():
            raise InputError(f"{where}: labels: a printable name expected, got {_short(label)}")
    if len(set(value)) != len(value):
        twice = sorted(label for label, count in Counter(value).items() if count > 1)[:5]
        raise InputError(f"{where}: labels: each name once expected, got twice: {', '.join(twice)}")
    return tuple(value)


def _fields(value: object, names: tuple[str, ...], where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: an object expected, got {_short(value)}")
    for key in value:
        if key not in names:
            near = get_close_matches(str(key), names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
            raise InputError(f"{where}: unknown key {_short(key)}", hint=hint)
    missing = [name for name in names if name not in value]
    if missing:
        raise InputError(f"{where}: missing {', '.join(missing)}")
    return value


def _number(value: object, where: str) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # a whole number beyond all floats
        number = math.inf
    if not abs(number) <= MAX_NUMBER:
        raise InputError(f"{where}: a finite number expected, got {_short(value)}")
    return number


def _side(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SIDE:
        raise InputError(f"{where}: a whole number 1..{MAX_SIDE} expected, got {_short(value)}")
    return value


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
