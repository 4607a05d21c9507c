"""A real MLflow server that is stopped and started again in the middle of a run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coremlops.tracking.outbox import Outbox
from coremlops.tracking.peek import peek_alias, peek_version
from coremlops.tracking.record import RunRecorder, start_sender
from coremlops.tracking.registry import Registered, mirror_alias, register
from coremlops.tracking.sender import ensure_parent_run, flush
from coremlops.tracking.store import connect

DIGEST = "ab" * 32


class Server:
    """`mlflow server` on a port of its own, with its store in `folder`."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.folder = folder
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db"]
        command += ["--artifacts-destination", str(self.folder / "artifacts")]
        environment = {
            **os.environ,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):  # noqa: S310
                    return
            except OSError:
                time.sleep(0.2)
        raise AssertionError((self.folder / "server.log").read_text())

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    connect(f"sqlite:///{folder}/mlflow.db")
    server = Server(folder)
    yield server
    server.stop()


@pytest.mark.slow
def test_a_server_that_stops_in_the_middle_loses_and_doubles_nothing(
    server: Server, tmp_path: Path, package: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COREMLOPS_SENDER_LINGER_S", "0.5")
    project = tmp_path / "faces"
    project.mkdir()
    (project / "report.json").write_text("{}")
    run = RunRecorder(project, "run-1", name="faces main", tracking_uri=server.uri, experiment="faces")
    dataset = {"name": "photos", "digest": DIGEST, "source": "photos", "counts": {}}

    server.start()
    run.run_started({"epochs": "3"}, {})
    start_sender(project)
    run.step_started("prepare", {}, {})
    run.step_finished("prepare", status="FINISHED", metrics={}, dataset=dataset, artifacts=[])
    assert flush(project, 60)

    server.stop()
    run.step_started("train", {}, {})
    run.step_finished(
        "train", status="FINISHED", metrics={"loss": 0.5}, dataset=None, artifacts=[project / "report.json"]
    )
    assert not flush(project, 2)
    assert Outbox(project).runs() == ["run-1"]

    server.start()
    assert flush(project, 90)
    parent = ensure_parent_run(project, "run-1")
    order: dict[str, Any] = {"tracking_uri": server.uri, "run_id": parent, "digest": DIGEST}
    assert register(package("one"), "faces", **order) == Registered("done", "faces", "1", DIGEST, parent)
    assert register(package("two"), "faces", **order).action == "present"
    assert peek_version(server.uri, "faces", DIGEST) == "1"
    assert mirror_alias(server.uri, "faces", "staging", DIGEST)
    assert peek_alias(server.uri, "faces", "staging") == DIGEST
    run.run_finished("FINISHED", metrics={"accuracy": 1.0}, datasets=[dataset])
    assert flush(project, 60)

    client = connect(server.uri)
    experiment = client.get_experiment_by_name("faces")
    assert experiment is not None
    runs = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert sorted(runs) == ["faces main", "prepare", "train"]
    assert {found.info.status for found in runs.values()} == {"FINISHED"}
    assert len(client.search_runs([experiment.experiment_id])) == 3
    assert runs["train"].data.metrics == {"loss": 0.5}
    assert [a.path for a in client.list_artifacts(runs["train"].info.run_id)] == ["report.json"]
    assert runs["prepare"].inputs.dataset_inputs[0].dataset.name == "photos"
    client.delete_model_version("faces", "1")
    assert peek_version(server.uri, "faces", DIGEST) is None
