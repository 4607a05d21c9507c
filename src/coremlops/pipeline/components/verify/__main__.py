"""The step's command. The report is written whatever the gates say."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from coremlops.errors import CoremlopsError, GateError
from coremlops.improve.fix import source_of
from coremlops.pipeline.components.ending import said
from coremlops.verify import Gates, VerifyOptions, render_html, verify
from coremlops.verify.gates import FIXED
from coremlops.verify.locate import LocateOptions, locate


def main(argv: Sequence[str] | None = None) -> int:
    """Verify and return the exit code: 3 when a gate said no."""
    parser = argparse.ArgumentParser(prog="verify", allow_abbrev=False)
    for name in ("model", "source", "data", "downstream"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--precision", default="typed")
    parser.add_argument("--locate", choices=("failure", "always", "never"), default="failure")
    for name in ("gates", "metrics", "slices", "against_precision", "recorded"):
        parser.add_argument(f"--{name}", default="")
    for name, default in Gates().fixed.items():
        parser.add_argument(f"--{name}", type=float, default=default)
    args = parser.parse_args(argv)
    gc.set_threshold(200_000, 20, 100)  # importing torch makes a million objects that stay
    try:
        _verify(args)
    except CoremlopsError as error:
        return said(error)
    return 0


def _verify(args: argparse.Namespace) -> None:
    gates = Gates(**{name: getattr(args, name) for name in FIXED}).changed(args.gates.split())
    options = VerifyOptions(
        precision=args.precision,
        gates=gates,
        against_precision=args.against_precision,
        recorded=Path(args.recorded) if args.recorded else None,
        metrics=tuple(args.metrics.split()),
        slices=tuple(args.slices.split()),
    )
    source = source_of(args.model, args.source)
    report = verify(args.model, source, args.data, options)
    location = None
    if args.locate == "always" or (args.locate == "failure" and not report.ok):
        try:
            location = locate(args.model, source, str(args.data), LocateOptions(limit_db=gates.snr_db))
        except CoremlopsError as error:  # a help to who reads the report, which stands without it
            print(f"not located: {error.message}", file=sys.stderr)
    page = render_html(report, location)
    args.downstream.mkdir(parents=True, exist_ok=True)
    found = {"locate": location.to_json()} if location else {}
    _write(args.downstream / "report.json", report.to_json() | found)
    _write(args.downstream / "metrics.json", report.metrics())
    (args.downstream / "report.html").write_text(page, "utf-8")
    print(report.summary())
    if location is not None:
        print(location.summary())
    if not report.ok:
        raise GateError("the Core ML model does not keep the gates", report.failed)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
