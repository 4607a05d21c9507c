"""The step's command: downstream/model.pt2, calibration.json and metrics.json."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from coremlops.compress import Setting
from coremlops.compress.calibrated import Calibration, compress_module
from coremlops.errors import CoremlopsError
from coremlops.pipeline.components.ending import said
from coremlops.source import open_reference, open_samples


def main(argv: Sequence[str] | None = None) -> int:
    """Compress and return the exit code."""
    parser = argparse.ArgumentParser(prog="compress_module", allow_abbrev=False)
    parser.add_argument("--data", required=True)
    parser.add_argument("--downstream", type=Path, required=True)
    for name in ("source", "weights", "method"):
        parser.add_argument(f"--{name}", default="")
    args = parser.parse_args(argv)
    if "COREMLOPS_PROJECT" in os.environ:  # a step runs in its own folder; the factory is the project's
        sys.path.insert(0, os.environ["COREMLOPS_PROJECT"])
    try:
        args.downstream.mkdir(parents=True, exist_ok=True)
        made = _compress(args)
    except CoremlopsError as error:
        return said(error)
    _write(args.downstream / "calibration.json", made.to_json())
    _write(args.downstream / "metrics.json", {"snr_db": made.snr_db} if math.isfinite(made.snr_db) else {})
    print(f"{len(made.layers)} layers, outputs {made.snr_db:.1f} dB on {made.samples} samples")
    return 0


def _compress(args: argparse.Namespace) -> Calibration:
    setting = Setting.parse(args.method)
    reference = open_reference(args.source, weights=Path(args.weights) if args.weights else None)
    samples = open_samples(args.data, reference.inputs)
    return compress_module(reference, args.downstream / "model.pt2", setting, samples)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
