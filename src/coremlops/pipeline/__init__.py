"""Pipelines of plain MLflow Projects: steps cached by content, effects reconciled.

    result = coremlops.pipeline.run(Path("faces"), overrides={"train.epochs": "3"})
    coremlops.pipeline.why(Path("faces"), "convert").reasons

Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.pipeline.explanation import Why, why
    from coremlops.pipeline.project import Project, find_project, load_project
    from coremlops.pipeline.result import Progress, RunResult, StepResult
    from coremlops.pipeline.runner import run
    from coremlops.pipeline.tree import TreeCache, skip_clutter

__all__ = [
    "Progress",
    "Project",
    "RunResult",
    "StepResult",
    "TreeCache",
    "Why",
    "find_project",
    "load_project",
    "run",
    "skip_clutter",
    "why",
]

_HOME = {
    "Progress": "result",
    "Project": "project",
    "RunResult": "result",
    "StepResult": "result",
    "TreeCache": "tree",
    "Why": "explanation",
    "find_project": "project",
    "load_project": "project",
    "run": "runner",
    "skip_clutter": "tree",
    "why": "explanation",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.pipeline' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.pipeline.{_HOME[name]}"), name)
