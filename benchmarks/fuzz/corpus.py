"""Collects seeds for `campaign.py` from coremltools' own tests: a small model for each new set of ops.

A backend for `shared/apple-suite`'s plugin (its README has the whole command), which keeps what it is to run:

    COREMLOPS_CORPUS=/tmp/seeds COREML_PREDICT_BACKEND=corpus:predict PYTHONPATH=benchmarks/fuzz:... \\
    COREML_PREDICT_SAMPLE=300 python -m pytest ... $S/converters/mil/mil/ops/tests $S/test/neural_network
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from coremlops.errors import CoremlopsError
from coremlops.model.proto import parse_model
from coremlops.runtime import describe

MAX_BYTES = 32 << 10


def predict(path: str, inputs: Any, state: Any = None, function_name: str | None = None) -> dict[str, Any]:
    """Keep the model when it is small and says something new; then decline to run it."""
    model, folder = Path(path), Path(os.environ["COREMLOPS_CORPUS"])
    try:
        said = describe(model)
    except CoremlopsError as error:
        raise NotImplementedError(str(error)) from error
    if said["bytes"] <= MAX_BYTES:
        ops = sorted(said["ops"]) or _layers(model)
        kinds = [feature["type"] for feature in (*said["inputs"], *said["outputs"], *said["states"])]
        name = hashlib.sha256(json.dumps([said["kind"], ops, kinds, said["functions"]]).encode()).hexdigest()[
            :12
        ]
        kept = folder / f"{said['kind']}-{'-'.join(ops[:3])[:40].replace('/', '_')}-{name}{model.suffix}"
        if not kept.exists():
            (shutil.copytree if model.is_dir() else shutil.copy)(model, kept)
    raise NotImplementedError("a seed")


def _layers(model: Path) -> list[str]:
    spec = model if model.is_file() else next(model.rglob("*.mlmodel"))
    parsed = parse_model(spec.read_bytes(), where=str(model))
    inner = getattr(parsed, parsed.WhichOneof("Type"))
    return sorted({layer.WhichOneof("layer") or "" for layer in getattr(inner, "layers", ())})
