"""`coremlops verify`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from coremlops.cli import locating


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "example: coremlops verify faces.mlpackage --against train --data photos/test --html report.html\n"
        "gates: snr_db=40 channel_snr_db=10 top1_agreement=1 accuracy_drop=0 max_abs=0.02\n"
        "one that says no is exit code 3\n"
        "example: coremlops verify faces.mlpackage --against train --data photos/test --locate"
    )
    parser.add_argument("model", type=Path, help="an .mlpackage, or a folder that holds model.mlpackage")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="SOURCE",
        help="model.pt2, model.pt or the folder of one; only --locate can do without",
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="pictures that were not trained on: DIR/label/picture; only --locate can do without",
    )
    parser.add_argument(
        "--precision",
        choices=("typed", "float32", "float16"),
        default="typed",
        help="how the Core ML model is computed here; typed is what its file says (default)",
    )
    parser.add_argument(
        "--gate", action="append", default=[], metavar="NAME=NUMBER", help="another limit; may be repeated"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write the report as one page")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the report as JSON")
    parser.add_argument("--json", action="store_true", help="print the report as one JSON object")
    locating.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Verify, write what was asked for, and raise GateError when a gate said no."""
    from coremlops.errors import GateError, UsageError
    from coremlops.verify import Gates, VerifyOptions, render_html, verify

    gates = Gates().changed(args.gate)
    if args.correct_outputs is not None:
        return locating.correct(args)
    if args.fix and args.out is None:
        raise UsageError("--fix needs --out OUT.mlpackage")
    if args.against is None or args.data is None:
        return locating.alone(args, gates.snr_db)
    options = VerifyOptions(precision=args.precision, gates=gates, progress=_progress())
    report = verify(args.model, args.against, args.data, options)
    said = [report.summary()]
    location, found = None, {}
    if args.fix and not report.ok:
        mended, report = locating.mend(args, options)
        note = f"This is the model before it was mended. {' '.join(mended.summary().split())}"
        location = replace(mended.location, notes=(note, *mended.location.notes))
        found = {"fix": mended.to_json()}
        said += [mended.summary(), report.summary()]
    elif args.locate:
        location = locating.find(args, gates.snr_db)
    found |= report.to_json() | ({"locate": location.to_json()} if location else {})
    if args.report is not None:
        _write(args.report, json.dumps(found, indent=2, sort_keys=True, allow_nan=False) + "\n")
    if args.html is not None:
        judged = args.out if "fix" in found else args.model
        _write(args.html, render_html(report, judged, args.data, location))
    said += [location.summary()] if location else []
    print(json.dumps(found, allow_nan=False) if args.json else "\n".join(said))
    if not report.ok:
        lines = "".join(f"\n  {line}" for line in report.failed)
        message = f"the Core ML model does not keep the gates{lines}"
        raise GateError(message, report.failed, hint="" if location else locating.HINT)
    return 0


def _write(path: Path, text: str) -> None:
    from coremlops.errors import UsageError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _progress() -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        end = "\n" if done == of else ""
        print(f"\rverifying {done}/{of}", end=end, file=sys.stderr, flush=True)

    return show
