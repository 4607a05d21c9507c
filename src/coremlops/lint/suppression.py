"""Findings that are known and accepted: with a reason in `coremlops.yaml`, or as a baseline file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from coremlops.errors import UsageError, WriteError
from coremlops.lint.finding import Finding

FORMAT = 1
MAX_BASELINE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Suppression:
    """Findings of `rule` whose op matches the pattern `op` (`*` and `?`) do not count, for `reason`."""

    rule: str
    reason: str
    op: str = "*"

    def matches(self, finding: Finding) -> bool:
        return fnmatchcase(finding.rule, self.rule) and fnmatchcase(finding.op, self.op)

    def to_json(self) -> dict[str, str]:
        return {"rule": self.rule, "op": self.op, "reason": self.reason}


def suppress(findings: Iterable[Finding], suppressions: Sequence[Suppression]) -> tuple[Finding, ...]:
    """The findings, those with a suppression marked with its reason; the first that matches counts."""
    return tuple(
        replace(finding, suppressed=next((s.reason for s in suppressions if s.matches(finding)), ""))
        for finding in findings
    )


def unused(findings: Sequence[Finding], suppressions: Sequence[Suppression]) -> tuple[Suppression, ...]:
    """Suppressions that match nothing any more."""
    return tuple(s for s in suppressions if not any(s.matches(finding) for finding in findings))


def parse_suppressions(value: Any, where: str) -> tuple[Suppression, ...]:
    """A list of {rule, reason, op}; `op` may be missing. Raises UsageError: where, what, expected and got."""
    if not isinstance(value, list):
        raise UsageError(f"{where}: a list expected, got {type(value).__name__}")
    return tuple(_suppression(entry, f"{where}[{number}]") for number, entry in enumerate(value))


def _suppression(value: Any, where: str) -> Suppression:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise UsageError(f"{where}: a mapping of rule, op and reason to text expected, got {value!r:.80}")
    for key in value:
        if key not in ("rule", "op", "reason"):
            raise UsageError(f"{where}: unknown key {key!r}", hint="known: rule, op, reason")
    name, reason = value.get("rule", ""), value.get("reason", "").strip()
    if not name or not reason:
        raise UsageError(
            f"{where}: `{'reason' if name else 'rule'}` is missing",
            hint="a suppression says which rule, and why it is right here",
        )
    return Suppression(name, reason, value.get("op", "*"))


def check_rules(suppressions: Iterable[Suppression], rules: Iterable[str]) -> None:
    """Raise UsageError for a suppression of a rule that there is none of; it names the nearest."""
    known = tuple(rules)
    for entry in suppressions:
        if not any(fnmatchcase(rule, entry.rule) for rule in known):
            near = get_close_matches(entry.rule, known, n=1, cutoff=0.5)
            raise UsageError(
                f"a suppression names the rule {entry.rule!r}, and there is none",
                hint=f"did you mean {near[0]!r}?" if near else "`coremlops lint --rules` lists them",
            )


def write_baseline(path: Path, findings: Iterable[Finding]) -> None:
    """Write what is found today, suppressed findings left out; replaced whole. Raises UsageError."""
    rows = [
        {"fingerprint": entry.fingerprint, "rule": entry.rule, "place": entry.place}
        for entry in findings
        if not entry.suppressed
    ]
    text = json.dumps({"format": FORMAT, "findings": rows}, indent=2) + "\n"
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, "utf-8", "backslashreplace")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise WriteError(f"{path} cannot be written: {error.strerror}") from None


def read_baseline(path: Path) -> frozenset[str]:
    """The fingerprints in a baseline file. Raises UsageError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BASELINE_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"the baseline {path} cannot be read: {error.strerror}",
            hint=f"make it: coremlops lint MODEL --write-baseline {path}",
        ) from None
    try:
        found: Any = json.loads(data) if len(data) <= MAX_BASELINE_BYTES else None
        if found["format"] != FORMAT:
            raise UsageError(f"{path}: a baseline of format {FORMAT} expected, got {found['format']!r:.40}")
        return frozenset(str(entry["fingerprint"]) for entry in found["findings"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(f"{path} is no baseline of `coremlops lint`") from None


def mark_known(findings: Iterable[Finding], baseline: frozenset[str]) -> tuple[Finding, ...]:
    """The findings, those of the baseline marked."""
    return tuple(replace(entry, known=entry.fingerprint in baseline) for entry in findings)
