"""The rules, a module a family. Importing this registers them all."""

from coremlops.lint.rule import FAMILIES, RULES
from coremlops.lint.rules import (
    budgets,
    compatibility,
    float16,
    inference,
    metadata,
    neural_engine,
    neural_engine_ops,
    observed,
    segments,
    shapes,
    windows,
)

RULES_BY_FAMILY = {
    family: tuple(entry for entry in RULES.values() if entry.family == family) for family in FAMILIES
}

__all__ = [
    "RULES_BY_FAMILY",
    "budgets",
    "compatibility",
    "float16",
    "inference",
    "metadata",
    "neural_engine",
    "neural_engine_ops",
    "observed",
    "segments",
    "shapes",
    "windows",
]
