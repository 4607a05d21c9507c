"""Each rule finds its example, and does not find what is all right."""

from __future__ import annotations

from pathlib import Path

import pytest

from coremlops.lint import RULES, lint
from coremlops.lint.rule import FAMILIES, Rule, rule
from tests.lint.notation import make


@pytest.mark.parametrize("entry", RULES.values(), ids=RULES)
def test_the_example_triggers(entry: Rule, tmp_path: Path) -> None:
    example = make(entry.triggers, tmp_path)
    found = [finding for finding in lint(example.path, example.options) if finding.rule == entry.id]
    assert found
    assert all(finding.message and finding.fix and finding.source for finding in found)


@pytest.mark.parametrize("entry", RULES.values(), ids=RULES)
def test_the_other_example_does_not(entry: Rule, tmp_path: Path) -> None:
    example = make(entry.quiet, tmp_path)
    assert [finding for finding in lint(example.path, example.options) if finding.rule == entry.id] == []


@pytest.mark.parametrize("entry", RULES.values(), ids=RULES)
def test_a_rule_is_documented(entry: Rule) -> None:
    assert entry.title
    assert entry.why.endswith(".")
    assert entry.family in FAMILIES
    assert entry.id == entry.id.lower()


def test_an_id_is_used_once() -> None:
    with pytest.raises(ValueError, match="ane-rank"):
        rule("ane-rank", "note", "L", source="", fix="", triggers="", quiet="")(
            lambda part, context: iter(())
        )
