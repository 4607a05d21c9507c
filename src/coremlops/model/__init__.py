"""A Core ML model as values: members, protobuf, typed inputs and outputs, weights, digest.

    >>> from coremlops.model import ModelAsset
    >>> asset = ModelAsset.open("faces.mlpackage")      # doctest: +SKIP
    >>> asset.description.labels, asset.digest          # doctest: +SKIP

Names are imported when they are first used: a digest needs no numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.model.asset import ModelAsset, is_carried, model_digest
    from coremlops.model.description import (
        ArrayFeature,
        DictionaryFeature,
        Feature,
        ImageFeature,
        ModelDescription,
        ScalarFeature,
    )
    from coremlops.model.package import Package
    from coremlops.model.weights import BlobFile, BlobRecord

_HOME = {
    "ArrayFeature": "description",
    "BlobFile": "weights",
    "BlobRecord": "weights",
    "DictionaryFeature": "description",
    "Feature": "description",
    "ImageFeature": "description",
    "ModelAsset": "asset",
    "ModelDescription": "description",
    "Package": "package",
    "ScalarFeature": "description",
    "is_carried": "asset",
    "model_digest": "asset",
}

__all__ = [
    "ArrayFeature",
    "BlobFile",
    "BlobRecord",
    "DictionaryFeature",
    "Feature",
    "ImageFeature",
    "ModelAsset",
    "ModelDescription",
    "Package",
    "ScalarFeature",
    "is_carried",
    "model_digest",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.model' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.model.{_HOME[name]}"), name)
