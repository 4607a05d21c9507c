"""Whether there is anything for `publish` to do: a few JSON files, without TUF or MLflow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from coremlops.collection import (
    History,
    Index,
    channel_role,
    check_channel,
    check_collection,
    history_path,
    index_path,
)
from coremlops.collection.names import is_sha256
from coremlops.digest import sha256_bytes
from coremlops.errors import CoremlopsError
from coremlops.pipeline.components.proven import read_proven
from coremlops.tracking.address import DEFAULT_URI, absolute_uri
from coremlops.tracking.peek import peek_alias, peek_version

# Snapshot and timestamp are signed anew by the step when they are due; see release/expiry.py.
RENEW_BEFORE = {"timestamp": timedelta(days=7) / 3, "snapshot": timedelta(days=10)}
_MAX_BYTES = 50_000_000


def present(inputs: Mapping[str, Path], params: Mapping[str, str], project: Path) -> Mapping[str, Any] | None:
    """The receipt if the channel has this proven model already and MLflow's alias agrees, else None.

    A model that the channel had as its newest and was rolled back from is present: a repeated run does not
    undo a rollback. `params["repository"]` is absolute. No device believes what is read here, so signatures
    are not checked. Inputs that `publish` would refuse answer None, so that the step runs and says why.
    """
    try:
        digest = read_proven(inputs["model"], inputs["report"], done="published").digest
        collection, channel = check_collection(params["collection"]), check_channel(params["channel"])
        read = Documents(Path(params["repository"]), collection, channel)
        index = read.index()
        entry = index.current
        if index.rolled_back and (entry is None or digest not in entry.models):
            entry = read.history().find(index.last_version)
    except (CoremlopsError, KeyError, OSError, ValueError, TypeError, RecursionError):
        return None
    if entry is None or index.current is None or digest not in entry.models:
        return None
    now = index.current.models[0] if index.current.models else ""
    alias = _alias(params, project, collection, channel, now)
    if alias is None:
        return None
    return {
        "action": "present",
        "collection": collection,
        "channel": channel,
        "version": entry.version,
        "model": entry.models[0],
        "manifest": entry.variants[0].manifest,
        "current": index.current.version,
        "rolled_back": index.rolled_back,
        "alias": alias,
        "warning": "",
        "notes": [],
    }


def check(sources: Mapping[str, Path], params: Mapping[str, str], project: Path) -> None:
    """Raise for what `publish` would refuse whatever the model is; see `Component.check`."""
    from coremlops.pipeline import releases
    from coremlops.pipeline.shipping import Shipping

    where = Shipping(Path(params["repository"]), params["collection"])
    releases.check(sources.get("golden"), where, params["channel"])


class Documents:
    """A channel's documents as the repository's newest timestamp leads to them, unverified.

    Raises `OSError`, `ValueError`, `KeyError` or `RepositoryError` for files that do not say, and
    `ValueError` when snapshot or timestamp should be signed anew.
    """

    def __init__(self, repository: Path, collection: str, channel: str, now: datetime | None = None) -> None:
        now = now or datetime.now(UTC)
        metadata = repository / "metadata"
        timestamp = _signed(metadata / "timestamp.json", "timestamp", now)
        snapshot_version = int(timestamp["meta"]["snapshot.json"]["version"])
        snapshot = _signed(metadata / f"{snapshot_version}.snapshot.json", "snapshot", now)
        role = channel_role(collection, channel)
        role_version = int(snapshot["meta"][f"{role}.json"]["version"])
        self._targets = _signed(metadata / f"{role_version}.{role}.json", role, now)["targets"]
        self._folder = repository / "targets"
        self._of = {"collection": collection, "channel": channel}

    def index(self) -> Index:
        """What the channel offers."""
        return Index.from_bytes(self._read(index_path(**self._of)), **self._of)

    def history(self) -> History:
        """Every version that it had."""
        return History.from_bytes(self._read(history_path(**self._of)), **self._of)

    def _read(self, path: str) -> bytes:
        sha256 = self._targets[path]["hashes"]["sha256"]
        if not is_sha256(sha256):
            raise ValueError("no SHA-256")
        folder, _, name = path.rpartition("/")
        data = (self._folder / folder / f"{sha256}.{name}").read_bytes()
        if sha256_bytes(data) != sha256:
            raise ValueError(f"{name} is damaged")
        return data


def _alias(
    params: Mapping[str, str], project: Path, collection: str, channel: str, digest: str
) -> bool | None:
    """Whether the alias is at this model; None when it is not and the step could set it."""
    uri = params.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    uri = absolute_uri(uri, project)
    name = params.get("name") or _registered_name(project) or collection
    if peek_alias(uri, name, channel) == digest:
        return True
    return None if peek_version(uri, name, digest) is not None else False


def _registered_name(project: Path) -> str:
    from coremlops.pipeline.shipping import shipping

    return shipping(project).name


def _signed(path: Path, role: str, now: datetime) -> dict[str, Any]:
    signed: dict[str, Any] = _object(path)["signed"]
    margin = RENEW_BEFORE.get(role, timedelta(0))
    if datetime.fromisoformat(signed["expires"]) - margin <= now:
        raise ValueError(f"{role} should be signed anew")
    return signed


def _object(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_BYTES:
        raise ValueError("too large")
    value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value
