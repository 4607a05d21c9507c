"""Golden sets: a few publishable pictures with the answers that a model must give before a device uses it.

>>> from coremlops import golden
>>> golden.make(Path("faces.mlpackage"), Path("golden"), Path("out"))   # doctest: +SKIP
>>> golden.check(Path("faces.mlpackage"), Path("out")).max_abs          # doctest: +SKIP
0.0
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.golden.checking import GoldenResult, check
    from coremlops.golden.document import GoldenInput, GoldenSet, read_golden
    from coremlops.golden.making import make

_HOME = {
    "GoldenInput": "document",
    "GoldenResult": "checking",
    "GoldenSet": "document",
    "check": "checking",
    "make": "making",
    "read_golden": "document",
}

__all__ = ["GoldenInput", "GoldenResult", "GoldenSet", "check", "make", "read_golden"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.golden' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.golden.{_HOME[name]}"), name)
