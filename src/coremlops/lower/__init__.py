"""From a dialect's graph to ONNX: a strict registry, one op = one function.

    >>> from coremlops.lower import lower_function                      # doctest: +SKIP
    >>> lowered = lower_function(program.functions["main"], read_blob)  # doctest: +SKIP

To add an op: write its function in the file of `ops/` that has coremltools' family name, with the op's inputs
and MIL's defaults as signature, under `@lowers("name")`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.lower.function import Lowered, lower_function
    from coremlops.lower.onnx_graph import embed_weights
    from coremlops.lower.registry import supported_ops

_HOME = {
    "Lowered": "function",
    "embed_weights": "onnx_graph",
    "lower_function": "function",
    "supported_ops": "registry",
}
__all__ = ["Lowered", "embed_weights", "lower_function", "supported_ops"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.lower' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.lower.{_HOME[name]}"), name)
