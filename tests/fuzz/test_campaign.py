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
from tests.fuzz.seeds import CLASSIC, write_handmade
from tests.fuzz.victim import attempt
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
    write_handmade(folder)
    return folder


@pytest.mark.slow
def test_a_damaged_file_ends_in_an_error_of_ours_or_runs(tmp_path: Path, tiny_classifier: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            str(seeds(tmp_path / "seeds", tiny_classifier)),
            *("--cases", "1000", "--report", str(report)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    outcomes = json.loads(report.read_text())["outcomes"]
    assert sum(outcomes.values()) >= 1000
    assert min(outcomes.get(name, 0) for name in ("unreadable", "refused", "ran")) > 10, outcomes


def test_the_report_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    folder, report = tmp_path / "seeds", tmp_path / "report.json"
    folder.mkdir()
    for name in ("one", "two"):
        adder(folder / f"{name}.mlpackage")
    command = [sys.executable, str(SCRIPT), str(folder), "--cases", "4", "--report", str(report)]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    whole = json.loads(report.read_text())
    assert (whole["done"], whole["cases"]) == (2, 4)
    report.write_text(json.dumps(whole | {"done": 1, "cases": 2, "outcomes": {"ran": 2}}))
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "two.mlpackage" in done.stdout
    assert "one.mlpackage" not in done.stdout
    assert json.loads(report.read_text())["cases"] == 4


@pytest.mark.parametrize("name", CLASSIC)
def test_undamaged_seeds_run_or_are_known_not_to(tmp_path: Path, name: str) -> None:
    # otherwise the campaign would prove little
    path = tmp_path / "seed.mlmodel"
    path.write_bytes(CLASSIC[name]().SerializeToString())
    stranger = name.startswith("apple-") or name in ("link", "probit", "thresholds")
    assert attempt(path, 1) == ("refused" if stranger else "ran")


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
