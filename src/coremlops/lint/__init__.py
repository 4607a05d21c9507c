"""Look at a model before it ships: what will not load, and what is a risk.

>>> from coremlops.lint import LintOptions, lint
>>> for finding in lint("faces.mlpackage", LintOptions(target="iOS16")):  # doctest: +SKIP
...     print(finding.level, finding.rule, finding.op, finding.message)

Nothing is executed unless activation ranges are asked for, and coremltools is not needed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.lint.context import LintOptions
    from coremlops.lint.finding import LEVELS, Finding
    from coremlops.lint.linting import Report, lint, survey
    from coremlops.lint.request import model_of, parse_bytes
    from coremlops.lint.rule import RULES, Rule
    from coremlops.lint.sarif import to_sarif
    from coremlops.lint.suppression import (
        Suppression,
        parse_suppressions,
        read_baseline,
        write_baseline,
    )
    from coremlops.lint.text import as_text

_HOME = {
    "LEVELS": "finding",
    "RULES": "rule",
    "Finding": "finding",
    "LintOptions": "context",
    "Report": "linting",
    "Rule": "rule",
    "Suppression": "suppression",
    "as_text": "text",
    "lint": "linting",
    "model_of": "request",
    "parse_bytes": "request",
    "parse_suppressions": "suppression",
    "read_baseline": "suppression",
    "survey": "linting",
    "to_sarif": "sarif",
    "write_baseline": "suppression",
}
__all__ = [
    "LEVELS",
    "RULES",
    "Finding",
    "LintOptions",
    "Report",
    "Rule",
    "Suppression",
    "as_text",
    "lint",
    "model_of",
    "parse_bytes",
    "parse_suppressions",
    "read_baseline",
    "survey",
    "to_sarif",
    "write_baseline",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.lint' has no attribute {name!r}")
    if name == "RULES":
        importlib.import_module("coremlops.lint.rules")
    return getattr(importlib.import_module(f"coremlops.lint.{_HOME[name]}"), name)
