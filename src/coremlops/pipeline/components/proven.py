"""A model, and a report that speaks for exactly that model: what `register`, `publish` and `bundle` ask for.

Imports nothing heavy: a run with nothing to do reads this too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coremlops.collection.names import is_sha256
from coremlops.errors import GateError, InputError

MAX_JSON_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Proven:
    """A model whose report said yes. `conversion` and `report` are the files' objects."""

    model: Path
    digest: str
    conversion: Mapping[str, Any]
    report: Mapping[str, Any]

    def check_package(self) -> None:
        """Raise `InputError` unless the package on disk is the model that `conversion.json` names."""
        from coremlops.model import model_digest

        found = model_digest(self.model)
        if found != self.digest:
            raise InputError(
                f"{self.model} is not the model of conversion.json: expected {self.digest}, got {found}",
                hint="it was changed after its conversion: convert it again",
            )


def read_proven(model: Path, report: Path, *, done: str) -> Proven:
    """Read `convert`'s and `verify`'s folders. `done`: what a report that says no forbids, "registered".

    Raises `InputError` for a file that is missing or damaged and for a report about another model, and
    `GateError` for a report that says no. The package itself is not read; see `Proven.check_package`.
    """
    conversion = read_object(model / "conversion.json")
    digest = conversion.get("digest")
    if not isinstance(digest, str) or not is_sha256(digest):
        raise InputError(
            f"{model / 'conversion.json'}: expected a digest of 64 hex digits, got {digest!r:.80}",
            hint="give `model` the output of a convert step",
        )
    said = check_report(report / "report.json", digest, done=done)
    return Proven(model / "model.mlpackage", digest, conversion, said)


def check_report(path: Path, digest: str, *, done: str) -> dict[str, Any]:
    """The object in a `report.json` that is ok and speaks of the model with this digest.

    Raises `InputError` for a file that is no report or is about another model, `GateError` for one that
    says no.
    """
    said = read_object(path)
    about = said.get("model")
    found = about.get("digest") if isinstance(about, dict) else None
    if found != digest:
        raise InputError(
            f"the report is about another model: expected {digest}, got {str(found)[:64]}",
            hint="verify this very model, and give that report",
        )
    if said.get("kind", "proof") != "proof":
        raise InputError(
            f"the report is of the kind {str(said['kind'])[:40]}, and no proof, so the model is not {done}"
        )
    source = said.get("source")
    if isinstance(source, dict) and source.get("digest") == digest:
        raise GateError(
            f"the report holds the model against itself, so it is not {done}",
            ("source: the model's own digest",),
            hint="verify it against the source that it was converted from",
        )
    if said.get("ok") is not True:
        gates = said.get("gates")
        failed = tuple(
            f"{gate.get('name')}: {gate.get('value')} (limit {gate.get('limit')})"
            for gate in (gates if isinstance(gates, list) else [])
            if isinstance(gate, dict) and gate.get("ok") is not True
        )
        raise GateError(
            f"the report does not say that the model is proven, so it is not {done}",
            failed,
            hint="see report.html beside the report",
        )
    return said


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises `InputError`."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_JSON_BYTES:
        raise InputError(f"{path}: at most {MAX_JSON_BYTES} bytes expected, got more")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no JSON: {error!s:.200}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(found).__name__}")
    return found
