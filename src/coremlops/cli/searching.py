"""What `coremlops compress` does with `--search`: finds the recipe itself."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremlops.improve.search import Search

OPTIONS = ("data", "against", "budget_bytes", "budget_quality", "workers", "journal")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group(
        "of --search",
        "Beside OUT go .recipe.json, .search.json, .front.html and .search.jsonl, with which a search that "
        "was killed goes on.",
    )
    group.add_argument(
        "--data", metavar="DATA", help="pictures, an .npz, a folder of them, or module:function"
    )
    group.add_argument(
        "--against", metavar="SOURCE", help="whose outputs count; by default this model's own in float32"
    )
    group.add_argument(
        "--budget-bytes", metavar="SIZE", help="the best model of that size, such as 2.5MB, at most"
    )
    group.add_argument(
        "--budget-quality",
        type=float,
        metavar="DB",
        help="the smallest model whose worst output keeps so much signal to noise (default: 30)",
    )
    group.add_argument("--workers", type=int, metavar="N", help="candidates at once (default: 2)")
    group.add_argument("--journal", type=Path, metavar="FILE", help="where measurements are kept")


def run(args: argparse.Namespace) -> int:
    """Search, write what was found, and print it."""
    from coremlops.errors import UsageError
    from coremlops.improve.search import SearchOptions, search
    from coremlops.lint import parse_bytes
    from coremlops.model import ModelAsset
    from coremlops.source import open_reference, open_samples

    if args.keep or args.calibration is not None:
        raise UsageError("--keep and --calibration mean nothing to --search; its data is --data")
    if args.data is None:
        raise UsageError("--data expected: a weight's worth is measured by executing the model on it")
    options = SearchOptions(
        budget_bytes=parse_bytes(args.budget_bytes, "--budget-bytes") if args.budget_bytes else None,
        quality_db=args.budget_quality,
        workers=2 if args.workers is None else args.workers,
        target=args.target,
        journal=args.journal,
        progress=_progress(),
    )
    model = Path(args.model)
    samples = open_samples(args.data, ModelAsset.open(model).description.inputs)
    samples = samples.head(args.samples) if args.samples else samples
    against = None if args.against is None else open_reference(args.against)
    found = search(model, args.out, samples, against=against, options=options)
    write(found, args.out.with_name(args.out.stem))
    print(json.dumps(found.to_json()) if args.json else "\n".join(_lines(found)))
    return 0


def refuse_without(args: argparse.Namespace) -> None:
    """Raise UsageError for options that mean something to --search alone."""
    from coremlops.errors import UsageError

    for name in OPTIONS:
        if getattr(args, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')} means something to --search alone")


def write(found: Search, stem: Path) -> None:
    """The recipe, all that was measured, and the front, beside the model."""
    from coremlops.improve.front_page import render_front

    for name, value in (("recipe", found.recipe.to_json()), ("search", found.to_json())):
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
        stem.with_name(f"{stem.name}.{name}.json").write_text(text, "utf-8")
    stem.with_name(f"{stem.name}.front.html").write_text(render_front(found), "utf-8")


def _lines(found: Search) -> list[str]:
    from collections import Counter

    from coremlops.cli.describe import size_text

    made = found.compression
    settings = Counter(str(weight.setting) for weight in made.weights if not weight.kept)
    mixed = ", ".join(f"{count} {setting}" for setting, count in settings.most_common())
    agreement = "" if found.agreement is None else f", {found.agreement:.1%} name the same label"
    near = [entry for entry in found.uniform if entry.bytes <= made.bytes]
    best = max(near, key=lambda entry: entry.snr_db, default=None)
    lines = [
        f"{made.path}: {size_text(made.bytes_before)} -> {size_text(made.bytes)} "
        f"({made.bytes / made.bytes_before:.0%}), {made.target}",
        f"quality: {found.snr_db:.1f} dB on {found.about['data']['about']}{agreement} (emulated)",
        f"weights: {mixed}",
    ]
    if best is not None:
        lines.append(f"best uniform setting of that size: {best.setting}, {best.snr_db:.1f} dB")
    stem = made.path.stem
    lines.append(f"executed {found.executed} candidates, {found.reused} lines were in the journal")
    return [
        *lines,
        f"wrote {stem}.recipe.json, {stem}.search.json, {stem}.front.html",
        f"digest {made.digest}",
    ]


def _progress() -> Callable[[int, int, str], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int, what: str) -> None:
        end = "\n" if done == of else ""
        print(f"\r\x1b[K{what} {done}/{of}", end=end, file=sys.stderr, flush=True)

    return show
