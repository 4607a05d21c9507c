"""The step's command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from coremlops.digest import sha256_bytes
from coremlops.errors import CoremlopsError, UsageError
from coremlops.improve.front_page import render_front
from coremlops.improve.search import SearchOptions, search
from coremlops.lint import model_of, parse_bytes
from coremlops.model import ModelAsset
from coremlops.pipeline.components.ending import said
from coremlops.source import open_reference, open_samples


def main(argv: Sequence[str] | None = None) -> int:
    """Search and return the exit code: 3 when no recipe keeps the budget."""
    parser = argparse.ArgumentParser(prog="search", allow_abbrev=False)
    for name in ("model", "data", "downstream"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("source", "budget_bytes", "budget_quality", "target"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args(argv)
    try:
        _search(args)
    except CoremlopsError as error:
        return said(error)
    return 0


def _search(args: argparse.Namespace) -> None:
    model = model_of(args.model)
    asset = ModelAsset.open(model)
    data = open_samples(args.data, asset.description.inputs)
    data = data.head(args.samples) if args.samples else data
    against = open_reference(Path(args.source)) if args.source else None
    about = [asset.digest, data.digest, against.digest if against is not None else "", args.target]
    project = os.environ.get("COREMLOPS_PROJECT")
    # In a project, a step fills another folder each time it runs, so the name is what it is about.
    folder = Path(project, ".coremlops", "search") if project else args.downstream
    options = SearchOptions(
        budget_bytes=parse_bytes(args.budget_bytes, "budget_bytes") if args.budget_bytes else None,
        quality_db=_decibels(args.budget_quality),
        target=args.target or None,
        workers=args.workers,
        journal=folder / f"{sha256_bytes(json.dumps(about).encode())[:16]}.jsonl",
        progress=_show,
    )
    args.downstream.mkdir(parents=True, exist_ok=True)
    found = search(model, args.downstream / "model.mlpackage", data, against=against, options=options)
    made = found.compression
    _write(args.downstream / "compression.json", made.to_json())
    _write(args.downstream / "recipe.json", found.recipe.to_json())
    _write(args.downstream / "report.json", found.to_json())
    _write(args.downstream / "metrics.json", {"bytes": made.bytes, "snr_db": found.snr_db})
    (args.downstream / "report.html").write_text(render_front(found), "utf-8")
    print(f"{made.bytes_before} -> {made.bytes} bytes, {found.snr_db:.1f} dB on {data.about}")


def _decibels(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        raise UsageError(f"budget_quality: a number of dB expected, got {text!r}") from None


def _show(done: int, of: int, what: str) -> None:
    if done == of or done % max(1, of // 10) == 0:
        print(f"{what} {done}/{of}", flush=True)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
