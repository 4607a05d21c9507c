"""What `coremlops verify` does beyond judging: `--locate`, `--fix`, `--correct-outputs`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.convert import ConvertOptions
    from coremlops.improve.fix import Fix
    from coremlops.source import Reference
    from coremlops.verify import Report, VerifyOptions
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
    group.add_argument(
        "--fix",
        action="store_true",
        help="when a gate says no: convert again with the fewest ops in float32 that keep the gates",
    )
    group.add_argument(
        "--correct-outputs",
        metavar="DATA",
        help="the last resort: fit a scale and an offset of each output on this data, and write them into a "
        "copy of the model if they bring it nearer to the source on --data, too",
    )
    group.add_argument(
        "--options",
        type=Path,
        metavar="FILE",
        help="of --fix: how to convert again, as convert --options; else as the model says",
    )
    group.add_argument("-o", "--out", type=Path, metavar="OUT.mlpackage", help="where the mended model goes")


def source_of(args: argparse.Namespace) -> str | Path | Reference:
    """What `--against` names, asked as the model was converted from it. Raises InputError and UsageError."""
    from coremlops.improve.fix import source_of

    return source_of(args.model, args.against, weights=args.weights, options=_options(args))


def _options(args: argparse.Namespace) -> ConvertOptions | None:
    from coremlops.convert.options_file import parse_options, read_options

    return None if args.options is None else parse_options(read_options(args.options), str(args.options))


def find(args: argparse.Namespace, limit_db: float, against: str | Path | Reference | None) -> Location:
    """Locate, with progress on a terminal."""
    from coremlops.verify.locate import LocateOptions, locate

    precision = args.precision if args.precision != "float32" else "typed"
    options = LocateOptions(
        precision=precision, limit_db=limit_db, function=args.function, progress=_progress()
    )
    return locate(args.model, against, data_of(args), options)


def data_of(args: argparse.Namespace) -> str | None:
    """What `--data` names; None for random values."""
    return None if args.data == "random" else args.data


def alone(args: argparse.Namespace, limit_db: float) -> int:
    """Locate without a proof. Raises UsageError when that was not asked for, GateError below the limit."""
    from coremlops.errors import GateError, UsageError

    if not args.locate or args.html is not None:
        missing = " and ".join(f"--{name}" for name in ("against", "data") if getattr(args, name) is None)
        raise UsageError(
            f"{missing} expected",
            hint="--locate alone can do without, and makes no page",
        )
    location = find(args, limit_db, None if args.against is None else source_of(args))
    if args.report is not None:
        args.report.write_text(json.dumps({"locate": location.to_json()}, indent=2) + "\n", "utf-8")
    print(json.dumps({"locate": location.to_json()}) if args.json else location.summary())
    worst = min(location.numeric_db, location.conversion_db or location.numeric_db)
    if worst < limit_db:
        failed = f"snr_db: at least {limit_db:g} expected, got {worst:.4g}"
        raise GateError(f"the Core ML model does not keep the gates\n  {failed}", (failed,))
    return 0


def mend(args: argparse.Namespace, verifying: VerifyOptions) -> tuple[Fix, Report]:
    """`--fix`: the mended model at `--out`, and its proof.

    Raises UsageError for what is no source to convert again, GateError when nothing keeps the gates.
    """
    from coremlops.errors import UsageError
    from coremlops.improve.fix import FixOptions, fix_model
    from coremlops.verify.locate.program import package_of

    if package_of(Path(args.against)).suffix in (".mlpackage", ".mlmodel"):
        raise UsageError(
            f"--fix converts the source again; {args.against} is a Core ML model",
            hint="--against what it was converted from",
        )
    say = (lambda text: print(text, file=sys.stderr)) if sys.stderr.isatty() else None
    options = FixOptions(limit_db=verifying.gates.snr_db, progress=say)
    return fix_model(
        package_of(args.model),
        args.against,
        data_of(args),
        args.out,
        verifying=verifying,
        converting=_options(args),
        options=options,
    )


def correct(args: argparse.Namespace) -> int:
    """`--correct-outputs`: fitted on its data, proven on `--data`."""
    from coremlops.errors import UsageError
    from coremlops.improve.correct import correct_outputs
    from coremlops.source.reference import open_reference
    from coremlops.source.samples import open_samples
    from coremlops.verify.locate.program import package_of

    if args.against is None or args.data is None or args.out is None:
        raise UsageError("--correct-outputs needs --against, --data that it is not fitted on, and --out")
    reference = open_reference(args.against, weights=args.weights)
    fitted, held_out = (
        open_samples(str(data), reference.inputs) for data in (args.correct_outputs, args.data)
    )
    made = correct_outputs(package_of(args.model), reference, fitted, held_out, args.out)
    found = {"correction": made.to_json() | {"digest": made.digest}}
    if args.report is not None:
        args.report.write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    print(json.dumps(found) if args.json else made.summary())
    return 0


def _progress() -> Any:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        print(f"\rlocating {done}/{of}", end="\n" if done == of else "", file=sys.stderr, flush=True)

    return show
