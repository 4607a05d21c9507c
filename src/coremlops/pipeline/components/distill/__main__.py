"""The step's command."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path

from coremlops.digest import sha256_bytes
from coremlops.errors import CoremlopsError
from coremlops.improve.distill import DistillOptions, distill, save
from coremlops.pipeline.components.ending import said
from coremlops.source import open_reference, open_samples

MODELS = ("model.pt2", "model.pt", "model.onnx", "model.mlpackage")


def main(argv: Sequence[str] | None = None) -> int:
    """Distil and return the exit code."""
    parser = argparse.ArgumentParser(prog="distill", allow_abbrev=False)
    for name in ("teacher", "data", "downstream"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--student", required=True)
    parser.add_argument("--checkpoint", default="")
    options = [field for field in fields(DistillOptions) if field.name != "progress"]
    for field in options:
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    args = parser.parse_args(argv)
    try:
        _distill(
            args,
            DistillOptions(**{field.name: getattr(args, field.name) for field in options}, progress=_show),
        )
    except CoremlopsError as error:
        return said(error)
    return 0


def _distill(args: argparse.Namespace, options: DistillOptions) -> None:
    project = os.environ.get("COREMLOPS_PROJECT")
    if project:
        sys.path.insert(0, project)  # where the user's factory lives
    teacher = open_reference(_model(args.teacher))
    student = open_reference(args.student)
    data = open_samples(args.data, teacher.inputs)
    # In a project, a step fills another folder each time it runs, so the name is what it is about.
    about = json.dumps([teacher.digest, student.digest, data.digest, options.to_json()])
    folder = Path(project, ".coremlops", "distill") if project else args.downstream
    checkpoint = Path(args.checkpoint or folder / f"{sha256_bytes(about.encode())[:16]}.pt")
    made = distill(teacher, student, data, options, checkpoint=checkpoint)
    save(made, args.downstream)
    if made.resumed:
        print(f"went on after epoch {made.resumed}")
    print(", ".join(f"{name} {value:.4g}" for name, value in sorted(made.metrics.items())))


def _model(path: Path) -> Path:
    """The model in a step's folder, or the path itself."""
    if path.suffix in (".mlpackage", ".mlmodel") or not path.is_dir():
        return path
    return next((path / name for name in MODELS if (path / name).exists()), path)


def _show(epoch: int, of: int, losses: Mapping[str, float]) -> None:
    if epoch == 1 or epoch == of or epoch % max(1, of // 10) == 0:
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in losses.items())
        print(f"epoch {epoch}/{of}: {numbers}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
