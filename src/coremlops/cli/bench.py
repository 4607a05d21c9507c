"""`coremlops bench`: how fast a model is here."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from coremlops.errors import UsageError


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="an .mlpackage folder, an .mlmodel file, or module:factory, a Python function that gives "
        "(PyTorch module, example inputs): it is converted with the weights that it has",
    )
    parser.add_argument(
        "--precision",
        choices=("typed", "float32", "float16"),
        default="typed",
        help="see `coremlops predict` (default: typed)",
    )
    parser.add_argument(
        "--engine",
        default="auto",
        metavar="NAME",
        help="auto, onnxruntime, cuda or openvino (default: auto)",
    )
    parser.add_argument("--function", metavar="NAME", help="of a model with several functions")
    parser.add_argument("--threads", type=int, metavar="N", help="in an op (default: the engine's choice)")
    parser.add_argument("--batch", default="1,8", metavar="N,...", help="examples a call (default: 1,8)")
    parser.add_argument(
        "--concurrency", default="1,2,4", metavar="N,...", help="calls at once (default: 1,2,4)"
    )
    parser.add_argument(
        "--seconds", type=float, default=1.0, metavar="S", help="of each measurement (default: 1)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = (
        "example: coremlops bench faces.mlpackage --precision float32\n"
        "         coremlops bench my_nets:small_vit   (def small_vit(): return module, (example,))"
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print."""
    from coremlops.runtime.bench import BenchOptions, bench

    options = BenchOptions(
        precision=args.precision,
        engine=args.engine,
        function_name=args.function,
        threads=args.threads,
        batches=_numbers("--batch", args.batch),
        concurrency=_numbers("--concurrency", args.concurrency),
        seconds=args.seconds,
    )
    if re.fullmatch(r"[\w.]+:\w+", args.model) and not Path(args.model).exists():
        from coremlops.convert import convert

        with tempfile.TemporaryDirectory() as folder:
            package = convert(args.model, Path(folder) / "untrained.mlpackage").path
            found = bench(package, options)
    else:
        found = bench(args.model, options)
    found = {"model": args.model, **found}
    print(json.dumps(found) if args.json else "\n".join(_lines(found)))
    return 0


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected whole numbers, such as 1,8") from None


def _lines(found: dict[str, Any]) -> list[str]:
    from coremlops.cli.describe import size_text, terminal_text

    steady = found["steady_ms"]
    threads = f", {found['threads']} threads" if found["threads"] else ""
    rows = [
        ("model", f"{terminal_text(found['model'])}  {found['digest'][:12]}"),
        ("how", f"{found['precision']}, engine {found['engine']}{threads}"),
        ("load", f"{found['load_s'] * 1e3:.0f} ms in a fresh process"),
        ("first", f"{found['first_ms']:.2f} ms"),
        (
            "steady",
            f"{steady['median']:.2f} ms median, {steady['p95']:.2f} ms p95, {steady['count']} predictions",
        ),
        ("memory", f"{size_text(found['peak_memory_bytes'])} at most"),
    ]
    lines = [f"{name:<7} {value}" for name, value in rows]
    lines += ["", f"{'batch':>5} {'at once':>8} {'a second':>10}"]
    lines += [
        f"{row['batch']:>5} {row['concurrency']:>8} {row['per_s']:>10.1f}" for row in found["throughput"]
    ]
    return lines
