"""A client of MLflow that starts quickly and says little.

MLflow makes a new SQLite store by some seventy migrations, each committed to disk: 5-6 s, of which 1.2 s is
work. Here the same migrations run in a file beside it without waiting for the disk (1.7 s), and the finished
store is moved into place whole: a process that dies half-way leaves no store rather than half of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.errors import MissingExtraError, TrackingError
from coremlops.tracking.address import shown, sqlite_file

if TYPE_CHECKING:
    from mlflow import MlflowClient


# Without it MLflow's pages guess that the experiment is about language models.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}

# MLflow's own limit (mlflow.utils.validation, 3.17).
_NAME_LENGTH = 250
# What MLflow will refuse however often it is asked; everything else may pass, so it is tried again.
_FINAL = frozenset(
    {
        "INVALID_PARAMETER_VALUE",
        "RESOURCE_DOES_NOT_EXIST",
        "RESOURCE_ALREADY_EXISTS",
        "INVALID_STATE",
        "BAD_REQUEST",
    }
)

# MLflow keeps one engine a store for the life of the process, and with it the file that it opened.
_opened: dict[Path, int | None] = {}


def import_mlflow() -> Any:
    """The module `mlflow`, without telemetry and migration chatter. Costs 1.6 s the first time."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    for noisy in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        import mlflow
    except ModuleNotFoundError as error:
        if error.name != "mlflow":
            raise
        raise MissingExtraError("mlflow", "mlflow") from None
    return mlflow


def connect(uri: str) -> MlflowClient:
    """A client of the store at `uri` (absolute, see `address`), made if it is a SQLite file not yet there.

    Raises `TrackingError` when the store cannot be opened. A server that is down shows only when it is asked.
    """
    mlflow = import_mlflow()
    file = sqlite_file(uri)
    with trouble(f"cannot open the tracking store {uri}"):
        if file is not None:
            _ensure_sqlite(file)
            _opened.setdefault(file, _inode(file))
        client: MlflowClient = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
        return client


def replaced() -> bool:
    """Whether a SQLite store that this process opened has been deleted or exchanged since."""
    return any(_inode(file) != inode for file, inode in _opened.items())


def _inode(file: Path) -> int | None:
    with contextlib.suppress(OSError):
        return file.stat().st_ino
    return None


def metric_name(name: str) -> str:
    """A name that MLflow takes: letters, digits, `_ - . / : ` and blanks, and no path tricks."""
    safe = re.sub(r"[^\w\-./: ]", "_", str(name))[:_NAME_LENGTH].strip("/")
    return "/".join(part for part in safe.split("/") if part not in ("", ".", "..")) or "_"


def refused(error: Exception) -> bool:
    """Whether MLflow said no for good, so that trying again is useless."""
    return getattr(error, "error_code", None) in _FINAL


@contextlib.contextmanager
def trouble(what: str) -> Iterator[None]:
    """Turn whatever MLflow, SQLAlchemy or the network raise into `TrackingError`: `what`, then the reason."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise TrackingError(
            shown(f"{what}: {reason[0]}"),
            hint="" if refused(error) else "is the tracking URI right, and the server up?",
        ) from error


@contextlib.contextmanager
def default_store(uri: str) -> Iterator[None]:
    """Make `uri` MLflow's process-wide store for a while: parts of its registry look nowhere else."""
    mlflow = import_mlflow()
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The experiment of that name, made when there is none. Raises `TrackingError` when it was deleted."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        file = sqlite_file(uri)
        # MLflow would put artifacts below the working directory, which is a step's folder as often as not.
        location = None if file is None else str(file.parent / "mlruns" / _folder_name(name))
        try:
            return str(client.create_experiment(name, artifact_location=location, tags=_EXPERIMENT_TAGS))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was quicker
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise TrackingError(
            f"the experiment {name!r} was deleted in MLflow",
            hint=f"`mlflow experiments restore -x {found.experiment_id}`, or name another in coremlops.yaml",
        )
    return str(found.experiment_id)


def _folder_name(experiment: str) -> str:
    safe = "".join(c if c.isalnum() or c in "._- " else "_" for c in experiment).strip(". ")
    return safe[:100] or "experiment"


def _ensure_sqlite(file: Path) -> None:
    if file.exists():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.with_name(file.name + ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not file.exists():
            _make_sqlite(file)
    with contextlib.suppress(FileNotFoundError):
        # A process that waits for this lock holds the removed file open, wakes, and finds the store made.
        file.with_name(file.name + ".lock").unlink()


def _make_sqlite(file: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    partial = file.with_name(f".{file.name}.partial")
    partial.unlink(missing_ok=True)

    def hasty(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    event.listen(Engine, "connect", hasty)
    try:
        store = SqlAlchemyStore(f"sqlite:///{partial}", str(file.parent / "mlruns"))
        store.engine.dispose()
    finally:
        event.remove(Engine, "connect", hasty)
    handle = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
    partial.rename(file)
