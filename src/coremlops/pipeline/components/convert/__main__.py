"""The step's command. What made the model comes from the environment that the runner sets."""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from coremlops.convert import Provenance, convert
from coremlops.convert.options_file import parse_options, read_options
from coremlops.errors import CoremlopsError
from coremlops.pipeline.components.ending import said


def main(argv: Sequence[str] | None = None) -> int:
    """Convert and return the exit code."""
    parser = argparse.ArgumentParser(prog="convert", allow_abbrev=False)
    parser.add_argument("--upstream", type=Path, required=True)
    parser.add_argument("--downstream", type=Path, required=True)
    parser.add_argument("--target", default="")
    parser.add_argument("--precision", default="")
    parser.add_argument("--options", default="", help="a file: docs/convert.md")
    args = parser.parse_args(argv)
    _start_quickly()
    try:
        value = read_options(Path(args.options)) if args.options else {}
        value |= {key: getattr(args, key) for key in ("target", "precision") if getattr(args, key)}
        options = parse_options(value, provenance=Provenance.from_environment())
        args.downstream.mkdir(parents=True, exist_ok=True)
        made = convert(args.upstream, args.downstream / "model.mlpackage", options)
    except CoremlopsError as error:
        return said(error)
    for line in made.warnings:
        print(f"coremltools: {line}", file=sys.stderr)
    text = json.dumps(made.to_json(), indent=2, sort_keys=True)
    (args.downstream / "conversion.json").write_text(text + "\n", "utf-8")
    print(f"{made.bytes / 1e6:.1f} MB, {made.target}, {made.precision}, digest {made.digest[:12]}")
    return 0


def _start_quickly() -> None:
    """Halve the imports of this process, which converts one PyTorch model and ends.

    coremltools imports scikit-learn, where it is installed, for converters that a step never uses; and torch
    makes a million objects at its import, through which Python's collector goes again and again.
    """
    sys.modules.setdefault("sklearn", None)  # type: ignore[arg-type]  # None: "not installed"
    gc.set_threshold(200_000, 20, 100)


if __name__ == "__main__":
    sys.exit(main())
