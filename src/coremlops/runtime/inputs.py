"""From what a caller gives to the tensors that the engine takes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.dialects.mil.graph import NUMPY_DTYPES, TensorType, ValueType
from coremlops.errors import InputError, UsageError
from coremlops.model.description import (
    ArrayFeature,
    Feature,
    ImageFeature,
    ModelDescription,
    ScalarFeature,
)
from coremlops.runtime.images import IMAGE_OPTIONS, convert_colour, image_from_array, prepare_image
from coremlops.runtime.memory import filled

if TYPE_CHECKING:
    from PIL.Image import Image

PREPARATION_KEY = "com.coremlops.preparation"
DEFAULT_OPTION = "scaleFit"
MAX_EXACT = 1 << 53  # integers up to here have a double of their own


def check_names(features: tuple[Feature, ...], given: Mapping[str, Any]) -> None:
    """Every input that the model needs is given, and nothing else. Raises InputError."""
    if len(given) == len(features) and all(feature.name in given for feature in features):
        return
    known = {feature.name for feature in features}
    unknown = sorted(set(given) - known)
    if unknown:
        raise InputError(f"unknown input {unknown[0]!r}; the model takes {_names(known)}")
    missing = [feature.name for feature in features if not feature.optional and feature.name not in given]
    if missing:
        raise InputError(f"input {missing[0]!r} is missing; the model takes {_names(known)}")


def _names(names: set[str]) -> str:
    return ", ".join(repr(name) for name in sorted(names)) or "no inputs"


def image_option_of(description: ModelDescription) -> str:
    """How the model wants its pictures prepared: `image_option` in `com.coremlops.preparation`.

    `scaleFit` when the model does not say. Raises InputError when it says something that we do not know.
    """
    text = description.user_defined.get(PREPARATION_KEY)
    if text is None:
        return DEFAULT_OPTION
    try:
        entry = json.loads(text)
        option = entry.get("image_option", DEFAULT_OPTION)
    except (ValueError, AttributeError, RecursionError) as error:
        raise InputError(
            f"the model's metadata {PREPARATION_KEY} is no JSON object: {text[:80]!r}"
        ) from error
    if option not in IMAGE_OPTIONS:
        raise InputError(
            f"the model's metadata asks for the image option {option!r}; "
            f"expected one of {', '.join(IMAGE_OPTIONS)}",
            hint="name one yourself with image_option",
        )
    return str(option)


def resolve_option(option: str | None, description: ModelDescription) -> str | None:
    """An option that a caller named; `metadata` becomes what the model says.

    Raises UsageError and InputError.
    """
    if option == "metadata":
        return image_option_of(description)
    if option is not None and option not in IMAGE_OPTIONS:
        raise UsageError(
            f"unknown image option {option!r}; expected metadata or one of {', '.join(IMAGE_OPTIONS)}"
        )
    return option


def picture_of(feature: ImageFeature, value: Any) -> Image:
    """What a caller gave for an image, as a PIL image of any size. Raises InputError."""
    from PIL import Image as Pillow

    if isinstance(value, np.ndarray):
        if (
            feature.colour == "GRAYSCALE_FLOAT16"
            and value.dtype.kind == "f"
            and value.ndim == 2
            and value.size
        ):
            return Pillow.fromarray(value.astype(np.float32))
        return image_from_array(value, name=feature.name)
    if not isinstance(value, Pillow.Image):
        raise InputError(
            f"input {feature.name!r} is an image; expected a PIL image or a uint8 array, "
            f"got {type(value).__name__}",
            hint="read a file with coremlops.runtime.read_image(path)",
        )
    return value


def prepare_picture(feature: ImageFeature, value: Any, option: str) -> Image:
    """A picture of any size as one of the declared size; see `prepare_image`. Raises InputError."""
    return prepare_image(picture_of(feature, value), feature.width, feature.height, option, feature.colour)


def image_tensor(feature: ImageFeature, value: Any) -> np.ndarray[Any, Any]:
    """A picture of the model's size as float32 [1, channels, height, width] with pixels 0 to 255.

    The pixels are taken as they are stored; `GRAYSCALE_FLOAT16` takes those of a picture of mode `F`, too.
    Raises InputError.
    """
    value = picture_of(feature, value)
    if not _size_fits(feature, value.size):
        raise InputError(
            f"input {feature.name!r}: expected a picture of {_picture_sizes(feature)} pixels, "
            f"got {value.width} x {value.height}",
            hint=f"resize it, or pass image_option: metadata, {', '.join(IMAGE_OPTIONS)}",
        )
    try:
        if value.mode == "F":
            if feature.colour != "GRAYSCALE_FLOAT16":
                raise InputError(
                    f"input {feature.name!r} is {feature.colour}; got floating-point pixels (mode F)",
                    hint="convert it to RGB or L first: their range is yours to say",
                )
            picture = value
        else:
            picture = convert_colour(value, feature.colour)
        pixels = np.asarray(picture)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"input {feature.name!r}: the picture cannot be decoded: {error}") from error
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    elif feature.colour == "BGR":
        pixels = pixels[:, :, ::-1]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32)


def feature_tensor(feature: Feature, features: Mapping[str, Any], type_: ValueType) -> np.ndarray[Any, Any]:
    """The tensor for one input of a program, from the features that are given; an optional one has a default.

    `type_`: as the program declares it. Raises InputError, and ModelFormatError for an impossible default.
    """
    if not isinstance(type_, TensorType):
        raise InputError(f"input {feature.name!r} is of type {type_}, which cannot be given")
    if feature.name not in features:
        if isinstance(feature, ImageFeature):
            raise InputError(f"input {feature.name!r} is missing: a picture has no default")
        if not feature.optional:
            raise InputError(f"input {feature.name!r} is missing")
    if isinstance(feature, ImageFeature):
        pixels = image_tensor(feature, features[feature.name])
        return _computed(pixels[0] if type_.rank == 3 else pixels, type_)
    if isinstance(feature, ScalarFeature):
        return scalar_tensor(feature, features.get(feature.name))
    if not isinstance(feature, ArrayFeature):
        raise InputError(f"input {feature.name!r} is a {type(feature).__name__}, which no tensor holds")
    if feature.name in features:
        return array_tensor(feature, features[feature.name], type_)
    default = feature.default or 0
    what = f"the optional input {feature.name!r}"
    return array_tensor(feature, filled(feature.shape, default, np.result_type(default), what), type_)


def _computed(array: np.ndarray[Any, Any], type_: TensorType) -> np.ndarray[Any, Any]:
    """The array in the dtype that stands for a program's type; fp16 travels as float32."""
    array = _cast(array, NUMPY_DTYPES["fp32" if type_.dtype == "fp16" else type_.dtype])
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _cast(array: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    if array.dtype == dtype:
        return array
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _size_fits(feature: ImageFeature, size: tuple[int, int]) -> bool:
    if size == (feature.width, feature.height) or size in feature.sizes:
        return True
    if feature.width_range is None or feature.height_range is None:
        return False
    return all(
        least <= length and (most is None or length <= most)
        for length, (least, most) in zip(size, (feature.width_range, feature.height_range), strict=True)
    )


def _picture_sizes(feature: ImageFeature) -> str:
    if feature.width_range is not None and feature.height_range is not None:
        return " x ".join(map(_range, (feature.width_range, feature.height_range)))
    sizes = dict.fromkeys(((feature.width, feature.height), *feature.sizes))
    return " or ".join(f"{width} x {height}" for width, height in sizes)


def _range(bounds: tuple[int, int | None]) -> str:
    least, most = bounds
    return str(least) if least == most else f"{least}..{'' if most is None else most}"


def array_tensor(feature: ArrayFeature, value: Any, type_: TensorType) -> np.ndarray[Any, Any]:
    """Numbers as the tensor that the program declares; floats as float32.

    The values are cast to the declared dtype, as coremltools does: a fraction is cut off. Raises InputError
    for a shape that is not allowed, for what is no array of numbers, and for what no declared integer can be.
    """
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"input {feature.name!r}: not an array of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise InputError(f"input {feature.name!r}: expected numbers, got {array.dtype}")
    if not _shape_fits(feature, array.shape):
        raise InputError(
            f"input {feature.name!r}: expected the shape {_shapes(feature)}, got {list(array.shape)}"
        )
    declared = np.dtype(feature.dtype)
    if array.dtype != declared and declared.kind in "iu" and not np.can_cast(array.dtype, declared):
        least, most = np.iinfo(declared).min, np.iinfo(declared).max
        if not ((array >= least) & (array <= most)).all():  # NaN is neither
            raise InputError(f"input {feature.name!r}: a value that {declared} cannot hold")
    array = _cast(array, declared)
    if type_.shape == () and array.size == 1:  # an interface has no rank 0
        array = array.reshape(())
    return _computed(array, type_)


def scalar_tensor(feature: ScalarFeature, value: Any) -> np.ndarray[Any, Any]:
    """A number as a double of rank 0; NaN for an optional one that is not given (None).

    Integers too travel as doubles, so that there is a way to say that one is missing. Raises InputError for
    what is no number, and for an integer feature's value that is none or that a double cannot hold.
    """
    if value is None:
        if not feature.optional:
            raise InputError(f"input {feature.name!r} is missing")
        return np.array(np.nan)
    array = np.asarray(value)
    if array.dtype.kind not in "biuf" or array.size != 1:
        raise InputError(f"input {feature.name!r}: expected one number, got {type(value).__name__}")
    number = float(array.item())
    if feature.dtype == "int64" and not (number.is_integer() and abs(number) <= MAX_EXACT):
        raise InputError(f"input {feature.name!r}: expected an integer of at most 53 bits, got {number!r}")
    return np.array(number)


def fitted(feature: Feature, value: Any) -> Any:
    """A value in the fixed shape that a feature declares, when it has as many elements.

    Networks give [1, 1, n] where a classic model takes [n]; coremltools' tests give classic models [1, n].
    """
    if not isinstance(feature, ArrayFeature) or feature.ranges or feature.shapes or not feature.shape:
        return value
    try:
        array = np.asarray(value)
    except ValueError:  # rows of several lengths: what takes the value says so
        return value
    return array.reshape(feature.shape) if array.size == math.prod(feature.shape) else array


def _shape_fits(feature: ArrayFeature, shape: tuple[int, ...]) -> bool:
    if shape == feature.shape or shape in feature.shapes:
        return True
    if not (feature.shape or feature.shapes or feature.ranges):
        return True  # the format lets a classic model leave it open
    return len(shape) == len(feature.ranges) and all(
        least <= length and (most is None or length <= most)
        for length, (least, most) in zip(shape, feature.ranges, strict=True)
    )


def _shapes(feature: ArrayFeature) -> str:
    if feature.ranges:
        return f"[{', '.join(map(_range, feature.ranges))}]"
    return " or ".join(str(list(shape)) for shape in dict.fromkeys((feature.shape, *feature.shapes)))
