"""A project with a real SQLite store in it, made once a session and copied."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from coremlops.tracking.record import RunRecorder
from coremlops.tracking.sender import Sender, SenderTimes
from coremlops.tracking.store import connect

EXPERIMENT = "faces"
QUICK = SenderTimes(poll_s=0.01, linger_s=0.0, patience_s=0.0, retry_max_s=0.05)


@dataclass(frozen=True)
class Project:
    """A project's folder and what is asked of it most in these tests."""

    root: Path

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.root}/mlflow.db"

    @property
    def client(self) -> Any:
        return connect(self.uri)

    def recorder(self, run_id: str = "run-1", uri: str = "sqlite:///mlflow.db") -> RunRecorder:
        return RunRecorder(self.root, run_id, name="faces main", tracking_uri=uri, experiment=EXPERIMENT)

    def send(self) -> None:
        """One look of a sender that knows nothing but what lies in the outbox."""
        Sender(self.root, QUICK).turn()

    def runs(self, **where: str) -> list[Any]:
        """MLflow's runs with these tags, oldest first, a parent before its steps."""
        experiment = self.client.get_experiment_by_name(EXPERIMENT)
        if experiment is None:
            return []
        condition = " and ".join(f"tags.`{key}` = '{value}'" for key, value in where.items())
        found = self.client.search_runs([experiment.experiment_id], condition)
        return sorted(found, key=_order)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    # These tests lose no power, so they need not wait for the disk.
    event.listen(Engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))
    root = tmp_path_factory.mktemp("store")
    connect(f"sqlite:///{root}/mlflow.db")
    return root / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    for name in ("COREMLOPS_PROJECT", "COREMLOPS_RUN_ID", "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    root = tmp_path / "faces"
    root.mkdir()
    shutil.copyfile(empty_store, root / "mlflow.db")
    return Project(root)


@pytest.fixture
def package(tmp_path: Path) -> Callable[[str], Path]:
    """A folder that has the shape of a Core ML package; nothing here runs it."""

    def make(content: str) -> Path:
        folder = tmp_path / content / "model.mlpackage"
        folder.mkdir(parents=True)
        (folder / "Manifest.json").write_text(content)
        return folder

    return make


def _order(run: Any) -> tuple[int, bool, str]:
    return run.info.start_time, "mlflow.parentRunId" in run.data.tags, run.info.run_name
