"""`coremlops golden`: make, check, widen, and publishing what was decided."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from coremlops.cli import main
from coremlops.model import model_digest
from coremlops.release import Repository
from tests.release.models import write_model, write_pictures


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COREMLOPS_ACTOR", "eve")
    write_pictures(tmp_path / "pictures")
    return write_model(tmp_path / "one.mlpackage")


def test_make_check_and_widen(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["golden", "make", "one.mlpackage", "pictures", "--out", "set"]) == 0
    assert capsys.readouterr().out.startswith("set: 3 of 3 inputs, ")
    assert main(["golden", "check", "one.mlpackage", "set"]) == 0
    shown = capsys.readouterr().out
    assert "ok     classLabel_probs: error" in shown
    assert "labels agree on 100% of what is decided" in shown
    assert "(emulated)" in shown
    words = ["golden", "widen", "set", "--out", "wider", "--factor", "2", "--reason", "A12"]
    assert main(words) == 0
    assert "decided by eve; publish it with --golden wider --again" in capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    decision = json.loads(capsys.readouterr().out)
    assert (decision["by"], decision["reason"], decision["basis"]) == ("eve", "A12", "factor 2")


def test_a_model_that_answers_otherwise_exits_3(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["golden", "make", "one.mlpackage", "pictures", "--out", "set", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["inputs"] == 3
    file = Path("set/golden.json")
    whole: Any = json.loads(file.read_text())
    whole["examples"][0]["calls"][0]["outputs"]["classLabel"]["value"] = "red"
    file.write_text(json.dumps(whole))
    assert main(["golden", "check", "one.mlpackage", "set"]) == 3
    shown = capsys.readouterr().out
    assert "FAILED classLabel" in shown
    assert "not as promised: example 1: classLabel: expected 'red', got 'blue'" in shown
    assert main(["golden", "check", "one.mlpackage", "set", "--json"]) == 3
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_errors_are_short_and_say_what_to_do(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    for words, code, expected in (
        (["make", "one.mlpackage", "empty", "--out", "set"], 1, "at least one picture or .npz expected"),
        (["make", "one.mlpackage", "nowhere", "--out", "set"], 1, "nothing there"),
        (["make", "one.mlpackage", "pictures", "--out", "set", "--max-bytes", "0"], 1, "1 to 32 examples"),
        (["check", "one.mlpackage", "empty"], 1, "golden.json: a file expected, got none"),
        (["widen", "empty", "--out", "x", "--factor", "1", "--reason", "x"], 2, "a factor above 1"),
    ):
        assert main(["golden", *words]) == code, words
        assert expected in capsys.readouterr().err


def test_publishing_a_wider_set_is_in_the_audit_log(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    Repository.init(tmp_path / "repository")
    assert main(["release", "publish", "one.mlpackage"]) == 2
    assert "no inputs are named" in capsys.readouterr().err
    assert main(["golden", "make", "one.mlpackage", "pictures", "--out", "set"]) == 0
    assert main(["release", "publish", "one.mlpackage", "--golden", "set"]) == 0
    assert main(["golden", "widen", "set", "--out", "wider", "--factor", "2", "--reason", "A12"]) == 0
    assert main(["release", "publish", "one.mlpackage", "--golden", "wider", "--again"]) == 0
    lines = (tmp_path / "repository" / "audit.jsonl").read_text().splitlines()
    newest = json.loads(lines[-1])["line"]
    assert (newest["action"], newest["version"]) == ("publish", 2)
    assert newest["detail"]["widened"]["reason"] == "A12"
    assert newest["detail"]["widened"]["outputs"] == ["classLabel_probs"]
    assert "widened" not in json.loads(lines[-2])["line"]["detail"]


def test_the_commands_of_the_page_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "golden.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    commands = [shlex.split(line, comments=True) for block in blocks for line in block.splitlines()]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    digest = model_digest(write_model(tmp_path / "faces.mlpackage"))
    write_pictures(tmp_path / "golden")
    repository = Repository.init(tmp_path / "repository")
    output = {"name": "classLabel_probs", "error": 0.04, "tolerance": 0.03, "ok": False}
    (tmp_path / "phone.json").write_text(json.dumps({"model": digest, "outputs": [output]}))
    assert [words[:2] for words in commands] == [
        ["coremlops", "release"],
        *[["coremlops", "golden"]] * 2,
        ["coremlops", "release"],
        ["coremlops", "golden"],
        ["coremlops", "release"],
    ]
    for words in commands:
        assert main(words[1:]) == 0, words
        capsys.readouterr()
    entry = repository.line("staging").current
    assert entry is not None
    assert entry.version == 2
