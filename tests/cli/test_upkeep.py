"""`repo verify` and `repo gc` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coremlops.cli import main
from coremlops.release import Repository
from coremlops.release.terms import Form
from tests.release.models import write_model


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    golden = tmp_path / "golden"
    golden.mkdir()
    (golden / "golden.json").write_text("{}\n")
    made = Repository.init(tmp_path / "repository")
    made.publish([Form(write_model(tmp_path / "one.mlpackage", extra_bytes=500), golden)])
    return made


def test_verify(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repo", "verify", str(repository.folder)]) == 0
    assert "all of it is as it was signed" in capsys.readouterr().out
    next((repository.folder / "targets/faces/members").iterdir()).unlink()
    assert main(["repo", "verify", "--repository", str(repository.folder), "--json"]) == 3
    said = capsys.readouterr()
    assert json.loads(said.out)["ok"] is False
    assert "wrong: " in said.err


def test_gc(repository: Repository, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(repository.folder)
    (repository.folder / "metadata/9.faces-staging.json").write_text("{}")
    assert main(["repo", "gc", folder]) == 0
    assert "removed: 0 files" in capsys.readouterr().out
    assert main(["repo", "gc", folder, "--grace", "0h", "--dry-run"]) == 0
    assert "metadata/9.faces-staging.json\n" in capsys.readouterr().out
    assert main(["repo", "gc", folder, "--grace", "0h", "--json"]) == 0
    assert "metadata/9.faces-staging.json" in json.loads(capsys.readouterr().out)["files"]
    assert not (repository.folder / "metadata/9.faces-staging.json").exists()
    assert main(["repo", "gc", folder, "--grace", "soon"]) == 2
    assert "12h or 30d" in capsys.readouterr().err
    assert main(["repo", "verify", folder]) == 0
