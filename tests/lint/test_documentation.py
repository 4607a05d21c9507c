"""What docs/lint.md says can be run, runs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from coremlops.cli import main
from coremlops.lint import RULES, survey

PAGE = (Path(__file__).parents[2] / "docs" / "lint.md").read_text()


def test_the_commands_run(tiny_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_classifier, tmp_path / "faces.mlpackage")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^\$ coremlops (lint .*)$", PAGE, flags=re.M)
    assert len(commands) == 5
    for command in commands:
        assert main(command.split()) == 0, command


def test_the_rules_that_it_names_are_there() -> None:
    named = set(re.findall(r"\b((?:os|ane|shape|size|fp16|range|infer|meta)-[a-z0-9-]+)\b", PAGE))
    assert named
    assert named <= set(RULES)


def test_the_text_that_it_shows_is_what_comes(
    tiny_classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(tiny_classifier, tmp_path / "faces.mlpackage")
    monkeypatch.chdir(tmp_path)
    assert main(["lint", "faces.mlpackage", "--target", "iOS16", "--device", "A15"]) == 0
    out = capsys.readouterr().out.splitlines()
    shown = re.findall(r"^```text\n(.*?)^```$", PAGE, flags=re.M | re.S)[0].splitlines()
    assert [line for line in shown if line.strip() != "..." and line not in out] == []


def test_the_keys_of_the_json_report_are_those_that_it_lists(tiny_classifier: Path) -> None:
    """They are a contract: a key that goes breaks who reads the report."""
    listed = PAGE.split("## The report as JSON")[1].split("In Python:")[0]
    report = survey(tiny_classifier).to_json()
    assert set(report) <= set(re.findall(r'"(\w+)"', listed))
    assert {key for entry in report["findings"] for key in entry} <= set(re.findall(r'"(\w+)"', listed))
    for key in ("model", "activations", "neural_engine"):
        inside = re.search(rf'"{key}": \{{(.*?)\}}', listed, flags=re.S)
        assert inside is not None
        assert set(re.findall(r'"(\w+)"', inside[1])) == set(report[key])
