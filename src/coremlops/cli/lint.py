"""`coremlops lint`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremlops.lint import LintOptions, Report, Suppression

FORMATS = ("text", "json", "sarif")
FAIL_ON = ("error", "warning", "note", "never")


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = (
        "example: coremlops lint faces.mlpackage --target iOS16 --device A15 --data photos/test\n"
        "An error is known to be wrong; a warning or a note is a risk, with its source and how sure it is.\n"
        "exit code 3: findings at or above --fail-on, that are neither suppressed nor in the baseline"
    )
    parser.add_argument(
        "model", type=Path, nargs="?", help="an .mlpackage or .mlmodel, or a folder with model.mlpackage"
    )
    parser.add_argument("--target", default="", help="the oldest system, such as iOS17 or macOS14")
    parser.add_argument(
        "--device",
        action="append",
        default=[],
        help="a chip or an iPhone (A16, M2, 'iPhone 14'); may be repeated",
    )
    parser.add_argument("--max-size", metavar="BYTES", help="budget of the model on disk, such as 50MB")
    parser.add_argument("--max-activations", metavar="BYTES", help="budget of the values that live at once")
    ranges = parser.add_argument_group("activation ranges: the model is executed")
    ranges.add_argument(
        "--data", metavar="DATA", help="pictures, an .npz, a folder of them, or module:function"
    )
    ranges.add_argument("--ranges", action="store_true", help="without data: on seeded random values")
    ranges.add_argument("--samples", type=int, metavar="N", help="how many (all of --data; 16 random ones)")
    parser.add_argument(
        "--fail-on", choices=FAIL_ON, default="error", help="the mildest level that fails (error)"
    )
    parser.add_argument("--baseline", type=Path, metavar="FILE", help="fail on findings that are not in it")
    parser.add_argument(
        "--write-baseline", type=Path, metavar="FILE", help="write today's findings, and exit 0"
    )
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument("--json", action="store_const", const="json", dest="format", help="--format json")
    parser.add_argument("-o", "--out", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument(
        "--all", action="store_true", help="text: every place, suppressed and known ones, too"
    )
    parser.add_argument("--rules", action="store_true", help="list the rules, and exit")
    parser.add_argument("--explain", metavar="RULE", help="say what a rule means, with examples, and exit")


def run(args: argparse.Namespace) -> int:
    """Lint, print or write the report, and raise GateError when findings count."""
    from coremlops.errors import GateError, UsageError
    from coremlops.lint import model_of, read_baseline, survey, write_baseline

    if args.rules or args.explain:
        print(_rules() if args.rules else _explained(args.explain))
        return 0
    if args.model is None:
        raise UsageError("a model expected", hint="coremlops lint MODEL; --rules lists what is looked for")
    known = read_baseline(args.baseline) if args.baseline is not None else frozenset()
    report = survey(model_of(args.model), _options(args)).against(known)
    text = _rendered(report, args)
    if args.out is not None:
        _write(args.out, text + "\n")
    else:
        print(text)
    if args.write_baseline is not None:
        write_baseline(args.write_baseline, report.findings)
        return 0
    failing = report.failing(args.fail_on)
    if failing:
        lines = tuple(f"{entry.level} {entry.rule}: {entry.place}" for entry in failing)
        raise GateError(f"{len(failing)} finding(s) at {args.fail_on} or above", lines)
    return 0


def _options(args: argparse.Namespace) -> LintOptions:
    from coremlops.errors import UsageError
    from coremlops.lint import LintOptions, model_of, parse_bytes

    if args.samples is not None and args.samples < 1:
        raise UsageError(f"--samples {args.samples}: at least 1 expected")
    samples = None
    if args.data is not None or args.ranges or args.samples is not None:
        from coremlops.model import ModelAsset
        from coremlops.source import open_samples

        inputs = ModelAsset.open(model_of(args.model)).description.inputs
        samples = open_samples(args.data, inputs, count=args.samples or 16)
        samples = samples.head(args.samples) if args.samples is not None else samples
    return LintOptions(
        target=args.target,
        devices=tuple(args.device),
        max_bytes=None if args.max_size is None else parse_bytes(args.max_size, "--max-size"),
        max_activation_bytes=(
            None if args.max_activations is None else parse_bytes(args.max_activations, "--max-activations")
        ),
        samples=samples,
        suppressions=_suppressions(),
        progress=_progress(),
    )


def _suppressions() -> tuple[Suppression, ...]:
    """Those of the `coremlops.yaml` here or above; none where there is none."""
    from coremlops.pipeline.config import FILE, parse_config
    from coremlops.pipeline.yamlfile import parse_yaml

    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return parse_config(parse_yaml((folder / FILE).read_bytes(), FILE)).suppressions
    return ()


def _rendered(report: Report, args: argparse.Namespace) -> str:
    from coremlops import __version__
    from coremlops.cli.describe import terminal_text
    from coremlops.lint import as_text, to_sarif

    if args.format == "json":
        return json.dumps(report.to_json(), allow_nan=False)
    if args.format == "sarif":
        return json.dumps(to_sarif(report, version=__version__), indent=2, allow_nan=False)
    return terminal_text(as_text(report, everything=args.all))


def _rules() -> str:
    from coremlops.lint import RULES

    width = max(map(len, RULES))
    return "\n".join(f"{name:<{width}}  {entry.level:<7}  {entry.title}" for name, entry in RULES.items())


def _explained(name: str) -> str:
    from difflib import get_close_matches

    from coremlops.errors import UsageError
    from coremlops.lint import RULES
    from coremlops.lint.documentation import rule_text

    if name not in RULES:
        near = get_close_matches(name, RULES, n=1, cutoff=0.5)
        raise UsageError(
            f"no rule {name!r}", hint=f"did you mean {near[0]!r}?" if near else "--rules lists them"
        )
    return rule_text(RULES[name])


def _write(path: Path, text: str) -> None:
    from coremlops.errors import WriteError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", "backslashreplace")
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror}") from None


def _progress() -> Callable[[int, int], None] | None:
    if not sys.stderr.isatty():
        return None

    def show(done: int, of: int) -> None:
        end = "\n" if done == of else ""
        print(f"\rexecuting {done}/{of}", end=end, file=sys.stderr, flush=True)

    return show
