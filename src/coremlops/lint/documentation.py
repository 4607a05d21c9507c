"""The rules as text: one for `--explain`, all for docs/reference/lint-rules.md."""

from __future__ import annotations

from coremlops.lint.finding import CONFIDENCE
from coremlops.lint.rule import FAMILIES, Rule
from coremlops.lint.rules import RULES_BY_FAMILY


def rule_text(entry: Rule) -> str:
    """One rule as Markdown that also reads well in a terminal."""
    return (
        f"### {entry.id}\n\n"
        f"{entry.title}. Level `{entry.level}`, confidence {CONFIDENCE[entry.confidence]}.\n\n"
        f"{entry.why}\n\n"
        f"**Fix**: {entry.fix}.\n\n"
        f"**Source**: {entry.source}.\n\n"
        f"Found:\n\n```python\n{entry.triggers}\n```\n\n"
        f"Not found:\n\n```python\n{entry.quiet}\n```\n"
    )


def rules_page() -> str:
    """All rules, a chapter a family."""
    parts = ["# The rules of `coremlops lint`\n", _INTRODUCTION]
    for family, rules in RULES_BY_FAMILY.items():
        parts.append(f"## {FAMILIES[family]}\n")
        parts += [rule_text(entry) for entry in rules]
    return "\n".join(parts)


_INTRODUCTION = """\
Each rule has an id that stays, a level, its source, and how sure it is: *high* is the format's definition,
Apple's own words or certain from the file; *medium* was measured by others, or observed by executing the
model here; *low* is old or a guess. `coremlops lint --explain RULE` prints a rule. Each example is a test.

Examples are models in Python's syntax, which is only parsed: a line defines a value with its type, `name:
dtype[axes] = op(input=...)`; `dtype[axes]` in the place of a value is a constant in the weight file,
`dtype(number)` one in the program; `a, b = op(...) >> (type, type)` is an op with two results. `lint(...)`
says what the model is linted for.
"""
