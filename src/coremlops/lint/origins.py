"""Where an op came from, as a conversion wrote it beside the model in `<stem>.origins.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from coremlops.lint.finding import Finding

FORMAT = 1
MAX_BYTES = 64 << 20


def read_origins(model: Path) -> Mapping[str, Any]:
    """Op to {"module", "source"}; empty where there is no such file, or one that is none."""
    path = model.with_name(f"{model.stem}.origins.json")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        found = json.loads(data) if len(data) <= MAX_BYTES else {}
        ops = found["ops"] if found.get("format") == FORMAT else {}
        return ops if isinstance(ops, dict) else {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return {}


def with_origins(findings: Iterable[Finding], origins: Mapping[str, Any]) -> Iterator[Finding]:
    """The findings, those about an op of the model itself with the user's module and line."""
    for finding in findings:
        place = origins.get(finding.op) if not finding.part else None
        if isinstance(place, Mapping):
            yield replace(finding, module=str(place.get("module", "")), code=str(place.get("source", "")))
        else:
            yield finding
