"""A short campaign on damaged files; `benchmarks/fuzz` has the long one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fuzz.mutate import write_case
from tests.handmade import adder, array_feature
from tests.networks import add_layer, model, write

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz" / "campaign.py"


def seeds(folder: Path, classifier: Path) -> Path:
    """An ML Program, a classifier and a network of layers."""
    folder.mkdir()
    adder(folder / "adder.mlpackage")
    shutil.copytree(classifier, folder / "classifier.mlpackage")
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (4,))
    array_feature(spec.description.output.add(), "y", (2,))
    weights = np.arange(8, dtype=np.float32)
    add_layer(net, "innerProduct", ["x"], ["y"], inputChannels=4, outputChannels=2, weights=weights)
    write(folder / "network.mlmodel", spec)
    return folder


@pytest.mark.slow
def test_a_damaged_file_ends_in_an_error_of_ours_or_runs(tmp_path: Path, tiny_classifier: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            str(seeds(tmp_path / "seeds", tiny_classifier)),
            *("--cases", "600", "--report", str(report)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    outcomes = json.loads(report.read_text())["outcomes"]
    assert sum(outcomes.values()) == 600
    assert min(outcomes.get(name, 0) for name in ("unreadable", "refused", "ran")) > 10, outcomes


def test_a_case_can_be_made_again(tmp_path: Path) -> None:
    seed = adder(tmp_path / "adder.mlpackage")
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        path = write_case(seed, 7, tmp_path / name)
        made.append({file.relative_to(path): file.read_bytes() for file in path.rglob("*") if file.is_file()})
    assert made[0] == made[1]
    original = {file.relative_to(seed): file.read_bytes() for file in seed.rglob("*") if file.is_file()}
    assert made[0] != original
