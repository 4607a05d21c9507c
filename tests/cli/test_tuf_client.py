"""`coremlops tuf-client`: the protocol; what it trusts is tested step by step in tests/client/workflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from coremlops.cli import main
from tests.cli.test_startup import HEAVY, imported
from tests.client.server import Server, serving
from tests.client.workflow.repository import TufRepository


def test_the_protocol_as_a_process(tmp_path: Path) -> None:
    """init, refresh and download, as the conformance suite runs them: nothing on stdout, 0 or 1."""
    repository = TufRepository(tmp_path / "repository")
    repository.add("targets", "a/file", b"content")
    repository.publish()
    (tmp_path / "initial.json").write_bytes(repository.published["root"][0])
    folder = tmp_path / "metadata"
    folder.mkdir()

    plain = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-m", "coremlops", "tuf-client", "--metadata-dir", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=plain)
        assert done.stdout == ""
        return done.returncode, done.stderr

    with serving(Server(repository.folder)) as server:
        assert run("init", str(tmp_path / "initial.json")) == (0, "")
        assert server.log == []
        assert run("--metadata-url", f"{server.url}/metadata/", "refresh") == (0, "")
        assert sorted(each.name for each in folder.iterdir()) == [
            *("root.json", "snapshot.json", "targets.json", "timestamp.json")
        ]
        where = ("--target-base-url", f"{server.url}/targets/", "--target-dir", str(tmp_path / "targets"))
        what = ("--metadata-url", f"{server.url}/metadata", "--target-name", "a/file")
        assert run(*what, *where, "download") == (0, "")
        assert (tmp_path / "targets" / "a%2Ffile").read_bytes() == b"content"
        assert run(*what, "b", *where, "download") == (1, "error: the repository has no b\n")


def test_it_is_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "tuf-client" not in capsys.readouterr().out
    with pytest.raises(SystemExit) as stop:
        main(["tuf-client", "--help"])
    assert stop.value.code == 0
    assert "example: coremlops tuf-client" in capsys.readouterr().out


def test_it_starts_lightly() -> None:
    """Help needs nothing; a refresh needs TUF, and none of what models need."""
    assert imported("from coremlops.cli import parser_for; parser_for('tuf-client')") & HEAVY == set()
    assert imported("import coremlops.client.plain") & HEAVY == {"tuf"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("init",), "init needs ROOT"),
        (("refresh",), "refresh needs --metadata-url"),
        (
            ("--metadata-url", "http://a", "download"),
            "download needs --target-name, --target-base-url, --target-dir",
        ),
        (("--metadata-url", "ftp://a", "refresh"), "a repository's URL is"),
    ],
)
def test_what_is_missing_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert main(["tuf-client", "--metadata-dir", str(tmp_path), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_root_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = ["tuf-client", "--metadata-dir", str(tmp_path / "metadata")]
    assert main([*client, "init", str(tmp_path / "none.json")]) == 1
    assert "none.json: No such file" in capsys.readouterr().err
    assert main([*client, "--metadata-url", "http://127.0.0.1:9", "refresh"]) == 1
    assert "root.json: No such file" in capsys.readouterr().err


def test_a_root_that_is_too_large(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "large.json").write_text(json.dumps("x" * 600_000))
    assert main(["tuf-client", "--metadata-dir", str(tmp_path), "init", str(tmp_path / "large.json")]) == 1
    assert "has more than 512000 bytes" in capsys.readouterr().err
    assert not (tmp_path / "root.json").exists()


def test_a_run_that_was_killed_leaves_a_folder_that_works(tmp_path: Path) -> None:
    """python-tuf's own layout, as a kill before the end leaves it: a link into `root_history`."""
    repository = TufRepository(tmp_path / "repository")
    (tmp_path / "initial.json").write_bytes(repository.published["root"][0])
    folder = tmp_path / "metadata"
    client = ["tuf-client", "--metadata-dir", str(folder)]
    assert main([*client, "init", str(tmp_path / "initial.json")]) == 0
    (folder / "root_history").mkdir()
    (folder / "root.json").rename(folder / "root_history" / "1.root.json")
    (folder / "root.json").symlink_to("root_history/1.root.json")
    repository.publish("root")
    with serving(Server(repository.folder)) as server:
        assert main([*client, "--metadata-url", f"{server.url}/metadata", "refresh"]) == 0
    assert not (folder / "root.json").is_symlink()
    assert (folder / "root.json").read_bytes() == repository.published["root"][1]
    assert not (folder / "root_history").exists()
