"""From the engine's tensors to what a caller gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.dialects.mil.graph import TensorType
from coremlops.errors import ModelFormatError
from coremlops.lower.context import Classifier
from coremlops.model.description import ArrayFeature, Feature, ImageFeature, ScalarFeature

if TYPE_CHECKING:
    from PIL.Image import Image


def feature_value(feature: Feature | None, value: np.ndarray[Any, Any]) -> Any:
    """A result as the description declares it; `feature` None: as the array that it is.

    Arrays have the declared dtype, fp16 ones as float32 and scalars with shape [1], as coremltools gives
    them.
    """
    if isinstance(feature, ImageFeature):
        return picture(feature, value)
    if isinstance(feature, ScalarFeature) and value.size == 1:
        return value.item()
    if isinstance(feature, ArrayFeature):
        declared = "float32" if feature.dtype == "float16" else feature.dtype
        if value.dtype != declared:
            value = value.astype(declared)
    return value if value.ndim else value.reshape(1)


def picture(feature: ImageFeature, value: np.ndarray[Any, Any]) -> Image:
    """A tensor [1, channels, height, width] of pixels 0 to 255 as a PIL image.

    `RGB` for colours, in whichever order the tensor has them; `L` for `GRAYSCALE`, both rounded and clipped;
    `F` for `GRAYSCALE_FLOAT16`. Raises ModelFormatError for a tensor of another shape.
    """
    from PIL import Image as Pillow

    channels = 3 if feature.colour in ("RGB", "BGR") else 1
    if value.ndim < 3 or value.shape[-3] != channels or value.size != np.prod(value.shape[-3:]):
        raise ModelFormatError(
            f"the output {feature.name!r} is a picture; expected {channels} channels [1, {channels}, height, "
            f"width], the model gives {list(value.shape)}"
        )
    planes = value.reshape(value.shape[-3:])
    if feature.colour == "GRAYSCALE_FLOAT16":
        return Pillow.fromarray(np.ascontiguousarray(planes[0], np.float32))
    with np.errstate(invalid="ignore"):
        pixels = np.clip(np.rint(planes), 0, 255).astype(np.uint8)
    if channels == 1:
        return Pillow.fromarray(pixels[0])
    ordered = pixels if feature.colour == "RGB" else pixels[::-1]
    return Pillow.fromarray(np.ascontiguousarray(ordered.transpose(1, 2, 0)))


def classified(
    classifier: Classifier, outputs: Sequence[Feature], results: Mapping[str, np.ndarray[Any, Any]]
) -> dict[str, Any]:
    """The label, and the probabilities when the model has any, as the description declares them."""
    values = results[classifier.source].ravel() if classifier.source else np.zeros(len(classifier.labels))
    if values.size != len(classifier.labels):
        raise ModelFormatError(
            f"the model gives {values.size} probabilities for {len(classifier.labels)} labels"
        )
    place = int(results[classifier.chosen]) if classifier.chosen else int(np.argmax(values))
    given: dict[str, Any] = {classifier.label: classifier.labels[place]}
    if classifier.probabilities:
        as_array = any(
            feature.name == classifier.probabilities and isinstance(feature, ArrayFeature)
            for feature in outputs
        )
        by_label = dict(zip(classifier.labels, map(float, values), strict=True))
        given[classifier.probabilities] = values if as_array else by_label
    return given


def check_shape(name: str, type_: Any, value: np.ndarray[Any, Any], *, where: str) -> None:
    """Raises ModelFormatError for a result of another shape than the program declares."""
    shape = type_.shape if isinstance(type_, TensorType) else None
    if shape is None or shape == value.shape:
        return
    if len(shape) != value.ndim or any(
        size not in (None, got) for size, got in zip(shape, value.shape, strict=True)
    ):
        raise ModelFormatError(
            f"{where}: the program declares {name!r} as {type_}; its ops give the shape {list(value.shape)}"
        )
