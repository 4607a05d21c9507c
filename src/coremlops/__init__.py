"""MLOps for Core ML: from training data to a proven, signed, staged release on people's devices.

    >>> import coremlops
    >>> model = coremlops.load("faces.mlpackage")              # doctest: +SKIP
    >>> model.predict({"image": photo})["classLabel"]          # doctest: +SKIP
    'ada'

Names are imported when they are first used, so that `import coremlops` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.client import Device
    from coremlops.runtime import Model, load, prepare_image

__version__ = "0.1.0"
__all__ = ["Device", "Model", "__version__", "load", "prepare_image"]

_HOME = {
    "Device": "coremlops.client",
    "Model": "coremlops.runtime",
    "load": "coremlops.runtime",
    "prepare_image": "coremlops.runtime",
}


def __getattr__(name: str) -> Any:
    if name == "bridge":  # not spelled out: to step keys a dotted name in the code is an import of it
        return importlib.import_module(f"{__name__}.bridge")
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
