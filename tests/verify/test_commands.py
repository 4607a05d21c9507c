"""`coremlops verify` and the step `verify`: files, exit codes, one JSON object."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coremlops.cli import main
from coremlops.pipeline.components.verify.__main__ import main as step
from tests.verify.fixtures import Trained

pytestmark = pytest.mark.slow


def _common(tiny: Trained) -> list[str]:
    return ["verify", str(tiny.float16), "--against", str(tiny.source), "--data", str(tiny.data)]


def test_the_command_prints_one_json_object_and_writes_files(
    tiny: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, file = tmp_path / "out" / "r.html", tmp_path / "r.json"
    code = main([*_common(tiny), "--html", str(page), "--report", str(file), "--json"])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    assert json.loads(printed.out) == json.loads(file.read_text())
    assert page.read_text().startswith("<!doctype html>")


def test_a_gate_that_says_no_is_exit_code_3_with_the_report_written(
    tiny: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "r.html"
    code = main([*_common(tiny), "--gate", "snr_db=199", "--html", str(page)])
    printed = capsys.readouterr()
    assert code == 3
    assert "snr_db: at least 199 expected, got" in printed.err
    assert "Not proven" in page.read_text()


def test_bad_words_are_usage(tiny: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*_common(tiny), "--gate", "snr=1"]) == 2
    assert "did you mean snr_db?" in capsys.readouterr().err


def _step(tiny: Trained, downstream: Path, *more: str) -> int:
    common = ["--model", str(tiny.float16), "--source", str(tiny.source), "--data", str(tiny.data)]
    return step([*common, "--downstream", str(downstream), *more])


def test_the_step_fills_its_folder(tiny: Trained, tmp_path: Path) -> None:
    assert _step(tiny, tmp_path / "down") == 0
    assert {path.name for path in (tmp_path / "down").iterdir()} == {
        "report.json",
        "report.html",
        "metrics.json",
    }
    metrics = json.loads((tmp_path / "down" / "metrics.json").read_text())
    assert metrics["top1_agreement"] == 1.0
    assert all(isinstance(value, float) for value in metrics.values())


def test_the_step_says_no_with_exit_code_3_and_keeps_its_report(
    tiny: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _step(tiny, tmp_path, "--max_abs", "0", "--snr_db", "199") == 3
    assert json.loads((tmp_path / "report.json").read_text())["ok"] is False
    error = capsys.readouterr().err
    assert "snr_db: at least 199" in error
    assert "max_abs: at most 0" in error


def test_the_step_names_a_missing_input(
    tiny: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _step(tiny, tmp_path, "--source", str(tmp_path / "none")) == 1
    assert "no such file" in capsys.readouterr().err


def test_the_projects_file_declares_what_the_command_takes() -> None:
    """Every gate and its default stand in MLproject, which owns the parameters."""
    import yaml

    import coremlops.pipeline.components.verify as component
    from coremlops.verify import Gates

    assert component.__file__ is not None
    text = (Path(component.__file__).parent / "MLproject").read_text()
    entry = yaml.safe_load(text)["entry_points"]["main"]
    declared = {
        name: about["default"]
        for name, about in entry["parameters"].items()
        if isinstance(about, dict) and about["type"] == "float"
    }
    assert declared == Gates().fixed
    for name in entry["parameters"]:
        assert f"--{name} {{{name}}}" in entry["command"]


def test_the_place_stands_in_the_report_and_the_page(
    tiny: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "r.html"
    assert main([*_common(tiny), "--locate", "--html", str(page), "--json"]) == 0
    located = json.loads(capsys.readouterr().out)["locate"]
    assert located["findings"] == []
    assert located["matched"] > 3
    assert located["conversion_db"] > 40
    assert "Where it parts" in page.read_text()


def test_a_proof_that_fails_names_the_way_on(tiny: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*_common(tiny), "--gate", "snr_db=199"]) == 3
    assert "--locate names the op" in capsys.readouterr().err
