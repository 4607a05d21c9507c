"""Run a Core ML model here.

>>> from coremlops.runtime import load
>>> model = load("faces.mlpackage")                  # doctest: +SKIP
>>> model.predict({"image": photo})["classLabel"]    # doctest: +SKIP
'ada'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.runtime.custom import custom_layer
    from coremlops.runtime.images import IMAGE_OPTIONS, prepare_image, read_image
    from coremlops.runtime.model import Model, load
    from coremlops.runtime.summary import describe

_HOME = {
    "IMAGE_OPTIONS": "images",
    "Model": "model",
    "custom_layer": "custom",
    "describe": "summary",
    "load": "model",
    "prepare_image": "images",
    "read_image": "images",
}
__all__ = ["IMAGE_OPTIONS", "Model", "custom_layer", "describe", "load", "prepare_image", "read_image"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.runtime.{_HOME[name]}"), name)
