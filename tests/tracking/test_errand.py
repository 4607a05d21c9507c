"""Errands: asked by one process, done by the project's sender, once and only for who waits."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coremlops.errors import TrackingError
from coremlops.tracking import errand, record
from coremlops.tracking.errand import ask, pending, run_errands
from tests.tracking.conftest import Project

DIGEST = "ab" * 32


@pytest.fixture
def sender(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sender's side, in a thread of this process."""
    monkeypatch.setattr(errand, "start_sender", lambda _: None)
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(0.01):
            run_errands(project.root)

    thread = threading.Thread(target=work)
    thread.start()
    yield
    ended.set()
    thread.join()


@pytest.mark.usefixtures("sender")
def test_register_and_set_alias_through_the_sender(project: Project, package: Callable[[str], Path]) -> None:
    project.recorder().run_started({}, {})
    order = {
        "model": str(package("one")),
        "name": "faces",
        "tracking_uri": project.uri,
        "digest": DIGEST,
        "project": str(project.root),
        "our_run_id": "run-1",
    }
    receipt = ask(project.root, "register", order)
    (parent,) = project.runs()
    assert receipt == {
        "action": "done", "name": "faces", "version": "1", "digest": DIGEST, "run_id": parent.info.run_id
    }  # fmt: skip
    assert ask(project.root, "register", order)["action"] == "present"
    alias = {"tracking_uri": project.uri, "name": "faces", "alias": "staging", "model_digest": DIGEST}
    assert ask(project.root, "set_alias", alias) is True
    assert project.client.get_model_version_by_alias("faces", "staging").version == 1
    assert ask(project.root, "set_alias", {**alias, "model_digest": "0" * 64}) is False
    assert not list((project.root / ".coremlops" / "outbox" / "errands").iterdir())


@pytest.mark.usefixtures("sender")
def test_what_goes_wrong_there_is_raised_here(project: Project, tmp_path: Path) -> None:
    order = {"model": str(tmp_path / "no.mlpackage"), "name": "faces", "tracking_uri": project.uri}
    with pytest.raises(TrackingError, match="no run 'run-9' is recorded"):
        ask(
            project.root,
            "register",
            {**order, "digest": DIGEST, "project": str(project.root), "our_run_id": "run-9"},
        )
    with pytest.raises(TrackingError, match=r"no errand 'os\.system'; expected register or set_alias"):
        ask(project.root, "os.system", {})
    with pytest.raises(TrackingError, match="set_alias failed: TypeError"):
        ask(project.root, "set_alias", {"alias": 1})


def test_no_answer_in_time_is_an_error_that_leaves_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errand, "start_sender", lambda _: None)
    with pytest.raises(TrackingError, match="did not answer within 0 s"):
        ask(project.root, "set_alias", {}, timeout_s=0.0)
    assert pending(project.root) == []


def test_an_errand_whose_caller_has_died_is_not_done(project: Project) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = record.process_identity(child.pid)
    child.communicate(b"\n")
    folder = project.root / ".coremlops" / "outbox" / "errands"
    folder.mkdir(parents=True)
    arguments = {"tracking_uri": project.uri, "name": "faces", "alias": "staging", "model_digest": DIGEST}
    content = {"call": "set_alias", "arguments": arguments, "process": identity}
    (folder / "1.json").write_text(json.dumps(content))
    assert run_errands(project.root) == 1
    assert not list(folder.iterdir())
