"""A report as SARIF 2.1.0, so that code hosts show findings beside the code.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0"; sections are named below.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from coremlops.lint.finding import CONFIDENCE, Finding
from coremlops.lint.linting import Report
from coremlops.lint.rule import RULES, Rule

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/os/schemas/sarif-schema-2.1.0.json"
MAX_LINE = 10**6
_RANK = {"H": 90.0, "M": 50.0, "L": 10.0}


def to_sarif(report: Report, *, version: str, root: Path | None = None) -> dict[str, Any]:
    """One run with all findings; suppressed and known ones are marked, as code hosts expect.

    `version`: of the tool. `root`: paths are written relative to it when they lie below. Where the
    conversion left `<model>.origins.json`, a finding is placed on the line of the user's code that the op
    came from; otherwise on the model's own file.
    """
    used = sorted({finding.rule for finding in report.findings})
    index = {name: number for number, name in enumerate(used)}
    places = _Places(report, root or Path.cwd())
    return {
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "coremlops lint",
                        "version": version,
                        "rules": [_rule(RULES[name]) for name in used],
                    }
                },
                "columnKind": "unicodeCodePoints",
                "results": [_result(entry, index[entry.rule], places) for entry in report.findings],
            }
        ],
    }


def _rule(entry: Rule) -> dict[str, Any]:
    """A reportingDescriptor (3.49)."""
    return {
        "id": entry.id,
        "shortDescription": {"text": f"{entry.title}."},
        "fullDescription": {"text": entry.why or f"{entry.title}."},
        "help": {"text": f"{entry.why} Fix: {entry.fix}. Source: {entry.source}."},
        "defaultConfiguration": {"level": entry.level},
        "properties": {"tags": ["coreml", entry.family], "precision": CONFIDENCE[entry.confidence]},
    }


def _result(finding: Finding, index: int, places: _Places) -> dict[str, Any]:
    """A result (3.27)."""
    sure = CONFIDENCE[finding.confidence]
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": index,
        "level": finding.level,
        "rank": _RANK[finding.confidence],
        "message": {
            "text": f"{finding.place}: {finding.message}. Source: {finding.source} (confidence {sure}). "
            f"Fix: {finding.fix}."
        },
        "locations": [places.location(finding)],
        "partialFingerprints": {"coremlops/v1": finding.fingerprint},
        "baselineState": "unchanged" if finding.known else "new",
    }
    if finding.suppressed:
        result["suppressions"] = [
            {"kind": "external", "status": "accepted", "justification": finding.suppressed}
        ]
    return result


class _Places:
    """Where findings are shown."""

    def __init__(self, report: Report, root: Path) -> None:
        package = report.asset.package
        self.root = root.resolve()
        self.model = self.uri(package.file(package.model))

    def uri(self, path: Path) -> str:
        """Relative to the root where the path lies below it (3.4)."""
        whole = path.resolve()
        inside = whole.is_relative_to(self.root)
        return quote(whole.relative_to(self.root).as_posix()) if inside else whole.as_uri()

    def location(self, finding: Finding) -> dict[str, Any]:
        """A location (3.28): a file with a line, which code hosts want, and the op's name."""
        uri, line = self.users(finding.code) or (self.model, 1)
        found: dict[str, Any] = {
            "physicalLocation": {"artifactLocation": {"uri": uri}, "region": {"startLine": line}}
        }
        if finding.op:
            whole = "/".join(entry for entry in (finding.part, finding.op) if entry)
            found["logicalLocations"] = [{"name": finding.op, "fullyQualifiedName": whole, "kind": "member"}]
        if finding.module or finding.code:
            words = " of ".join(entry for entry in (finding.code, finding.module) if entry)
            found["message"] = {"text": f"from {words}"}
        return found

    def users(self, code: str) -> tuple[str, int] | None:
        """The user's file and line, when the file is there: below the root, or a folder of it."""
        file, _, number = code.rpartition(":")
        plain = PurePosixPath(file)
        if not file or "\0" in file or plain.is_absolute() or ".." in plain.parts:
            return None
        if not (number.isascii() and number.isdigit() and 0 < int(number) < MAX_LINE):
            return None
        homes = (self.root, *(entry for entry in sorted(self.root.iterdir()) if entry.is_dir()))
        path = next((home / file for home in homes if (home / file).is_file()), None)
        return None if path is None else (self.uri(path), int(number))
