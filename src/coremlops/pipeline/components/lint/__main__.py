"""The step's command. The report is written whatever the findings are."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from coremlops import __version__
from coremlops.errors import CoremlopsError, GateError, UsageError
from coremlops.lint import (
    LEVELS,
    LintOptions,
    as_text,
    model_of,
    parse_bytes,
    parse_suppressions,
    read_baseline,
    survey,
    to_sarif,
)
from coremlops.model import ModelAsset
from coremlops.pipeline.components.ending import said
from coremlops.source import open_samples


def main(argv: Sequence[str] | None = None) -> int:
    """Lint and return the exit code: 3 when a finding counts that is bad enough."""
    parser = argparse.ArgumentParser(prog="lint", allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--downstream", type=Path, required=True)
    for name in ("target", "device", "max_size", "max_activations", "data", "baseline"):
        parser.add_argument(f"--{name}", default="")
    parser.add_argument("--fail_on", default="error")
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--suppress", default="[]")
    args = parser.parse_args(argv)
    try:
        _lint(args)
    except CoremlopsError as error:
        return said(error)
    return 0


def _lint(args: argparse.Namespace) -> None:
    if args.fail_on not in (*LEVELS, "never"):
        raise UsageError(f"fail_on: one of {', '.join(LEVELS)} or never expected, got {args.fail_on!r}")
    path = model_of(args.model)
    samples = None
    if args.data or args.samples:
        inputs = ModelAsset.open(path).description.inputs
        samples = open_samples(args.data or None, inputs, count=args.samples or 16)
        samples = samples.head(args.samples) if args.samples else samples
    options = LintOptions(
        target=args.target,
        devices=tuple(name.strip() for name in args.device.split(",") if name.strip()),
        max_bytes=parse_bytes(args.max_size, "max_size") if args.max_size else None,
        max_activation_bytes=(
            parse_bytes(args.max_activations, "max_activations") if args.max_activations else None
        ),
        samples=samples,
        suppressions=parse_suppressions(_json(args.suppress), "suppress"),
    )
    report = survey(path, options)
    if args.baseline:
        report = report.against(read_baseline(Path(args.baseline)))
    args.downstream.mkdir(parents=True, exist_ok=True)
    project = os.environ.get("COREMLOPS_PROJECT")
    sarif = to_sarif(report, version=__version__, root=Path(project) if project else None)
    _write(args.downstream / "report.json", report.to_json())
    _write(args.downstream / "report.sarif", sarif)
    _write(args.downstream / "metrics.json", report.counts())
    print(as_text(report))
    failing = report.failing(args.fail_on)
    if failing:
        lines = tuple(f"{entry.level} {entry.rule}: {entry.place}: {entry.message}" for entry in failing)
        raise GateError(f"{len(failing)} finding(s) at {args.fail_on} or above", lines)


def _json(text: str) -> object:
    try:
        found: object = json.loads(text)
        return found
    except (ValueError, RecursionError) as error:
        raise UsageError(f"suppress: JSON expected: {error!s:.80}") from None


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
