"""Turn a trained PyTorch model into a Core ML classifier. This room does not judge: `verify` does.

    >>> from coremlops.convert import ConvertOptions, convert
    >>> convert(Path("train"), Path("faces.mlpackage"), ConvertOptions(target="iOS17"))  # doctest: +SKIP

coremltools and torch are imported when a conversion runs, not before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.convert.classifier import Conversion, convert
    from coremlops.convert.options import PRECISIONS, TARGETS, ConvertOptions, Provenance

__all__ = ["PRECISIONS", "TARGETS", "Conversion", "ConvertOptions", "Provenance", "convert"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'coremlops.convert' has no attribute {name!r}")
    home = "classifier" if name in ("Conversion", "convert") else "options"
    return getattr(importlib.import_module(f"coremlops.convert.{home}"), name)
