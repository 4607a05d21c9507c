"""Find the op where a Core ML model parts from what it should be, and say why.

    >>> from coremlops.verify.locate import locate
    >>> found = locate(Path("net.mlpackage"), "net.pt2")  # doctest: +SKIP
    >>> print(found.first)                                # doctest: +SKIP
    exp (exp; net.py:41): overflow: its values reach 8.9e+04; fp16 ends at 65504

Two questions are kept apart. Do the types that the file declares cost too much (`numeric`: against the same
file in float32, which needs no source)? Does the file compute something else (`conversion`: float32 against
the source)? Everything is executed here; what an op does inside on Apple's hardware is not seen.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.verify.locate.front import LocateOptions, locate
    from coremlops.verify.locate.location import Finding, Location, Step

_HOME = {
    "Finding": "location",
    "LocateOptions": "front",
    "Location": "location",
    "Step": "location",
    "locate": "front",
}

__all__ = ["Finding", "LocateOptions", "Location", "Step", "locate"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.verify.locate' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.verify.locate.{_HOME[name]}"), name)
