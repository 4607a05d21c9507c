"""An input or an output of a model as it is asked for: in Python, in an options file, or in one line.

image=image:RGB,224x224,scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225
ids=tensor:int32,1x128|1x256
mask=image:GRAYSCALE,scale=255
probabilities=tensor,post=softmax
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from coremlops.convert.words import check_keys, one_of, short
from coremlops.errors import UsageError

TYPES = ("tensor", "image")
DTYPES = ("float32", "float16", "int32")
# Layout -> channels.
COLORS = {"RGB": 3, "BGR": 3, "GRAYSCALE": 1, "GRAYSCALE_FLOAT16": 1}
POSTS = ("softmax", "sigmoid", "argmax")
IMAGE_OPTIONS = ("scaleFit", "centerCrop", "scaleFill")
MAX_RANK = 8
MAX_AXIS = 1 << 24
MAX_SHAPES = 128  # Core ML's own limit of enumerated shapes

# A fixed size, or (least, most).
Axis: TypeAlias = "int | tuple[int, int]"
Shape: TypeAlias = "tuple[Axis, ...]"


@dataclass(frozen=True, slots=True)
class Input:
    """`name`: in the Core ML model. `source`: its name in the source; without, that of this name or place.

    shapes: the allowed ones, the first is the default; an axis may be a range (least, most). None: the
        source's own. Of an image [1, channels, height, width].
    dtype: of a tensor; empty: what the source takes. color: of an image.
    scale, bias, mean, std: the source gets ((value * scale + bias) - mean) / std, one number or one for
        each channel (axis 1). Of images Core ML computes scale and bias; the rest is folded into the model.
    image_option: how pictures are cut to size, for those who prepare them.
    """

    name: str
    source: str = ""
    type: str = "tensor"
    dtype: str = ""
    color: str = "RGB"
    shapes: tuple[Shape, ...] = ()
    scale: float = 1.0
    bias: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    image_option: str = "scaleFit"

    def __post_init__(self) -> None:
        where = f"input {self.name}"
        _check_name(self.name, where)
        one_of(self.type, TYPES, f"{where}: type")
        one_of(self.color, tuple(COLORS), f"{where}: color")
        one_of(self.image_option, IMAGE_OPTIONS, f"{where}: image_option")
        if self.dtype:
            one_of(self.dtype, DTYPES, f"{where}: dtype")
            if self.type == "image":
                raise UsageError(f"{where}: an image has a color and no dtype, got {self.dtype}")
        if not math.isfinite(self.scale) or self.scale == 0:
            raise UsageError(f"{where}: scale: a finite number that is not 0 expected, got {self.scale}")
        if any(value == 0 for value in self.std):
            raise UsageError(f"{where}: std: no 0 expected, it divides")
        if self.type == "image":
            self._check_image(where)
        if len(self.shapes) > 1 and any(isinstance(axis, tuple) for shape in self.shapes for axis in shape):
            raise UsageError(f"{where}: shapes are either listed or have ranges, got both")
        if len(self.shapes) > MAX_SHAPES:
            raise UsageError(f"{where}: at most {MAX_SHAPES} shapes expected, got {len(self.shapes)}")
        for shape in self.shapes:
            _check_shape(shape, where)

    def _check_image(self, where: str) -> None:
        channels = COLORS[self.color]
        for what in ("bias", "mean", "std"):
            count = len(getattr(self, what))
            if count not in (0, 1, channels):
                raise UsageError(
                    f"{where}: {what}: {channels} numbers expected for {self.color}, got {count}"
                )
        for shape in self.shapes:
            if len(shape) != 4 or shape[:2] != (1, channels):
                raise UsageError(
                    f"{where}: an image of {self.color} is [1, {channels}, height, width], got {list(shape)}"
                )

    @property
    def folds(self) -> bool:
        """Whether the program gets ops in front: what an image's own scale and bias do not express."""
        if self.mean or self.std:
            return True
        return self.type == "tensor" and (self.scale != 1 or bool(self.bias))

    @property
    def flexible(self) -> bool:
        return len(self.shapes) > 1 or any(isinstance(axis, tuple) for s in self.shapes for axis in s)

    @classmethod
    def of(cls, value: object, where: str = "inputs") -> Input:
        """From an item of an options file, or from one line of text. Raises UsageError."""
        given = line_of(value)
        found = _known(given, cls, where, extra=("shape",))
        if "shape" in found:
            found["shapes"] = found.pop("shape")
        if "shapes" in found:
            channels = COLORS.get(found.get("color", "RGB"), 3)
            image = channels if found.get("type") == "image" else None
            found["shapes"] = parse_shapes(found["shapes"], f"{where}: shape", image)
        if "scale" in found:
            found["scale"] = _number(found["scale"], f"{where}: scale")
        for what in ("bias", "mean", "std"):
            if what in found:
                found[what] = _numbers(found[what], f"{where}: {what}")
        return cls(**found)


@dataclass(frozen=True, slots=True)
class Output:
    """`name`: in the Core ML model. `source`: its name in the source, such as `output_1`; else the place.

    post: `softmax`, `sigmoid` or `argmax` is folded into the model; `axis`: where, the last one of all but
        [batch, channels, height, width], whose is 1. scale, bias: then value * scale + bias.
    type: an image has values 0 to 255, [1, channels, height, width]. dtype: of a tensor.
    """

    name: str
    source: str = ""
    type: str = "tensor"
    dtype: str = ""
    color: str = "RGB"
    post: str = ""
    axis: int | None = None
    scale: float = 1.0
    bias: float = 0.0

    def __post_init__(self) -> None:
        where = f"output {self.name}"
        _check_name(self.name, where)
        one_of(self.type, TYPES, f"{where}: type")
        one_of(self.color, tuple(COLORS), f"{where}: color")
        if self.dtype:
            one_of(self.dtype, DTYPES, f"{where}: dtype")
        if self.post:
            one_of(self.post, POSTS, f"{where}: post")
        if self.post == "argmax" and self.type == "image":
            raise UsageError(f"{where}: argmax gives whole numbers, an image has 0 to 255")

    @property
    def folds(self) -> bool:
        return bool(self.post) or self.scale != 1 or self.bias != 0

    @classmethod
    def of(cls, value: object, where: str = "outputs") -> Output:
        """From an item of an options file, or from one line of text. Raises UsageError."""
        given = line_of(value)
        found = _known(given, cls, where)
        for what in ("scale", "bias"):
            if what in found:
                found[what] = _number(found[what], f"{where}: {what}")
        if "axis" in found:
            found["axis"] = _whole(found["axis"], f"{where}: axis")
        return cls(**found)


def parse_shapes(value: object, where: str, image: int | None = None) -> tuple[Shape, ...]:
    """`1x3x224x224`, `1,3,224..512,224..512`, `1x128|1x256`, or lists of numbers and such words.

    `image`: the channels of an image, whose shape may be WIDTHxHEIGHT.
    """
    if isinstance(value, str):
        parts: list[object] = [part.strip() for part in value.split("|")]
    elif isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        parts = list(value)
    else:
        parts = [value]
    return tuple(_shape(part, where, image) for part in parts)


def _shape(value: object, where: str, image: int | None) -> Shape:
    sizes = value.replace(",", "x").split("x") if isinstance(value, str) else value
    if not isinstance(sizes, list | tuple) or not sizes:
        raise UsageError(f"{where}: such as 1x3x224..512x224..512 expected, got {short(value)}")
    axes = tuple(_axis(size, where) for size in sizes)
    if image is not None and len(axes) == 2:
        return (1, image, axes[1], axes[0])
    return axes


def _axis(value: object, where: str) -> Axis:
    if isinstance(value, list | tuple) and len(value) == 2:
        least, most = value
        return _whole(least, where), _whole(most, where)
    if isinstance(value, str) and ".." in value:
        least, _, most = value.partition("..")
        if not most:
            raise UsageError(f"{where}: {value}: a range needs its largest size", hint="write 1..512")
        return _whole(least, where), _whole(most, where)
    return _whole(value, where)


def _check_shape(shape: Shape, where: str) -> None:
    if len(shape) > MAX_RANK:
        raise UsageError(f"{where}: at most {MAX_RANK} axes expected, got {len(shape)}")
    for axis in shape:
        least, most = axis if isinstance(axis, tuple) else (axis, axis)
        if not 1 <= least <= most <= MAX_AXIS:
            raise UsageError(f"{where}: a size or a range of 1 to {MAX_AXIS} expected, got {least}..{most}")


def line_of(text: Any) -> Any:
    """`NAME=TYPE:WORD,SHAPE,key=value,...` as a mapping; what is none is left alone."""
    if not isinstance(text, str):
        return text
    name, equals, rest = text.partition("=")
    if not equals:
        return {"name": name.strip()}
    head, *parts = [part.strip() for part in rest.split(",")]
    kind, _, word = head.partition(":")
    found: dict[str, Any] = {"name": name.strip()}
    if kind in TYPES or word:
        found["type"] = kind
    else:
        parts.insert(0, head)
    if word:
        found["color" if kind == "image" else "dtype"] = word
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals:
            key, value = "shape", part
        if key in found:
            raise UsageError(f"{text}: {key} is said twice")
        found["source" if key == "from" else key] = value
    return found


def _known(value: object, cls: type, where: str, extra: Iterable[str] = ()) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: an object with a name expected, got {short(value)}")
    found = dict(value)
    check_keys(found, [item.name for item in fields(cls)] + list(extra), where)
    if not found.get("name"):
        raise UsageError(f"{where}: a name expected, got {short(value)}")
    texts = ("name", "source", "type", "dtype", "color", "post", "image_option")
    for key in texts:
        if not isinstance(found.get(key, ""), str):
            raise UsageError(f"{where}: {key}: a word expected, got {short(found[key])}")
    return found


def _check_name(name: str, where: str) -> None:
    if not name.isidentifier() or not name.isascii() or len(name) > 200:
        raise UsageError(f"{where}: a name of letters, digits and _ expected, as Core ML wants it")


def _whole(value: object, where: str) -> int:
    try:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError
        return int(value)
    except ValueError:
        raise UsageError(f"{where}: a whole number expected, got {short(value)}") from None


def _number(value: object, where: str) -> float:
    """A number, or a fraction such as 1/255."""
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        above, _, below = str(value).partition("/")
        found = float(above) / float(below or 1)
        if not math.isfinite(found):
            raise ValueError
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{where}: a number such as 0.5 or 1/255 expected, got {short(value)}") from None
    return found


def _numbers(value: object, where: str) -> tuple[float, ...]:
    parts = value.split(":") if isinstance(value, str) else value
    return tuple(_number(part, where) for part in (parts if isinstance(parts, list | tuple) else [parts]))
