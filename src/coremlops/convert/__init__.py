"""Turn a trained model into a Core ML model. This room does not judge: `verify` does.

    >>> from coremlops.convert import ConvertOptions, convert
    >>> convert(Path("train"), Path("faces.mlpackage"), ConvertOptions(target="iOS17"))  # doctest: +SKIP

coremltools and torch are imported when a conversion runs, not before.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.convert.conversion import Conversion, convert
    from coremlops.convert.interface import Input, Output
    from coremlops.convert.options import PRECISIONS, TARGETS, ConvertOptions, Provenance

_HOME = {
    "PRECISIONS": "options",
    "TARGETS": "options",
    "Conversion": "conversion",
    "ConvertOptions": "options",
    "Input": "interface",
    "Output": "interface",
    "Provenance": "options",
    "convert": "conversion",
}

__all__ = [
    "PRECISIONS",
    "TARGETS",
    "Conversion",
    "ConvertOptions",
    "Input",
    "Output",
    "Provenance",
    "convert",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.convert' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.convert.{_HOME[name]}"), name)
