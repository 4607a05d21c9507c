"""Convert real ONNX files with `coremlops convert` and hold the result against ONNX Runtime on the same file.

    python benchmarks/onnx_sources.py FILE.onnx [FILE.onnx NAME=SHAPE ...] --json benchmarks/onnx_sources.json

A SHAPE after a file is what `--shape` takes, for inputs whose size the file leaves open. Values are random
and seeded, words are 1; the Core ML model runs here in float32 (`emulated`); the least SNR counts.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort

import coremlops
from coremlops.source import open_reference


def run(file: Path, shapes: list[str], work: Path) -> dict[str, object]:
    out = work / f"{file.stem}.mlpackage"
    flags = [flag for shape in shapes for flag in ("--shape", shape)]
    command = ["convert", str(file), "-o", str(out), "--precision", "float32", "--no-verify", *flags]
    begun = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "coremlops", *command], capture_output=True, text=True)
    found: dict[str, object] = {
        "file": file.name,
        "shapes": shapes,
        "seconds": round(time.monotonic() - begun, 1),
    }
    if done.returncode:
        return found | {
            "error": next(
                (line for line in done.stderr.splitlines() if line.startswith("error:")), done.stderr[-600:]
            )
        }
    model = coremlops.load(out, precision="float32")
    reference = open_reference(file)
    generator = np.random.default_rng(0)
    values = []
    for item, own in zip(model.description.inputs, reference.inputs, strict=True):
        number = own.dtype.startswith("float")
        made = generator.standard_normal(item.shape) if number else np.ones(item.shape)
        values.append(made.astype(own.dtype))
    given = {
        item.name: value.astype(item.dtype)
        for item, value in zip(model.description.inputs, values, strict=True)
    }
    got = list(model.predict(given).values())
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    want = session.run(None, {item.name: value for item, value in zip(reference.inputs, values, strict=True)})
    least = min(snr(a, b) for a, b in zip(want, got, strict=True))
    different = any(bool(np.any(a != b)) for a, b in zip(want, got, strict=True))
    return found | {
        "snr_db": round(least, 1),
        "bits_differ": different,
        "outputs": [list(a.shape) for a in want],
    }


def snr(want: object, got: object) -> float:
    a, b = np.asarray(want, np.float64), np.asarray(got, np.float64)
    if a.shape != b.shape:
        return float("-inf")
    return float(10 * np.log10(np.sum(a**2) / max(np.sum((a - b) ** 2), np.sum(a**2) * 1e-20, 1e-300)))


def main(arguments: list[str]) -> None:
    out = Path(arguments[arguments.index("--json") + 1]) if "--json" in arguments else None
    words = arguments[: arguments.index("--json")] if out else arguments
    files: list[tuple[Path, list[str]]] = []
    for word in words:
        if word.endswith(".onnx"):
            files.append((Path(word), []))
        else:
            files[-1][1].append(word)
    found = []
    with tempfile.TemporaryDirectory() as work:
        for file, shapes in files:
            found.append(run(file, shapes, Path(work)))
            print(found[-1], flush=True)
            if out:
                table = {"command": "python benchmarks/onnx_sources.py FILES", "runs": found}
                out.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
