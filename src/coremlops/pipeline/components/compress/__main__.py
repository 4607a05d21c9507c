"""The step's command: downstream/model.mlpackage, compression.json and metrics.json."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coremlops.compress import Recipe, Setting, compress
from coremlops.compress.activations import quantize_activations
from coremlops.errors import CoremlopsError, UsageError
from coremlops.model import ModelAsset
from coremlops.pipeline.components.ending import said
from coremlops.source import open_samples


def main(argv: Sequence[str] | None = None) -> int:
    """Compress and return the exit code."""
    parser = argparse.ArgumentParser(prog="compress", allow_abbrev=False)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--downstream", type=Path, required=True)
    for name in ("method", "recipe", "target", "data"):
        parser.add_argument(f"--{name}", default="")
    args = parser.parse_args(argv)
    try:
        args.downstream.mkdir(parents=True, exist_ok=True)
        made = _compress(args)
    except CoremlopsError as error:
        return said(error)
    _write(args.downstream / "compression.json", made)
    _write(args.downstream / "metrics.json", {"bytes": made["bytes"], "bytes_before": made["bytes_before"]})
    print(
        f"{made['bytes_before'] / 1e6:.1f} MB -> {made['bytes'] / 1e6:.1f} MB, digest {made['digest'][:12]}"
    )
    return 0


def _compress(args: argparse.Namespace) -> dict[str, Any]:
    if bool(args.method) == bool(args.recipe):
        raise UsageError("one of method and recipe expected, such as method: palettize:4:group=16")
    inside = args.model / "model.mlpackage"
    model = inside if inside.is_dir() else args.model
    out, target = args.downstream / "model.mlpackage", args.target or None
    setting = Setting.parse(args.method) if args.method else None
    if setting is not None and setting.method == "activations":
        if not args.data:
            raise UsageError(f"{setting}: the input data expected: it looks at what flows through the model")
        samples = open_samples(args.data, ModelAsset.open(model).description.inputs)
        return quantize_activations(model, out, setting, samples, target=target).to_json()
    if args.data:
        raise UsageError(f"data means nothing to {setting or 'a recipe'}: it looks at weights alone")
    recipe = Recipe(setting) if setting is not None else Recipe.read(Path(args.recipe))
    return compress(model, out, recipe, target=target).to_json()


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
