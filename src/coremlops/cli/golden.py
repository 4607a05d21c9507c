"""`coremlops golden`: what a device checks before it activates a model."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.golden.document import DEFAULT_BYTES, DEFAULT_EXAMPLES

if TYPE_CHECKING:
    from coremlops.golden import Judgement


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = "example: coremlops golden check faces.mlpackage golden-set"
    commands = parser.add_subparsers(dest="golden_command", metavar="COMMAND", required=True)
    make = commands.add_parser("make", help="make a golden set from inputs that may be published")
    make.epilog = "example: coremlops golden make faces.mlpackage golden --out golden-set"
    make.add_argument("model", type=Path, help="model.mlpackage or model.mlmodel")
    make.add_argument(
        "inputs",
        help="inputs that may be published to every device: a folder of pictures or .npz, <label>/<picture>,"
        " an .npz, or module:function; docs/golden.md",
    )
    make.add_argument("--out", type=Path, required=True, metavar="DIR", help="the set; an older one goes")
    make.add_argument("--function", metavar="NAME", help="of a model that has several; default: its own")
    make.add_argument(
        "--max-examples", type=int, default=DEFAULT_EXAMPLES, metavar="N", help=f"default: {DEFAULT_EXAMPLES}"
    )
    make.add_argument(
        "--max-bytes",
        type=int,
        default=DEFAULT_BYTES,
        metavar="N",
        help=f"of the set; default: {DEFAULT_BYTES}",
    )
    check = commands.add_parser(
        "check",
        help="execute a model on its golden set, as a device does",
        description="Exit code 3 when the model does not answer as promised.",
    )
    check.epilog = "example: coremlops golden check faces.mlpackage golden-set --json"
    check.add_argument("model", type=Path, help="model.mlpackage or model.mlmodel")
    check.add_argument("set", type=Path, help="the folder with golden.json")
    widen = commands.add_parser("widen", help="write the set with wider tolerances, and why")
    widen.epilog = (
        "example: coremlops golden widen golden-set --out wider --report phone.json --reason 'A12: sigmoid'"
        "   (then: coremlops release publish MODEL --golden wider --again)"
    )
    widen.add_argument("set", type=Path, help="the folder with golden.json")
    widen.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new set")
    way = widen.add_mutually_exclusive_group(required=True)
    way.add_argument("--factor", type=float, metavar="F", help="every tolerance times F")
    way.add_argument(
        "--report", type=Path, action="append", default=[], metavar="FILE",
        help="as wide as these devices need, and half as much again; may be repeated",
    )  # fmt: skip
    widen.add_argument("--output", action="append", default=[], metavar="NAME", help="this output alone")
    widen.add_argument("--reason", required=True, help="goes into the set, and to every device")
    widen.add_argument(
        "--by",
        metavar="NAME",
        help="who decided, as devices may read; default: $COREMLOPS_ACTOR or your login",
    )
    for sub in (make, check, widen):
        sub.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Do what was asked; 3 when a model is not judged ok."""
    return {"make": _make, "check": _check, "widen": _widen}[args.golden_command](args)


def _make(args: argparse.Namespace) -> int:
    from coremlops import golden
    from coremlops.pipeline.publishable import check_publishable

    check_publishable(args.inputs)
    made = golden.make(
        args.model,
        args.inputs,
        args.out,
        function=args.function,
        max_examples=args.max_examples,
        max_bytes=args.max_bytes,
    )
    for note in made.notes:
        print(f"note: {note}", file=sys.stderr)
    calls = sum(map(len, made.golden.examples))
    if args.json:
        outputs = [limit.to_json() for limit in made.golden.limits]
        shown = {"model": made.golden.model, "bytes": made.bytes, "inputs": calls, "named": made.named}
        print(json.dumps({**shown, "outputs": outputs, "notes": list(made.notes)}))
        return 0
    print(f"{args.out}: {calls} of {made.named} inputs, {made.bytes} bytes")
    for limit in made.golden.limits:
        print(f"  {limit.name}: {limit.measure}, tolerance {limit.tolerance:.4g}, spread {limit.spread:.4g}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from coremlops import golden

    found = golden.check(args.model, args.set)
    if args.json:
        print(json.dumps(found.to_json()))
    else:
        _show(found)
    return 0 if found.ok else 3


def _show(found: Judgement) -> None:
    for each in found.outputs:
        verdict = "ok" if each.ok else "FAILED"
        print(f"{verdict:6} {each.name}: error {each.error:.4g}, tolerance {each.tolerance:.4g}")
    if found.agreement is not None:
        print(f"labels agree on {found.agreement:.0%} of what is decided")
    print(
        f"{found.calls} calls, load {found.load_s:.3g} s, latency {found.latency_s * 1000:.3g} ms (emulated)"
    )
    if found.reason:
        print(f"not as promised: {found.reason}")


def _widen(args: argparse.Namespace) -> int:
    from coremlops import golden

    made = golden.widen(
        args.set,
        args.out,
        reason=args.reason,
        by=args.by or os.environ.get("COREMLOPS_ACTOR", "").strip() or getpass.getuser(),
        at=datetime.now(UTC),
        factor=args.factor,
        reports=args.report,
        outputs=args.output,
    )
    decision = made.decisions[-1]
    if args.json:
        print(json.dumps(decision.to_json()))
        return 0
    for name, before, after in decision.changes:
        print(
            f"{name}: tolerance {before[0]:.4g} -> {after[0]:.4g}, largest {before[1]:.4g} -> {after[1]:.4g}"
        )
    print(f"{args.out}: decided by {decision.by}; publish it with --golden {args.out} --again")
    return 0
