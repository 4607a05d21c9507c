"""Make a Core ML model smaller: fewer bits a weight, tables of shared values, zeros that are not stored.

    >>> from coremlops.compress import Recipe, Setting, compress
    >>> recipe = Recipe(default=Setting.parse("palettize:4:group=16"))
    >>> compress(Path("vit.mlpackage"), Path("vit4.mlpackage"), recipe)  # doctest: +SKIP

The program is edited as it stands in the file: what is not compressed keeps its bytes, and names, labels and
metadata stay. Neither coremltools nor a Mac is needed. What needs calibration data is in `activations` (Core
ML models) and `calibrated` (PyTorch modules, before they are converted).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.compress.compression import Compressed, Compression, compress
    from coremlops.compress.encoding import Encoding, encode
    from coremlops.compress.recipe import Recipe, Setting
    from coremlops.compress.weights import Weight, read_weight, weights_of

_HOME = {
    "Compressed": "compression",
    "Compression": "compression",
    "Encoding": "encoding",
    "Recipe": "recipe",
    "Setting": "recipe",
    "Weight": "weights",
    "compress": "compression",
    "encode": "encoding",
    "read_weight": "weights",
    "weights_of": "weights",
}
__all__ = [
    "Compressed",
    "Compression",
    "Encoding",
    "Recipe",
    "Setting",
    "Weight",
    "compress",
    "encode",
    "read_weight",
    "weights_of",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.compress' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.compress.{_HOME[name]}"), name)
