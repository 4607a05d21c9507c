"""What a step says about its output in `metrics.json`, `dataset.json` and `receipt.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coremlops.errors import StepError

MAX_BYTES = 4 << 20


def read_object(folder: Path, name: str, step: str) -> dict[str, Any] | None:
    """The JSON object in `folder/name`, None when there is none. Raises `StepError` when it is no object."""
    path = folder / name
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > MAX_BYTES:
            raise StepError(f"step {step}: {name} is larger than {MAX_BYTES} bytes", step=step)
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError, OSError) as error:
        raise StepError(f"step {step}: {name} is not valid JSON: {error}", step=step) from error
    if not isinstance(value, dict):
        raise StepError(f"step {step}: {name} must hold an object, got {type(value).__name__}", step=step)
    return value


def read_metrics(folder: Path, step: str) -> dict[str, float]:
    """`metrics.json`: name to number. Raises `StepError` for anything else in it."""
    value = read_object(folder, "metrics.json", step) or {}
    for name, number in value.items():
        if isinstance(number, bool) or not isinstance(number, int | float) or _too_large(number):
            raise StepError(
                f"step {step}: metrics.json holds numbers, got {name}: {json.dumps(number)[:80]}", step=step
            )
    return {name: float(number) for name, number in value.items()}


def _too_large(number: float) -> bool:
    """Whether a number is an integer beyond every float; JSON has such."""
    return isinstance(number, int) and abs(number) > sys.float_info.max


def read_dataset(folder: Path, step: str) -> dict[str, Any] | None:
    """`dataset.json`. Raises `StepError` when `name` or `digest` is not text of printable characters."""
    value = read_object(folder, "dataset.json", step)
    if value is not None:
        for key in ("name", "digest"):
            text = value.get(key)
            # The digest goes into the environment of the steps that follow, which cannot carry everything.
            if not (isinstance(text, str) and text.isprintable()):
                raise StepError(f"step {step}: dataset.json needs {key!r} as text", step=step)
    return value


def artifacts(folder: Path) -> list[Path]:
    """The files at the top of an output that belong to the step's run: reports and pictures."""
    found = [folder / name for name in ("report.json", "report.html", "receipt.json")]
    return [path for path in [*found, *sorted(folder.glob("*.png"))] if path.is_file()]


def failed_gates(folder: Path) -> tuple[str, ...]:
    """One line for each gate in `report.json` that said no; () when there is no such report."""
    try:
        report: Any = json.loads((folder / "report.json").read_bytes())
        gates: list[Mapping[str, Any]] = [gate for gate in report["gates"] if not gate["ok"]]
        return tuple(_words(gate) for gate in gates)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ()


def _words(gate: Mapping[str, Any]) -> str:
    """A gate as `verify` itself says it. A report of someone else's may not say which way the limit goes."""
    limit = f"{gate['limit']:g}"
    ways = {"at_least": f"at least {limit} expected", "at_most": f"at most {limit} expected"}
    way = ways.get(str(gate.get("is")), f"limit {limit}")
    got = "not a number" if gate["value"] is None else f"{gate['value']:.4g}"
    return f"{gate['name']}: {way}, got {got}"
