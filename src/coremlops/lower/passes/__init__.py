"""Rewrites of a MIL function before it is lowered.

A pass takes a function and returns `(function, changed)`. Its docstring says what must hold before and what
holds after.
"""

from __future__ import annotations

from collections.abc import Callable

from coremlops.dialects.mil.graph import Function
from coremlops.lower.passes.column_padding import split_column_padding
from coremlops.lower.passes.merge_pad import merge_pad_into_conv

PASSES: tuple[Callable[[Function], tuple[Function, bool]], ...] = (
    merge_pad_into_conv,
    split_column_padding,
)


def run_passes(function: Function) -> tuple[Function, bool]:
    """Every pass once, in order."""
    changed = False
    for rewrite in PASSES:
        function, did = rewrite(function)
        changed = changed or did
    return function, changed


__all__ = ["PASSES", "merge_pad_into_conv", "run_passes", "split_column_padding"]
