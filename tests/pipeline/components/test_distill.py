"""The step `distill`, as the example project uses it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from coremlops.cli import main

pytest.importorskip("torch")
pytest.importorskip("sklearn")
DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits"


@pytest.mark.slow
def test_the_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: Callable[[Path], None]
) -> None:
    root = tmp_path / "digits"
    shutil.copytree(DIGITS, root)
    quiet(root)
    monkeypatch.chdir(root)
    few = [text for name in ("train", "student", "alone") for text in ("-P", f"{name}.epochs=2")]
    assert main(["run", *few]) == 0
    found = [json.loads(path.read_text()) for path in (root / ".coremlops").rglob("metrics.json")]
    [accuracies] = [metrics for metrics in found if "student_accuracy" in metrics]
    assert set(accuracies) == {"alone_accuracy", "student_accuracy", "teacher_accuracy"}
