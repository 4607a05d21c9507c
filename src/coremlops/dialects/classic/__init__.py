"""The classic models: trees, linear models, support vectors, neighbours, and transforms of features."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.dialects.classic.reader import CLASSIC_KINDS, ClassicModel, read_classic

__all__ = ["CLASSIC_KINDS", "ClassicModel", "read_classic"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'coremlops.dialects.classic' has no attribute {name!r}")
    return getattr(importlib.import_module("coremlops.dialects.classic.reader"), name)
