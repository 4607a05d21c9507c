"""A student that learns from a teacher against the same network trained alone: digits, five seeds.

    pip install -e '.[torch]' scikit-learn
    python benchmarks/improve/distill.py --write

The steps are those of examples/digits. Two cases: 300 of 1,200 pictures have a label, and all of them have.
The student sees all pictures; alone, it sees those with a label, as often in all (four times the epochs where
there are a quarter as many). What counts is accuracy on 597 pictures that none of them saw.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/digits"
RESULT = Path(__file__).with_suffix(".json")
SEEDS = 5
EPOCHS = 60
TRAIN = 1200


def step(command: list[str], **paths: Path) -> None:
    arguments = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    subprocess.run([sys.executable, *command, *arguments], check=True, cwd=EXAMPLE, stdout=subprocess.DEVNULL)


def case(labelled: int, folder: Path) -> dict[str, Any]:
    data, teacher = folder / "data", folder / "teacher"
    data.mkdir()
    teacher.mkdir()
    step(["prepare/src/prepare.py", "--labelled", str(labelled)], downstream=data)
    step(["train/src/train.py", "--epochs", "60", "--seed", "0"], data=data, downstream=teacher)
    found: dict[str, list[float]] = {"student": [], "alone": []}
    teachers = []
    for seed in range(SEEDS):
        made = {name: folder / f"{name}-{seed}" for name in found}
        common = ["-m", "coremlops.pipeline.components.distill", "--student", "shared.student:make"]
        common += ["--learning_rate", "0.01", "--seed", str(seed)]
        step(
            [*common, "--temperature", "2", "--epochs", str(EPOCHS)],
            teacher=teacher,
            data=data / "train.npz",
            downstream=made["student"],
        )
        step(
            [*common, "--hard", "1", "--epochs", str(EPOCHS * TRAIN // labelled)],
            teacher=teacher,
            data=data / "labelled.npz",
            downstream=made["alone"],
        )
        out = folder / f"evaluate-{seed}"
        out.mkdir()
        step(["evaluate/src/evaluate.py"], data=data, teacher=teacher, downstream=out, **made)
        metrics = json.loads((out / "metrics.json").read_text())
        teachers.append(metrics["teacher_accuracy"])
        for name, values in found.items():
            values.append(metrics[f"{name}_accuracy"])
        print(labelled, seed, metrics, file=sys.stderr, flush=True)
    gains = np.array(found["student"]) - np.array(found["alone"])
    return {
        "labelled": labelled,
        "of": TRAIN,
        "teacher": round(teachers[0], 4),
        **{name: _summary(values) for name, values in found.items()},
        "gain": _summary(gains.tolist()),
    }


def _summary(values: list[float]) -> dict[str, Any]:
    return {
        "mean": round(float(np.mean(values)), 4),
        "deviation": round(float(np.std(values, ddof=1)), 4),
        "each": [round(value, 4) for value in values],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write distill.json beside this file")
    args = parser.parse_args()
    cases = []
    for labelled in (300, TRAIN):
        with tempfile.TemporaryDirectory() as folder:
            cases.append(case(labelled, Path(folder)))
    text = json.dumps({"command": "python benchmarks/improve/distill.py --write", "cases": cases}, indent=1)
    if args.write:
        RESULT.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
