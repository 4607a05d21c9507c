"""From what `predict` takes to the files of a set, and back."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.digest import sha256_bytes
from coremlops.errors import GoldenError, InputError
from coremlops.golden.document import MAX_SET_BYTES, read_file
from coremlops.golden.values import DTYPES, MAX_SIDE, MAX_VALUES, Given
from coremlops.model import ArrayFeature, DictionaryFeature, ImageFeature, ScalarFeature

if TYPE_CHECKING:
    from PIL import Image

    from coremlops.model import Feature

_SCALARS = {"int64": ("integer", int), "double": ("number", float), "string": ("text", str)}


def encode(feature: Feature, value: Any) -> tuple[Given, bytes]:
    """An input and the content of its file, which has no name yet; no bytes where it needs no file.

    Pictures become pixels alone: no EXIF, place, comment or name leaves. Raises InputError.
    """
    if isinstance(feature, ImageFeature) and feature.colour != "GRAYSCALE_FLOAT16":
        data = _png(value, feature)
        return Given("picture", sha256=sha256_bytes(data)), data
    if isinstance(feature, ImageFeature | ArrayFeature):
        array = np.asarray(value)
        if array.dtype.kind not in "fiub" or feature.dtype not in DTYPES:
            raise InputError(f"input {feature.name!r}: numbers expected, got {array.dtype}")
        data = np.ascontiguousarray(array, np.dtype(feature.dtype).newbyteorder("<")).tobytes()
        return Given("tensor", "", sha256_bytes(data), feature.dtype, array.shape), data
    try:
        return Given(*_plain(feature, value)), b""
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"input {feature.name!r}: {feature.type} expected, got {value!r:.80}") from None


def decode(given: Given, feature: Feature, folder: Path) -> Any:
    """What `predict` takes, from the set. Raises GoldenError for what is altered, or does not fit."""
    if given.type not in ("picture", "tensor"):
        return given.value if not isinstance(given.value, tuple) else list(given.value)
    data = read_file(folder, given.file, MAX_SET_BYTES)
    got = sha256_bytes(data)
    if got != given.sha256:
        raise GoldenError(f"{given.file}: SHA-256 {given.sha256[:12]} expected, got {got[:12]}")
    if given.type == "picture":
        return _picture(data, feature, given.file)
    dtype = np.dtype(given.dtype).newbyteorder("<")
    size = math.prod(given.shape) * dtype.itemsize
    if len(data) != size:
        raise GoldenError(f"{given.file}: {size} bytes expected, got {len(data)}")
    return np.frombuffer(data, dtype).astype(given.dtype).reshape(given.shape)


def _plain(feature: Feature, value: Any) -> tuple[str, str, str, str, tuple[int, ...], Any]:
    value = value.tolist() if isinstance(value, np.ndarray | np.generic) else value
    if isinstance(feature, ScalarFeature):
        kind, type_ = _SCALARS[feature.dtype]
        value = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(value, list) or (kind == "integer" and value != int(value)):
            raise ValueError
        return kind, "", "", "", (), type_(value)
    if isinstance(feature, DictionaryFeature):
        if not isinstance(value, Mapping) or len(value) > MAX_VALUES:
            raise ValueError
        key = str if feature.key == "string" else int
        return "dictionary", "", "", "", (), {key(name): float(number) for name, number in value.items()}
    kind, type_ = _SCALARS["string" if feature.dtype == "string" else "int64"]
    if len(value) > MAX_VALUES:
        raise ValueError
    return f"{kind}s", "", "", "", (), tuple(type_(item) for item in value)


def _png(value: Any, feature: ImageFeature) -> bytes:
    from PIL import Image

    from coremlops.runtime.images import image_from_array

    pixels = np.asarray(value.convert(_mode(feature)) if isinstance(value, Image.Image) else value)
    stream = io.BytesIO()
    image_from_array(pixels, name=feature.name).convert(_mode(feature)).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _mode(feature: Feature) -> str:
    return "L" if isinstance(feature, ImageFeature) and feature.colour == "GRAYSCALE" else "RGB"


def _picture(data: bytes, feature: Feature, name: str) -> Image.Image:
    from PIL import Image

    mode = _mode(feature)
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.mode != mode or max(image.size) > MAX_SIDE:
                raise GoldenError(
                    f"{name}: {mode} of at most {MAX_SIDE} x {MAX_SIDE} expected, "
                    f"got {image.mode} of {image.width} x {image.height}"
                )
            image.load()
            return image.copy()
    except GoldenError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError, struct.error, ...
        raise GoldenError(f"{name} cannot be read: {str(error)[:200] or type(error).__name__}") from None
