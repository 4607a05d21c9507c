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
        "more: METRIC.least=0.9 METRIC.drop=0.01 OUTPUT.max_abs=0.001 slice.METRIC.least=0.8\n"
        "one that says no is exit code 3\n"
        "example: coremlops verify small.mlpackage --against big.mlpackage --data a.npz --metric snr\n"
        "example: coremlops verify m.mlpackage --against m.mlpackage --against-precision float32 --data d\n"
        "example: coremlops verify faces.mlpackage --against train --data photos/test --locate"
    )
    parser.add_argument("model", type=Path, help="an .mlpackage, or a folder that holds model.mlpackage")
    parser.add_argument(
        "--against",
        metavar="SOURCE",
        help="model.pt2, model.pt or the folder of one, .onnx, module:factory, or another Core ML file; only "
        "--locate can do without",
    )
    parser.add_argument(
        "--data",
        metavar="DATA",
        help="what was not trained on: DIR/label/picture, a folder of pictures, an .npz, a folder of .npz, "
        "module:function, or the word random",
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
    other = parser.add_argument_group("the two sides, and what is measured")
    other.add_argument("--engine", default="auto", help="of the model: auto, onnxruntime, coreml (on a Mac)")
    other.add_argument(
        "--against-precision",
        choices=("typed", "float32", "float16"),
        default="",
        help="of another Core ML file, or the same one; the model's when not given",
    )
    other.add_argument("--against-engine", default="auto", help="of another Core ML file, or the same one")
    other.add_argument(
        "--weights", type=Path, help="of a source module:factory: a state_dict or .safetensors"
    )
    other.add_argument("--function", help="of a model that has several")
    other.add_argument(
        "--recorded", type=Path, metavar="FILE", help="answers that a device measured, in the model's place"
    )
    other.add_argument(
        "--pair", action="append", default=[], metavar="A=B", help="the model's output A is the source's B"
    )
    other.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="accuracy, correlation, snr, token_errors, average_precision, or module:function; repeatable",
    )
    other.add_argument(
        "--slices",
        action="append",
        default=[],
        metavar="HOW",
        help="label, name:REGEX, FILE.json or FILE.csv:COLUMN; repeatable",
    )
    other.add_argument("--confidence", type=float, default=0.95, help="of intervals (default 0.95)")
    other.add_argument(
        "--preparation",
        metavar="MODULE:FUNCTION",
        help="compare how training prepares --data (a picture or a path to the net's array) with what the "
        "model records, in pixels and answers; gates mean_abs=2 top1_agreement=1 snr_db=20",
    )
    locating.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Verify, write what was asked for, and raise GateError when a gate said no."""
    from coremlops.errors import GateError, UsageError
    from coremlops.verify import Gates, VerifyOptions, render_html, verify

    if args.preparation is not None:
        return _preparation(args)
    gates = Gates().changed(args.gate)
    if args.correct_outputs is not None:
        return locating.correct(args)
    if args.fix and args.out is None:
        raise UsageError("--fix needs --out OUT.mlpackage")
    if args.against is None or args.data is None:
        return locating.alone(args, gates.snr_db)
    options = VerifyOptions(
        precision=args.precision,
        gates=gates,
        progress=_progress(),
        engine=args.engine,
        against_precision=args.against_precision,
        against_engine=args.against_engine,
        function=args.function,
        weights=args.weights,
        recorded=args.recorded,
        metrics=tuple(args.metric),
        slices=tuple(args.slices),
        pairs=_pairs(args.pair),
        confidence=args.confidence,
    )
    against = locating.source_of(args)
    report = verify(args.model, against, locating.data_of(args), options)
    said = [report.summary()]
    location, found = None, {}
    if args.fix and not report.ok:
        mended, report = locating.mend(args, options)
        note = f"This is the model before it was mended. {' '.join(mended.summary().split())}"
        location = replace(mended.location, notes=(note, *mended.location.notes))
        found = {"fix": mended.to_json()}
        said += [mended.summary(), report.summary()]
    elif args.locate:
        location = locating.find(args, gates.snr_db, against)
    found |= report.to_json() | ({"locate": location.to_json()} if location else {})
    if args.report is not None:
        _write(args.report, json.dumps(found, indent=2, sort_keys=True, allow_nan=False) + "\n")
    if args.html is not None:
        _write(args.html, render_html(report, location))
    said += [location.summary()] if location else []
    print(json.dumps(found, allow_nan=False) if args.json else "\n".join(said))
    if not report.ok:
        lines = "".join(f"\n  {line}" for line in report.failed)
        message = f"the Core ML model does not keep the gates{lines}"
        raise GateError(message, report.failed, hint="" if location else locating.HINT)
    return 0


def _preparation(args: argparse.Namespace) -> int:
    from coremlops.errors import GateError, UsageError
    from coremlops.verify.preparation import ParityGates, compare_preparation, render_parity

    if args.data is None:
        raise UsageError("--data expected: the files that are prepared both ways")
    gates = ParityGates().changed(args.gate)
    found = compare_preparation(args.model, args.preparation, args.data, gates)
    if args.report is not None:
        _write(args.report, json.dumps(found.to_json(), indent=2, sort_keys=True, allow_nan=False) + "\n")
    if args.html is not None:
        _write(args.html, render_parity(found))
    print(json.dumps(found.to_json(), allow_nan=False) if args.json else found.summary())
    if not found.ok:
        lines = "".join(f"\n  {line}" for line in found.failed)
        raise GateError(f"training prepares its data in another way{lines}", found.failed)
    return 0


def _pairs(texts: list[str]) -> tuple[tuple[str, str], ...]:
    from coremlops.errors import UsageError

    for text in texts:
        if not all(text.partition("=")):
            raise UsageError(f"--pair: MODEL_OUTPUT=SOURCE_OUTPUT expected, got {text!r}")
    return tuple((text.partition("=")[0], text.partition("=")[2]) for text in texts)


def _write(path: Path, text: str) -> None:
    from coremlops.errors import WriteError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror}") from None


def _progress() -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        end = "\n" if done == of else ""
        print(f"\rverifying {done}/{of}", end=end, file=sys.stderr, flush=True)

    return show
