"""What `register` is given, read and checked: a model, and a report that speaks for exactly that model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coremlops.errors import GateError, InputError

_MAX_JSON_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Proven:
    """A model whose report said yes. `conversion` and `report` are the files' objects."""

    model: Path
    digest: str
    conversion: Mapping[str, Any]
    report: Mapping[str, Any]


def read_proven(model: Path, report: Path) -> Proven:
    """Read `convert`'s and `verify`'s folders.

    Raises `InputError` for a file that is missing or damaged and for a report about another model, and
    `GateError` for a report that says no.
    """
    conversion = read_object(model / "conversion.json")
    digest = conversion.get("digest")
    if not isinstance(digest, str) or len(digest) != 64:
        raise InputError(f"{model / 'conversion.json'}: expected a digest of 64 hex digits, got {digest!r}")
    said = read_object(report / "report.json")
    about = said.get("model")
    proven = about.get("digest") if isinstance(about, dict) else None
    if proven != digest:
        raise InputError(
            f"the report is about another model: expected {digest}, got {proven}",
            hint="run `verify` on this model, and give its output as `report`",
        )
    if said.get("ok") is not True:
        gates = said.get("gates")
        failed = tuple(
            f"{gate.get('name')}: {gate.get('value')} (limit {gate.get('limit')})"
            for gate in (gates if isinstance(gates, list) else [])
            if isinstance(gate, dict) and gate.get("ok") is not True
        )
        raise GateError("the report does not say that the model is proven, so it is not registered", failed)
    return Proven(model / "model.mlpackage", digest, conversion, said)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `InputError`."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise InputError(f"{path}: larger than {_MAX_JSON_BYTES} bytes")
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found
