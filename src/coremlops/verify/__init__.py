"""Prove a Core ML model against what it was made from, or against another, on any data.

    >>> from coremlops.verify import verify
    >>> report = verify(Path("faces.mlpackage"), Path("train"), Path("prepare/test"))  # doctest: +SKIP
    >>> report.ok, report.snr_db                                                       # doctest: +SKIP
    (True, 48.7)

This room measures and judges; it changes no model. Names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.verify.gates import Gates
    from coremlops.verify.html import render_html
    from coremlops.verify.proof import VerifyOptions, verify
    from coremlops.verify.report import Report

_HOME = {
    "Gates": "gates",
    "Report": "report",
    "VerifyOptions": "proof",
    "render_html": "html",
    "verify": "proof",
}

__all__ = ["Gates", "Report", "VerifyOptions", "render_html", "verify"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.verify' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.verify.{_HOME[name]}"), name)
