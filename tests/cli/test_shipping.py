"""`coremlops repo`, `release` and `device`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from coremlops.cli import main
from coremlops.model import model_digest
from coremlops.release import Repository
from coremlops.release.expiry import utc_now
from tests.release.models import write_model, write_pictures


class Shell:
    """Runs commands in a folder of their own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys = capsys
        self.folder = folder

    def __call__(self, *words: str, code: int = 0) -> str:
        self._capsys.readouterr()
        got = main(list(words))
        self.out, self.err = self._capsys.readouterr()
        assert got == code, (self.out, self.err)
        return self.out

    def json(self, *words: str, code: int = 0) -> dict[str, Any]:
        """With `--json`: exactly one object on stdout."""
        value: dict[str, Any] = json.loads(self(*words, "--json", code=code))
        return value


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name, gain in (("one", 0.02), ("two", 0.03)):
        write_model(folder / f"{name}.mlpackage", gain=gain)
    write_pictures(folder / "golden")
    return Shell(capsys, folder)


def test_the_story_from_repo_init_to_a_rollback(shell: Shell) -> None:
    made = shell.json("repo", "init")
    assert made["collection"] == "faces"
    first = shell.json("release", "publish", "one.mlpackage", "--golden", "golden")
    assert (first["action"], first["version"], first["channel"]) == ("done", 1, "staging")
    assert shell("release", "publish", "one.mlpackage", "--golden", "golden").startswith(
        "faces/staging is already at version 1"
    )

    source = ("--url", f"file://{shell.folder}/repository", "--root", made["root"])
    phone = ("--device", "phone")
    update = shell.json("device", "update", *phone, *source, "--channel", "staging")
    assert (update["outcome"], update["version"], update["digest"]) == ("updated", 1, first["model"])
    assert (update["changed"], update["refused"]) == (True, None)
    answer = shell.json("device", "predict", *phone, "--input", "image=golden/green.png")
    assert answer["classLabel"] == "green"
    assert "classLabel: green" in shell("device", "predict", *phone, "--input", "image=golden/green.png")

    public = ("--device", "public")
    assert shell.json("device", "update", *public, *source)["outcome"] == "empty"
    assert "nothing newer than version 1" in shell("device", "update", *phone)
    assert "faces/release has no version yet" in shell("device", "update", *public)
    assert shell.json("release", "promote")["current"] == 1
    assert "now at version 1" in shell("device", "update", *public)

    shell("release", "publish", "two.mlpackage", "--golden", "golden")
    assert shell.json("device", "update", *phone)["version"] == 2
    back = shell.json("release", "rollback", "--channel", "staging")
    assert (back["current"], back["rolled_back"]) == (1, True)
    assert shell.json("device", "update", *phone)["version"] == 1
    again = shell("release", "publish", "two.mlpackage", "--golden", "golden")
    assert "devices get version 1" in again
    assert "--again" in again

    listed = shell.json("release", "list")["models"]["faces"]
    assert [listed[name]["current"]["version"] for name in ("staging", "release")] == [1, 1]
    table = shell("release", "list").splitlines()
    assert [line.split()[0] for line in table] == ["version", "2", "1"]
    assert table[2].endswith("staging (rolled back), release")
    status = shell.json("device", "status", *phone)
    assert (status["version"], status["active"]["version"], status["previous"]["version"]) == (1, 1, 2)
    assert "active    version 1" in shell("device", "status", *phone)


def test_repo_status_warns_and_exits_with_3(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell("repo", "init", "here", "--collection", "cats")
    status = shell.json("repo", "status", "here")
    assert (status["ok"], status["collections"]) == (True, {"cats": {"staging": {}, "release": {}}})
    assert [role["role"] for role in status["roles"]] == [
        "root",
        "targets",
        "cats-halt",
        "cats-release",
        "cats-staging",
        "cats-members",
        "snapshot",
        "timestamp",
    ]
    from datetime import timedelta

    Repository.init(shell.folder / "old", clock=lambda: utc_now() - timedelta(days=8))
    assert "timestamp" in shell("repo", "status", "old", code=3)
    assert shell.err == (
        "warning: timestamp expired, and devices take nothing new from it; run `coremlops repo renew`\n"
    )
    assert shell("repo", "renew", "old") == "signed anew: timestamp\n"
    assert shell.json("repo", "status", "old")["ok"]
    assert shell.json("repo", "renew", "old")["renewed"] == []


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (("release", "list"), 1, "no signed repository at"),
        (("repo", "status"), 1, "no signed repository at"),
        (("repo", "init", "golden"), 1, "exists already and is not empty"),
        (("repo", "init", "--collection", "../x"), 1, "a collection's name is"),
        (("device", "status", "--device", "none"), 1, "is no device yet"),
        (("device", "update", "--device", "none"), 1, "is no device yet"),
        (("device", "update", "--device", "none", "--url", "file:///x"), 2, "needs --url and --root"),
        (
            ("device", "update", "--device", "none", "--url", "ftp://x", "--root", "r"),
            2,
            "a repository's URL is",
        ),
        (
            ("device", "update", "--device", "none", "--url", "file:///x", "--root", "r"),
            1,
            "the root r cannot be read",
        ),
        (("device", "predict", "--device", "none", "--input", "image"), 2, "expected NAME=FILE"),
        (("device", "predict", "--device", "none", "--input", "image=none.png"), 1, "no picture at none.png"),
    ],
)
def test_mistakes(shell: Shell, words: tuple[str, ...], code: int, error: str) -> None:
    assert shell(*words, code=code) == ""
    assert shell.err.startswith("error: ")
    assert error in shell.err


def test_a_projects_repository_is_made_where_and_as_the_project_says(shell: Shell) -> None:
    project = (
        "project: pets\npipelines: {main: {steps: {publish: {uses: publish, "
        "inputs: {model: ./m, report: ./r, golden: ./g}, "
        "params: {repository: shipped, collection: pets}}}}}\n"
    )
    (shell.folder / "coremlops.yaml").write_text(project)
    made = shell.json("repo", "init")
    assert (made["repository"], made["collection"]) == (str(shell.folder / "shipped"), "pets")
    assert list(shell.json("repo", "status")["collections"]) == ["pets"]
    assert shell.json("repo", "init", "other", "--collection", "cats")["collection"] == "cats"


def test_the_release_channel_takes_no_model_without_a_report(shell: Shell) -> None:
    shell("repo", "init")
    words = ("release", "publish", "one.mlpackage", "--golden", "golden", "--channel", "release")
    shell(*words, code=2)
    assert "takes no model without a report" in shell.err
    assert "hint: give the --report of" in shell.err
    assert shell.json("release", "list")["models"] == {}
    report = {"ok": True, "model": {"digest": model_digest(shell.folder / "one.mlpackage")}}
    (shell.folder / "report.json").write_text(json.dumps(report))
    assert shell.json(*words, "--report", "report.json")["channel"] == "release"


def test_a_refused_update_is_exit_1_with_the_reason(shell: Shell) -> None:
    root = shell.json("repo", "init")["root"]
    shell("release", "publish", "one.mlpackage", "--golden", "golden")
    source = ("--url", f"file://{shell.folder}/repository", "--root", root, "--channel", "staging")
    shell("device", "update", "--device", "phone", *source)
    shell("release", "publish", "two.mlpackage", "--golden", "golden")
    timestamp = shell.folder / "repository" / "metadata" / "timestamp.json"
    whole = timestamp.read_bytes()
    timestamp.write_bytes(whole.replace(b'"version":3', b'"version":9'))
    refused = shell.json("device", "update", "--device", "phone", code=1)
    assert (refused["outcome"], refused["version"], refused["changed"]) == ("refused", 1, False)
    assert "tampered metadata" in refused["refused"]
    assert "stays at version 1" in shell("device", "update", "--device", "phone", code=1)
    timestamp.unlink()
    offline = shell.json("device", "update", "--device", "phone", code=1)
    assert (offline["outcome"], offline["refused"], offline["version"]) == ("offline", None, 1)
    assert "offline" in shell("device", "status", "--device", "phone")


def test_promoting_without_the_release_key_names_its_holder(shell: Shell) -> None:
    import shutil

    keys = Path(shell.json("repo", "init")["keys"])
    shell("release", "publish", "one.mlpackage", "--golden", "golden")
    shutil.rmtree(keys / "release")
    shell("release", "promote", code=1)
    assert "the release key of repository" in shell.err
    assert "whoever decides about releases" in shell.err


def test_a_model_that_answers_no_number_prints_json_all_the_same(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    from coremlops.client import Device

    Image.new("RGB", (4, 4)).save(shell.folder / "red.png")
    answer = {"p": {"red": float("nan"), "blue": 0.5}, "x": [1.0, float("inf")]}
    monkeypatch.setattr(Device, "predict", lambda *args, **options: answer)
    out = shell(
        "device", "predict", "--device", "phone", "--input", f"image={shell.folder / 'red.png'}", "--json"
    )
    assert json.loads(out, parse_constant=pytest.fail) == {
        "p": {"red": None, "blue": 0.5},
        "x": [1.0, None],
    }
