"""What composes the rooms below: converts and proves, finds what is wrong and mends it, searches.

Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.improve.choice import Choice, smallest
    from coremlops.improve.correct import Correction, correct_outputs
    from coremlops.improve.fix import Fix, FixOptions, fix, fix_model
    from coremlops.improve.prove import ProveOptions, convert_and_prove
    from coremlops.improve.search import Search, SearchOptions

_HOME = {
    "Choice": "choice",
    "Correction": "correct",
    "Fix": "fix",
    "FixOptions": "fix",
    "ProveOptions": "prove",
    "Search": "search",
    "SearchOptions": "search",
    "convert_and_prove": "prove",
    "correct_outputs": "correct",
    "fix": "fix",
    "fix_model": "fix",
    "smallest": "choice",
}

__all__ = [
    "Choice",
    "Correction",
    "Fix",
    "FixOptions",
    "ProveOptions",
    "Search",
    "SearchOptions",
    "convert_and_prove",
    "correct_outputs",
    "fix",
    "fix_model",
    "smallest",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.improve' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.improve.{_HOME[name]}"), name)
