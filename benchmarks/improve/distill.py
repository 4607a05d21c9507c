"""A student that learns from a teacher against the same network trained alone: digits, five seeds.

    pip install -e '.[torch]' scikit-learn
    python benchmarks/improve/distill.py --write

The teacher, the student and the data are those of examples/digits: 300 of 1,200 pictures have a label. The
student sees all pictures; alone, it sees those with a label, as often in all (four times the epochs). What
counts is accuracy on 597 pictures that none of them saw. `--labelled 1200` asks what is left with all labels.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coremlops.pipeline.components.distill.__main__ import main as distill

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/digits"
RESULT = Path(__file__).with_suffix(".json")
SEEDS = 5
EPOCHS = 60
TRAIN = 1200


def step(command: list[str], **paths: Path) -> None:
    arguments = [text for name, path in paths.items() for text in (f"--{name}", str(path))]
    subprocess.run(
        [sys.executable, *command, *arguments],
        check=True,
        cwd=EXAMPLE,
        stdout=subprocess.DEVNULL,
    )


def case(labelled: int, folder: Path) -> dict[str, Any]:
    data, teacher = folder / "data", folder / "teacher"
    data.mkdir()
    teacher.mkdir()
    step(["prepare/src/prepare.py", "--labelled", str(labelled)], downstream=data)
    step(
        ["train/src/train.py", "--epochs", "60", "--seed", "0"],
        data=data,
        downstream=teacher,
    )
    test = np.load(data / "test.npz")
    found: dict[str, list[float]] = {"student": [], "alone": []}
    for seed in range(SEEDS):
        common = [
            "--student",
            "shared.student:make",
            "--learning_rate",
            "0.01",
            "--seed",
            str(seed),
        ]
        common += ["--teacher", str(teacher)]
        more = {
            "student": [
                "--data",
                str(data / "train.npz"),
                "--temperature",
                "2",
                "--epochs",
                str(EPOCHS),
            ],
            "alone": [
                "--data",
                str(data / "labelled.npz"),
                "--hard",
                "1",
                "--epochs",
                str(EPOCHS * TRAIN // labelled),
            ],
        }
        for name, values in found.items():
            out = folder / f"{name}-{seed}"
            with contextlib.redirect_stdout(io.StringIO()):
                assert distill([*common, *more[name], "--downstream", str(out)]) == 0
            values.append(accuracy(out, test))
        print(
            labelled,
            seed,
            {name: values[-1] for name, values in found.items()},
            file=sys.stderr,
            flush=True,
        )
    gains = np.array(found["student"]) - np.array(found["alone"])
    return {
        "labelled": labelled,
        "of": TRAIN,
        "teacher": round(accuracy(teacher, test), 4),
        **{name: _summary(values) for name, values in found.items()},
        "gain": _summary(gains.tolist()),
    }


def accuracy(folder: Path, test: Any) -> float:
    """Of the model in a step's folder."""
    net = torch.export.load(folder / "model.pt2").module()
    with torch.no_grad():
        said = [int(net(torch.from_numpy(picture[None])).argmax()) for picture in test["x"]]
    return float((np.array(said) == test["truth"]).mean())


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
    parser.add_argument("--labelled", type=int, default=300, help="of 1,200 pictures")
    args = parser.parse_args()
    sys.path.insert(0, str(EXAMPLE))  # where the student is
    with tempfile.TemporaryDirectory() as folder:
        found = case(args.labelled, Path(folder))
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    result[str(args.labelled)] = found
    if args.write:
        RESULT.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
