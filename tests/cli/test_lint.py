"""`coremlops lint`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coremlops.cli import main
from coremlops.lint import RULES
from coremlops.model import model_digest
from tests.lint.notation import make

MODEL = """
program("iOS18")
metadata(author="Ada", license="MIT", version="1", about="a test")
signal: fp16[1, 8] = input(about="samples")
a: fp16[1, 8] = cosh(x=signal)
levels: fp16[1, 8] = mul(x=a, y=fp16(9000.0))
output(levels, about="levels")
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make(MODEL, tmp_path).path


def test_text_and_exit_code(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(model)]) == 0
    out = capsys.readouterr().out
    assert "Neural Engine: 1 of 2 ops with a risk, 2 piece(s); an estimate, no promise" in out
    assert "note  ane-rare-op: An op that the Neural Engine may not have (1)" in out
    assert "  a [cosh]: not seen to compile" in out
    assert "source: aneforge's tables of what compiled, a chip each; confidence medium" in out
    assert "activation ranges: not looked at" in out
    assert main(["lint", str(model), "--fail-on", "note"]) == 3
    captured = capsys.readouterr()
    assert "finding(s) at note or above" in captured.err


def test_a_target_too_old_fails(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(model), "--target", "iOS16"]) == 3
    assert "the model declares specification version 9" in capsys.readouterr().out
    assert main(["lint", str(model), "--target", "iOS16", "--fail-on", "never"]) == 0
    assert main(["lint", str(model), "--target", "iSO16"]) == 2
    assert "did you mean iOS16?" in capsys.readouterr().err
    assert main(["lint", str(model), "--device", "A16", "--device", "iPhone 99"]) == 2
    assert "unknown device 'iPhone 99'" in capsys.readouterr().err


def test_json_names_the_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(model), "--json", "--device", "M2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["model"]["digest"] == model_digest(model)
    assert found["proof"] == "static"
    assert found["devices"] == ["M2"]
    rare = next(entry for entry in found["findings"] if entry["rule"] == "ane-rare-op")
    assert (rare["op"], rare["kind"], rare["confidence"]) == ("a", "cosh", "medium")
    assert found["counts"]["error"] == 0


def test_sarif_goes_to_a_file(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(model), "--format", "sarif", "-o", "out/lint.sarif"]) == 0
    assert capsys.readouterr().out == ""
    assert json.loads((tmp_path / "out/lint.sarif").read_text())["version"] == "2.1.0"


def test_budgets(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(model), "--max-size", "10B", "--max-activations", "1kB"]) == 3
    assert "size-over-budget" in capsys.readouterr().out
    assert main(["lint", str(model), "--max-size", "lots"]) == 2
    assert "--max-size: a size such as 50MB" in capsys.readouterr().err


def test_ranges_on_data_and_on_random_values(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(tmp_path / "loud.npz", signal=np.full((2, 1, 8), 5, np.float32))
    assert main(["lint", str(model), "--data", "loud.npz"]) == 3
    out = capsys.readouterr().out
    assert "error  range-overflow" in out
    assert "confidence medium" in out
    assert main(["lint", str(model), "--ranges", "--samples", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["observed"] == "3 random samples, seed 0"
    assert found["proof"] == "emulated"
    assert main(["lint", str(model), "--data", "nothing.npz"]) == 1
    assert main(["lint", str(model), "--samples", "0"]) == 2


def test_a_baseline(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(model), "--target", "iOS16", "--write-baseline", "b.json"]) == 0
    assert main(["lint", str(model), "--target", "iOS16", "--baseline", "b.json"]) == 0
    assert "in the baseline)" in capsys.readouterr().out
    assert main(["lint", str(model), "--target", "iOS15", "--baseline", "none.json"]) == 2
    assert "--write-baseline none.json" in capsys.readouterr().err


def test_suppressions_of_the_project(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head = "project: p\npipelines: {main: {steps: {a: {path: a}}}}\n"
    yaml = tmp_path / "coremlops.yaml"
    yaml.write_text(head + "lint: {suppress: [{rule: os-*, reason: 'only new phones'}]}\n")
    assert main(["lint", str(model), "--target", "iOS16"]) == 0
    assert "suppressed)" in capsys.readouterr().out
    yaml.write_text(head + "lint: {suppress: [{rule: os-*}]}\n")
    assert main(["lint", str(model)]) == 2
    assert "coremlops.yaml: lint.suppress[0]: `reason` is missing" in capsys.readouterr().err
    yaml.write_text(head + "lint: {supress: []}\n")
    assert main(["lint", str(model)]) == 2
    assert "did you mean 'suppress'?" in capsys.readouterr().err
    yaml.write_text(head + "lint: {suppress: [{rule: ane-rnk, reason: so}]}\n")
    assert main(["lint", str(model)]) == 2
    assert "did you mean 'ane-rank'?" in capsys.readouterr().err


def test_rules_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", "--rules"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(RULES)
    assert main(["lint", "--explain", "ane-rank"]) == 0
    out = capsys.readouterr().out
    assert "A value with more than five axes." in out
    assert RULES["ane-rank"].triggers in out
    assert main(["lint", "--explain", "ane-rnk"]) == 2
    assert "did you mean 'ane-rank'?" in capsys.readouterr().err
    assert main(["lint"]) == 2


def test_a_conversions_folder_is_a_model(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lint", str(model.parent)]) == 0
    assert "model.mlpackage: mlProgram" in capsys.readouterr().out
    assert main(["lint", str(model / "nothing")]) == 1


def test_names_from_a_file_do_not_reach_the_terminal_raw(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.handmade import add_operation, program_spec, write_package

    spec, block = program_spec()
    add_operation(block, "cosh", "\x1b[31my", (2, 3), {"x": "x"})
    path = write_package(tmp_path / "m.mlpackage", spec)
    assert main(["lint", str(path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[31my" in out
