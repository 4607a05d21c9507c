"""`coremlops ui`: refusals here; a real server is started in the slow test."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from coremlops.cli import main
from coremlops.tracking import web
from coremlops.tracking.announce import announce
from coremlops.tracking.record import RunRecorder

CONFIG = "project: faces\npipelines: {main: {steps: {train: {path: train}}}}\n"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "coremlops.yaml").write_text(CONFIG)
    return tmp_path


def test_a_folder_that_is_no_project_is_a_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ui", "--project", str(tmp_path)]) == 2
    assert "no coremlops.yaml" in capsys.readouterr().err


def test_without_mlflow_one_line_names_the_extra(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main(["ui", "--project", str(project)]) == 2
    said = capsys.readouterr().err
    assert said == "error: mlflow is not installed, and this needs it: pip install 'coremlops[mlflow]'\n"


def test_a_port_that_is_taken_is_a_usage_error(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["ui", "--project", str(project), "--port", str(port)]) == 2
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in capsys.readouterr().err


def test_a_project_with_a_server_of_its_own_is_told_where_it_is(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["ui", "--project", str(project), "--tracking-uri", "https://mlflow.example"]) == 0
    assert "this project is tracked at https://mlflow.example" in capsys.readouterr().err


def test_a_password_is_neither_shown_nor_an_argument(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    begun: list[tuple[list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda _, command, environment: begun.append((command, environment)))
    monkeypatch.setattr(web, "_check_port", lambda host, port: None)
    monkeypatch.setattr(web, "_announce", lambda host, port, line: None)
    for uri in ("https://ada:s3cret@mlflow.example", "postgresql://ada:s3cret@db.example/mlflow"):
        web.serve(project, uri, host="127.0.0.1", port=1, wait_s=0)
    said = capsys.readouterr().err
    assert "https://***@mlflow.example" in said
    assert "s3cret" not in said
    [(command, environment)] = begun
    assert "s3cret" not in " ".join(command)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "postgresql://ada:s3cret@db.example/mlflow"


def test_the_url_is_said_when_the_server_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert announce("127.0.0.1", port, "here it is", os.getpid())
    assert capsys.readouterr().err == "here it is\n"


def test_a_server_that_is_gone_is_not_announced(capsys: pytest.CaptureFixture[str]) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert not announce("127.0.0.1", port, "here it is", gone.pid)
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_ui_sends_what_is_not_sent_and_serves_it(project: Path) -> None:
    run = RunRecorder(
        project, "run-1", name="faces main", tracking_uri="sqlite:///mlflow.db", experiment="faces"
    )
    run.run_started({}, {})
    run.run_finished("FINISHED", metrics={}, datasets=[])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "coremlops", "ui", "--project", str(project), "--port", str(port)]
    with (project / "ui.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        for _ in range(600):
            assert server.poll() is None, (project / "ui.log").read_text()
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
                    assert answer.read() == b"OK"
                    break
            except OSError:
                time.sleep(0.2)
        until = time.monotonic() + 10
        while "MLflow: http" not in (project / "ui.log").read_text() and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    assert f"MLflow: http://127.0.0.1:{port}" in (project / "ui.log").read_text()
    assert (project / ".coremlops" / "outbox" / "sent" / "run-1.jsonl").exists()
