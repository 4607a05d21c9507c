"""The command line: one module a command, imported only when that command runs.

A command's module has `configure(parser)`, which declares its options and sets `parser.epilog` to an
example, and `run(args) -> int`, which calls one library function, prints, and returns the exit code.
Results go to stdout, progress and logs to stderr.

Exit codes: 0 done, 1 failed, 2 usage, 3 a gate or a monitor says no, 130 interrupted.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from typing import Any

from coremlops import __version__
from coremlops.errors import CoremlopsError, PendingError

# name -> (group, one line). The name is that of the module, with "-" for "_".
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("project", "make a project for your own photo folders"),
    "run": ("project", "run the pipeline; what has not changed is not done again"),
    "why": ("project", "say what changed since a step last ran"),
    "watch": ("project", "run the pipeline when the data changes"),
    "demo": ("project", "the whole story on real photos, in a minute"),
    "ui": ("project", "open MLflow on the project's experiments"),
    "describe": ("model", "print a model's inputs, outputs, labels, size, digest and ops"),
    "predict": ("model", "run a Core ML model here"),
    "bridge": ("model", "run a script in which coremltools' own predict works here"),
    "bench": ("model", "measure a model's load, latency, throughput and memory here"),
    "export-onnx": ("model", "write a Core ML model as ONNX, for other engines"),
    "convert": ("model", "turn a trained model into a Core ML model, and prove it"),
    "compress": ("model", "make a model's weights smaller, all alike or by a recipe"),
    "lint": ("model", "find what will not load, and what is a risk, before a model ships"),
    "verify": ("model", "prove a Core ML model against its source"),
    "golden": ("groups", "the inputs and answers that devices check: make, check, widen"),
    "release": ("groups", "publish, promote, roll back and list versions"),
    "repo": ("groups", "make and inspect the signed repository"),
    "device": ("groups", "be a device: update, predict, status"),
}
# Commands for programs, in no overview: name -> one line.
HIDDEN: dict[str, str] = {"tuf-client": "be a plain TUF client, for TUF's conformance suite to drive"}

EXIT_CODES = "0 done, 1 failed, 2 usage, 3 a gate or a monitor says no, 130 interrupted"


def _overview() -> str:
    lines = []
    for group in dict.fromkeys(group for group, _ in COMMANDS.values()):
        lines.append(f"{group}:")
        lines += [f"  {name:11} {line}" for name, (of, line) in COMMANDS.items() if of == group]
    return "\n".join(lines)


class _Parser(argparse.ArgumentParser):
    """An option has one spelling, in commands of a group too: argparse would take `--coll` for another."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})


def parser_for(name: str) -> argparse.ArgumentParser:
    """The parser of one command, with that command's module imported."""
    module = importlib.import_module(f"coremlops.cli.{name.replace('-', '_')}")
    parser = _Parser(
        prog=f"coremlops {name}",
        description=HIDDEN[name] if name in HIDDEN else COMMANDS[name][1],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    parser.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never raises for an error of ours."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    top = argparse.ArgumentParser(
        prog="coremlops",
        usage="coremlops COMMAND ...",
        description="MLOps for Core ML: from training data to a proven, signed, staged release.",
        epilog=f"{_overview()}\n\nexit codes: {EXIT_CODES}\n\nexample: coremlops demo\n"
        "`coremlops COMMAND --help` explains a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"coremlops {__version__}")
    top.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    head = top.parse_args(arguments[:1])
    if head.command is None:
        top.print_help()
        return 0
    if head.command not in COMMANDS and head.command not in HIDDEN:
        from difflib import get_close_matches

        near = get_close_matches(head.command, COMMANDS, n=1)
        hint = f"did you mean `coremlops {near[0]}`?" if near else "see `coremlops --help`"
        print(f"error: no command {head.command!r}; {hint}", file=sys.stderr)
        return 2
    as_json = False
    try:
        args = parser_for(head.command).parse_args(arguments[1:])
        as_json = getattr(args, "json", False) is True
        code: int = args.run(args)
        return code
    except CoremlopsError as error:
        if as_json and isinstance(error, PendingError):
            print(f'{{"action": "pending", "change": "{error.change}"}}')  # which is hex digits
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        # Rooms turn what they expect into errors of ours; a disk or a file system may still surprise them.
        name = f"{error.filename}: " if error.filename else ""
        print(f"error: {name}{error.strerror or error}", file=sys.stderr)
        return 1
