"""What `coremlops verify` does beyond judging: `--locate`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.verify.locate import Location


HINT = "--locate names the op where it parts, and says why"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group("where it parts, and mending it")
    group.add_argument(
        "--locate",
        action="store_true",
        help="name the first op that loses precision or computes something else, and say why; without "
        "--against, the first question alone",
    )


def find(args: argparse.Namespace, limit_db: float) -> Location:
    """Locate, with progress on a terminal."""
    from coremlops.verify.locate import LocateOptions, locate

    precision = args.precision if args.precision != "float32" else "typed"
    options = LocateOptions(precision=precision, limit_db=limit_db, progress=_progress())
    data = None if args.data is None else str(args.data)
    return locate(_package(args.model), args.against, data, options)


def alone(args: argparse.Namespace, limit_db: float) -> int:
    """Locate without a proof. Raises UsageError when that was not asked for, GateError below the limit."""
    from coremlops.errors import GateError, UsageError

    if not args.locate or args.html is not None:
        missing = " and ".join(f"--{name}" for name in ("against", "data") if getattr(args, name) is None)
        raise UsageError(
            f"{missing} expected",
            hint="--locate alone can do without, and makes no page",
        )
    location = find(args, limit_db)
    if args.report is not None:
        args.report.write_text(json.dumps({"locate": location.to_json()}, indent=2) + "\n", "utf-8")
    print(json.dumps({"locate": location.to_json()}) if args.json else location.summary())
    worst = min(location.numeric_db, location.conversion_db or location.numeric_db)
    if worst < limit_db:
        failed = f"snr_db: at least {limit_db:g} expected, got {worst:.4g}"
        raise GateError(f"the Core ML model does not keep the gates\n  {failed}", (failed,))
    return 0


def _package(model: Path) -> Path:
    inside = model / "model.mlpackage"
    return inside if model.suffix != ".mlpackage" and inside.is_dir() else model


def _progress() -> Any:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        print(f"\rlocating {done}/{of}", end="\n" if done == of else "", file=sys.stderr, flush=True)

    return show
