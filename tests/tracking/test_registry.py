"""The registry by digest, through MLflow and by the cheap looks, which must agree."""

from __future__ import annotations

import http.server
import json
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import ModelFormatError, TrackingError
from coremlops.tracking.peek import peek_alias, peek_version
from coremlops.tracking.registry import Registered, find_version, mirror_alias, register
from tests.tracking.conftest import EXPERIMENT, Project

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def run_id(project: Project) -> str:
    client = project.client
    folder = str(project.root / "mlruns")
    return str(client.create_run(client.create_experiment(EXPERIMENT, artifact_location=folder)).info.run_id)


@pytest.fixture
def add(project: Project, run_id: str, package: Callable[[str], Path]) -> Callable[[str], Registered]:
    def add(digest: str) -> Registered:
        path = package(f"{digest}-{len(list(project.root.parent.iterdir()))}")
        return register(path, "faces", tracking_uri=project.uri, run_id=run_id, digest=digest)

    return add


def looks(project: Project, digest: str) -> str | None:
    """The version with that digest: what MLflow says and what the cheap look says must be one."""
    cheap = peek_version(project.uri, "faces", digest)
    found = find_version(project.client, "faces", digest)
    assert cheap == (None if found is None else str(found.version))
    return cheap


def test_a_digest_is_registered_once(project: Project, run_id: str, add: Callable[[str], Registered]) -> None:
    assert looks(project, ONE) is None
    assert add(ONE) == Registered("done", "faces", "1", ONE, run_id)
    assert add(ONE) == Registered("present", "faces", "1", ONE, run_id)
    assert add(TWO) == Registered("done", "faces", "2", TWO, run_id)
    assert (looks(project, ONE), looks(project, TWO)) == ("1", "2")


def test_the_model_is_a_logged_model_of_its_run(
    project: Project, run_id: str, package: Callable[[str], Path]
) -> None:
    register(
        package("one"),
        "faces",
        tracking_uri=project.uri,
        run_id=run_id,
        digest=ONE,
        params={"precision": "float16", "target": "iOS16"},
        tags={"coremlops.data_digest": "d"},
        metrics={"proof.snr_db": 44.5},
    )
    run = project.client.get_run(run_id)
    (output,) = run.outputs.model_outputs
    model = project.client.get_logged_model(output.model_id)
    assert (model.name, str(model.status), model.source_run_id) == ("faces", "READY", run_id)
    assert model.params == {"precision": "float16", "target": "iOS16"}
    assert model.tags["coremlops.digest"] == ONE
    assert model.tags["coremlops.data_digest"] == "d"
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "faces", "version": 1}]
    assert {metric.key: metric.value for metric in model.metrics} == {"proof.snr_db": 44.5}
    version = project.client.get_model_version("faces", "1")
    assert (version.run_id, version.source) == (run_id, f"models:/{model.model_id}")
    assert version.tags == {"coremlops.digest": ONE, "coremlops.data_digest": "d"}


def test_a_version_that_was_deleted_is_not_present(
    project: Project, add: Callable[[str], Registered]
) -> None:
    add(ONE)
    project.client.delete_model_version("faces", "1")
    assert looks(project, ONE) is None
    assert add(ONE).action == "done"
    assert looks(project, ONE) == "2"


def test_a_version_whose_logged_model_was_deleted_is_not_present(
    project: Project, run_id: str, add: Callable[[str], Registered]
) -> None:
    add(ONE)
    model_id = project.client.get_run(run_id).outputs.model_outputs[0].model_id
    project.client.delete_logged_model(model_id)
    assert looks(project, ONE) is None
    assert add(ONE).version == "2"


def test_a_registered_model_that_was_deleted_is_made_anew(
    project: Project, add: Callable[[str], Registered]
) -> None:
    add(ONE)
    project.client.delete_registered_model("faces")
    assert looks(project, ONE) is None
    assert add(ONE) == Registered("done", "faces", "1", ONE, add(ONE).run_id)


def test_an_alias_follows_a_digest(project: Project, add: Callable[[str], Registered]) -> None:
    add(ONE)
    add(TWO)
    assert peek_alias(project.uri, "faces", "staging") is None
    assert mirror_alias(project.uri, "faces", "staging", TWO) is True
    assert peek_alias(project.uri, "faces", "staging") == TWO
    assert mirror_alias(project.uri, "faces", "staging", ONE) is True  # a rollback
    assert peek_alias(project.uri, "faces", "staging") == ONE
    assert project.client.get_model_version_by_alias("faces", "staging").version == 1
    assert mirror_alias(project.uri, "faces", "staging", "3" * 64) is False
    assert peek_alias(project.uri, "faces", "staging") == ONE
    project.client.delete_model_version("faces", "1")
    assert peek_alias(project.uri, "faces", "staging") is None


def test_a_model_that_is_none_registers_nothing(project: Project, run_id: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"expected a \.mlpackage or \.mlmodel"):
        register(tmp_path / "gone.mlpackage", "faces", tracking_uri=project.uri, run_id=run_id, digest=ONE)
    assert project.client.search_registered_models() == []
    (model,) = project.client.search_logged_models([project.client.get_run(run_id).info.experiment_id])
    assert str(model.status) == "FAILED"


def test_a_run_that_does_not_exist_is_our_error(project: Project, package: Callable[[str], Path]) -> None:
    with pytest.raises(TrackingError, match="cannot log the model 'faces'"):
        register(package("one"), "faces", tracking_uri=project.uri, run_id="0" * 32, digest=ONE)


@pytest.mark.parametrize("content", [None, b"", b"no database at all, but some text" * 100])
def test_a_look_at_what_is_no_store_answers_not_known(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "mlflow.db"
    if content is not None:
        file.write_bytes(content)
    assert peek_version(f"sqlite:///{file}", "faces", ONE) is None
    assert peek_alias(f"sqlite:///{file}", "faces", "staging") is None
    assert file.exists() is (content is not None)  # a look makes nothing


def test_a_look_at_a_schema_that_we_do_not_know_answers_not_known(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE model_versions (title TEXT)")
    connection.commit()
    connection.close()
    assert peek_version(f"sqlite:///{file}", "faces", ONE) is None
    assert peek_alias(f"sqlite:///{file}", "faces", "staging") is None


@pytest.mark.parametrize("uri", ["postgresql://db/mlflow", "databricks", "file:///tmp/mlruns", "sqlite://"])
def test_a_store_that_we_do_not_read_answers_not_known(uri: str) -> None:
    assert peek_version(uri, "faces", ONE) is None
    assert peek_alias(uri, "faces", "staging") is None


class Answers:
    """A real HTTP server that answers one thing and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.status, self.body = 200, b"{}"
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization")))
                self.send_response(outer.status)
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Answers]:
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    server = Answers()
    yield server
    server.server.shutdown()
    server.server.server_close()


def test_a_server_is_asked_with_the_credentials_of_the_environment(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = {"version": "3", "tags": [{"key": "coremlops.digest", "value": ONE}]}
    answers.body = json.dumps({"model_version": version}).encode()
    assert peek_alias(answers.uri, "faces", "staging") == ONE
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    assert peek_alias(answers.uri, "faces", "staging") == ONE
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pw")
    assert peek_alias(answers.uri, "faces", "staging") == ONE
    path = "/api/2.0/mlflow/registered-models/alias?name=faces&alias=staging"
    assert answers.asked == [(path, None), (path, "Bearer secret"), (path, "Basic YWRhOnB3")]


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b"{}"),
        (500, b"oops"),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b'{"model_versions": 7}'),
        (200, b"\xff"),
    ],
)
def test_a_server_that_answers_oddly_is_not_known(answers: Answers, status: int, body: bytes) -> None:
    answers.status, answers.body = status, body
    assert peek_version(answers.uri, "faces", ONE) is None
    assert peek_alias(answers.uri, "faces", "staging") is None


def test_what_is_no_http_is_not_known() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail.example ESMTP\r\n\r\n")

        thread = threading.Thread(target=babble, daemon=True)
        thread.start()
        assert peek_alias(f"http://127.0.0.1:{server.getsockname()[1]}", "faces", "staging") is None
        thread.join(10)


def test_only_a_version_of_that_very_digest_counts(answers: Answers) -> None:
    tags = [{"key": "coremlops.digest", "value": TWO}]
    answers.body = json.dumps({"model_versions": [{"version": "3", "tags": tags}]}).encode()
    assert peek_version(answers.uri, "faces", ONE) is None
    assert peek_version(answers.uri, "faces", TWO) == "3"
    asked = len(answers.asked)
    assert peek_version(answers.uri, "faces' OR name = 'x", TWO) is None
    assert len(answers.asked) == asked


def test_a_label_becomes_a_metric_that_mlflow_takes(
    project: Project, run_id: str, package: Callable[[str], Path]
) -> None:
    """A person's name is part of a metric's: MLflow takes no apostrophe, and the sender writes it so, too."""
    register(
        package("one"),
        "faces",
        tracking_uri=project.uri,
        run_id=run_id,
        digest=ONE,
        metrics={"accuracy.O'Brien (jr.)": 0.5},
    )
    assert project.client.get_run(run_id).data.metrics == {"accuracy.O_Brien _jr._": 0.5}


def test_what_mlflow_refuses_for_good_is_no_question_of_the_address(
    project: Project, run_id: str, package: Callable[[str], Path]
) -> None:
    with pytest.raises(TrackingError) as caught:
        register(package("one"), "a/b:c", tracking_uri=project.uri, run_id=run_id, digest=ONE)
    assert "URI" not in caught.value.hint
