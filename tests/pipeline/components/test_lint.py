"""The step `lint`, in a project that says `uses: lint`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from coremlops.cli import main
from coremlops.pipeline.components.lint.__main__ import main as step
from coremlops.pipeline.project import load_project
from tests.lint.notation import make

MODEL = """
program("iOS18")
x: fp16[1, 8] = input()
y: fp16[1, 8] = cosh(x=x)
output(y)
"""


@pytest.fixture
def project(tmp_path: Path, quiet: Callable[[Path], None]) -> Path:
    root = tmp_path / "p"
    (root / "made").mkdir(parents=True)
    quiet(root)
    make(MODEL, root / "made")
    return root


def write(root: Path, params: str, lint: str = "", inputs: str = "model: ./made") -> None:
    (root / "coremlops.yaml").write_text(
        "project: p\npipelines: {main: {steps: {check: {uses: lint, "
        f"inputs: {{{inputs}}}, params: {{{params}}}}}}}}}}}\n{lint}"
    )


def report(root: Path) -> dict[str, object]:
    """The newest report in the project's store."""
    found = max((root / ".coremlops").rglob("report.json"), key=lambda path: path.stat().st_mtime_ns)
    loaded: dict[str, object] = json.loads(found.read_text())
    return loaded


def test_a_project_can_use_it(
    project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    write(project, "target: iOS16")
    assert main(["run"]) == 3
    assert "os-target-too-old" in "".join(capfd.readouterr())
    write(
        project,
        "target: iOS16",
        "lint: {suppress: [{rule: os-target-too-old, reason: 'new phones alone'}]}\n",
    )
    assert main(["run"]) == 0
    counts = report(project)["counts"]
    assert isinstance(counts, dict)
    assert (counts["error"], counts["suppressed"]) == (0, 1)
    # A suppression that goes is no cache hit.
    write(project, "target: iOS16")
    assert main(["run"]) == 3


def test_suppressions_are_a_parameter_of_the_step(project: Path) -> None:
    write(project, "", "lint: {suppress: [{rule: ane-rank, op: 'a*', reason: fine}]}\n")
    ready = load_project(project).ready().steps[0]
    assert json.loads(ready.params["suppress"]) == [{"rule": "ane-rank", "op": "a*", "reason": "fine"}]
    assert ready.values(project)["data"] == ""


def test_what_it_writes(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["--model", str(project / "made"), "--downstream", str(out)]
    assert step([*arguments, "--samples", "2", "--device", "A13, M1", "--max_size", "1MB"]) == 0
    assert sorted(entry.name for entry in out.iterdir()) == ["metrics.json", "report.json", "report.sarif"]
    assert json.loads((out / "report.json").read_text())["observed"] == "2 random samples, seed 0"
    assert json.loads((out / "metrics.json").read_text())["error"] == 0
    assert step([*arguments, "--fail_on", "note"]) == 3
    assert "note ane-rare-op: y: not seen to compile" in capsys.readouterr().err
    assert step([*arguments, "--fail_on", "bad"]) == 2
    assert step([*arguments, "--suppress", "{"]) == 2


def test_a_report_of_lint_is_no_proof(project: Path, tmp_path: Path) -> None:
    from coremlops.errors import InputError
    from coremlops.model import model_digest
    from coremlops.pipeline.components.proven import check_report

    out = tmp_path / "out"
    assert step(["--model", str(project / "made"), "--downstream", str(out)]) == 0
    with pytest.raises(InputError, match="no proof"):
        check_report(out / "report.json", model_digest(project / "made/model.mlpackage"), done="published")
