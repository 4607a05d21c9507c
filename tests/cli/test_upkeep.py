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


def test_gc_forgets_what_nobody_goes_back_to(
    repository: Repository,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("coremlops.collection.index.MAX_OFFERS", 1)
    model = write_model(tmp_path / "two.mlpackage", gain=0.5, extra_bytes=500)
    repository.publish([Form(model, tmp_path / "golden")])
    command = ["repo", "gc", str(repository.folder), "--keep", "1", "--grace", "0h"]
    assert main([*command, "--dry-run"]) == 0
    assert "would forget faces/faces: versions 1\n" in capsys.readouterr().out
    assert [each.version for each in repository.history("staging").entries] == [1, 2]
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["forgotten"] == [{"collection": "faces", "name": "faces", "versions": [1]}]
    assert any("targets/faces/members/" in name for name in said["files"])
    assert main(command) == 0
    assert "forg" not in capsys.readouterr().out
    assert main([*command[:4], "0"]) == 1
    assert "1 or more versions are kept" in capsys.readouterr().err
    assert main(["repo", "verify", str(repository.folder)]) == 0
