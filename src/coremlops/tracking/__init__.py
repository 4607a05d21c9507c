"""MLflow: what a run records at once, the sender that carries it there, a Core ML flavor, and the registry.

Nothing here imports MLflow until a function that talks to it is called, and names are imported when they
are first used: a pipeline pays for `record` alone, a few milliseconds.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.tracking.flavor import load_model, log_model
    from coremlops.tracking.peek import peek_alias, peek_version
    from coremlops.tracking.record import RunRecorder, start_sender
    from coremlops.tracking.registry import Registered, mirror_alias, register
    from coremlops.tracking.sender import ensure_parent_run, flush

__all__ = [
    "Registered",
    "RunRecorder",
    "ensure_parent_run",
    "flush",
    "load_model",
    "log_model",
    "mirror_alias",
    "peek_alias",
    "peek_version",
    "register",
    "start_sender",
]

_HOME = {
    "Registered": "registry",
    "RunRecorder": "record",
    "ensure_parent_run": "sender",
    "flush": "sender",
    "load_model": "flavor",
    "log_model": "flavor",
    "mirror_alias": "registry",
    "peek_alias": "peek",
    "peek_version": "peek",
    "register": "registry",
    "start_sender": "record",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.tracking' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.tracking.{_HOME[name]}"), name)
