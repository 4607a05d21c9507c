"""Transforms before a predictor, each a model of a pipeline.

Source: `Scaler.proto`, `Imputer.proto`, `Normalizer.proto`, `ArrayFeatureExtractor.proto`,
`OneHotEncoder.proto`.
"""

from __future__ import annotations

from typing import Any

from coremlops.source.steps import Divide, Impute, OneHot, Pick, Scale, Step

_FLOAT64 = 0x10000 | 64
_NORMS = {"LMax": 0, "L1": 1, "L2": 2}


def describe_array(feature: Any, width: int) -> None:
    """A feature's type: an array of doubles [width]."""
    feature.type.multiArrayType.dataType = _FLOAT64
    feature.type.multiArrayType.shape.append(width)


def width_after(step: Step, width: int) -> int:
    """How many numbers come out where `width` went in."""
    if isinstance(step, Pick):
        return len(step.places)
    return len(step.categories) if isinstance(step, OneHot) else width


def write_step(spec: Any, step: Step) -> None:
    """Fill a `Model` message's transform; its description is the caller's."""
    match step:
        case Scale(shift, scale):
            spec.scaler.shiftValue.extend(shift)
            spec.scaler.scaleValue.extend(scale)
        case Impute(values, missing):
            spec.imputer.imputedDoubleArray.vector.extend(values)
            spec.imputer.replaceDoubleValue = missing
        case Divide(norm):
            spec.normalizer.SetInParent()
            spec.normalizer.normType = _NORMS[norm]
        case Pick(places):
            spec.arrayFeatureExtractor.extractIndex.extend(places)
        case OneHot(categories, ignore_unknown):
            encoder = spec.oneHotEncoder
            texts = isinstance(categories[0], str)
            held: Any = encoder.stringCategories if texts else encoder.int64Categories
            held.vector.extend(categories)
            encoder.handleUnknown = int(ignore_unknown)
