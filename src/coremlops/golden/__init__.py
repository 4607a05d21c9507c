"""Golden sets: a few publishable inputs with the answers that a model must give before a device uses it.

>>> from coremlops import golden
>>> golden.make(Path("faces.mlpackage"), Path("golden"), Path("out"))   # doctest: +SKIP
>>> golden.check(Path("faces.mlpackage"), Path("out")).ok               # doctest: +SKIP
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.golden.checking import Judgement, OutputError, check
    from coremlops.golden.document import GoldenSet, read_golden
    from coremlops.golden.making import Made, check_inputs, make
    from coremlops.golden.widening import widen

_HOME = {
    "GoldenSet": "document",
    "Judgement": "checking",
    "Made": "making",
    "OutputError": "checking",
    "check": "checking",
    "check_inputs": "making",
    "make": "making",
    "read_golden": "document",
    "widen": "widening",
}

__all__ = [
    "GoldenSet",
    "Judgement",
    "Made",
    "OutputError",
    "check",
    "check_inputs",
    "make",
    "read_golden",
    "widen",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.golden' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.golden.{_HOME[name]}"), name)
