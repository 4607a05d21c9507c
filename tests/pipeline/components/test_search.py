"""The step `search`, as a project runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from coremlops.cli import main
from coremlops.pipeline.components.search.__main__ import main as step
from tests.compress.fixtures import network


def _arguments(folder: Path, *more: str) -> list[str]:
    if not (folder / "made").exists():
        (folder / "made").mkdir()
        network(folder / "made" / "model.mlpackage")
    np.savez(folder / "data.npz", x=np.random.default_rng(0).normal(size=(3, 1, 48)).astype(np.float32))
    where = ["--model", str(folder / "made"), "--data", str(folder / "data.npz")]
    return [*where, "--downstream", str(folder / "out"), *more]


def test_it_leaves_a_smaller_model_its_recipe_and_the_front(tmp_path: Path) -> None:
    assert step(_arguments(tmp_path, "--budget_quality", "15")) == 0
    out = tmp_path / "out"
    left = sorted(entry.name for entry in out.iterdir() if entry.suffix != ".jsonl")
    assert left == [
        "compression.json",
        "metrics.json",
        "model.mlpackage",
        "recipe.json",
        "report.html",
        "report.json",
    ]
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["snr_db"] >= 15
    assert metrics["bytes"] == json.loads((out / "report.json").read_text())["chosen"]["bytes"]


def test_a_budget_that_nothing_keeps_is_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step(_arguments(tmp_path, "--budget_bytes", "1kB")) == 3
    assert "the smallest recipe takes about" in capsys.readouterr().err
    assert not (tmp_path / "out" / "model.mlpackage").exists()
    assert step(_arguments(tmp_path, "--budget_quality", "much")) == 2


def test_a_project_can_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: Callable[[Path], None]
) -> None:
    root = tmp_path / "p"
    root.mkdir()
    quiet(root)
    _arguments(root)
    (root / "coremlops.yaml").write_text(
        "project: p\npipelines: {main: {steps: {small: {uses: search, "
        "inputs: {model: ./made, data: ./data.npz}, params: {budget_quality: '15'}}}}}\n"
    )
    monkeypatch.chdir(root)
    assert main(["run"]) == 0
    assert list((root / ".coremlops" / "search").glob("*.jsonl"))
