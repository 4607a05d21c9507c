"""Whether there is anything for `publish` to do: a few JSON files, without TUF or MLflow."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from coremlops.collection import (
    CHANNELS,
    History,
    Index,
    channel_role,
    check_channel,
    check_collection,
    check_name,
    history_path,
    index_path,
)
from coremlops.collection.names import is_sha256
from coremlops.digest import sha256_bytes
from coremlops.errors import CoremlopsError
from coremlops.pipeline.components.proven import read_proven
from coremlops.pipeline.shipping import Shipping, shipping
from coremlops.tracking.address import DEFAULT_URI, absolute_uri
from coremlops.tracking.peek import peek_alias, peek_version

# Snapshot and timestamp are signed anew by the step when they are due; see release/expiry.py.
RENEW_BEFORE = {"timestamp": timedelta(days=7) / 3, "snapshot": timedelta(days=10)}
_MAX_BYTES = 50_000_000
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


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
        names = read.names()
        name = _name(params.get("model_name", ""), names, collection)
        line = read.index.line(name)
        entry = line.current
        if line.rolled_back and (entry is None or digest not in entry.models):
            entry = read.history(name).find(line.last_version)
    except (CoremlopsError, KeyError, OSError, ValueError, TypeError, RecursionError):
        return None
    if entry is None or line.current is None or digest not in entry.models:
        return None
    now = line.current.models[0] if line.current.models else ""
    registered = params.get("name") or shipping(project).registered(collection, name, only=len(names) == 1)
    alias = _alias(params, project, registered, channel, now)
    if alias is None:
        return None
    return {
        "action": "present",
        "collection": collection,
        "name": name,
        "channel": channel,
        "version": entry.version,
        "model": entry.models[0],
        "manifest": entry.variants[0].manifest,
        "current": line.current.version,
        "rolled_back": line.rolled_back,
        "alias": alias,
        "warning": "",
        "notes": [],
    }


def check(sources: Mapping[str, Path], params: Mapping[str, str], project: Path) -> None:
    """Raise for what `publish` would refuse whatever the model is; see `Component.check`."""
    from coremlops.pipeline import releases

    where = Shipping(
        Path(params["repository"]),
        params["collection"],
        params.get("model_name") or None,
        shipping(project).names,
    )
    releases.check(sources.get("golden"), where, params["channel"])


class Documents:
    """A channel's documents as the repository's newest timestamp leads to them, unverified. `index`: what the
    channel offers.

    Raises `OSError`, `ValueError`, `KeyError` or `RepositoryError` for files that do not say, and
    `ValueError` when snapshot or timestamp should be signed anew.
    """

    def __init__(self, repository: Path, collection: str, channel: str, now: datetime | None = None) -> None:
        now = now or datetime.now(UTC)
        self._metadata, self._folder = repository / "metadata", repository / "targets"
        timestamp = _signed(self._metadata / "timestamp.json", "timestamp", now)
        snapshot_version = int(timestamp["meta"]["snapshot.json"]["version"])
        snapshot = _signed(self._metadata / f"{snapshot_version}.snapshot.json", "snapshot", now)
        self._versions = snapshot["meta"]
        self.collection, self.channel = collection, channel
        self._targets = self._of(channel, now)
        self.index = self._index(channel, self._targets)

    def names(self) -> tuple[str, ...]:
        """The models that the collection holds, in any channel, expired or not."""
        found = set(self.index.names)
        for other in CHANNELS:
            if other != self.channel:
                found.update(self._index(other, self._of(other, _LONG_AGO)).names)
        return tuple(sorted(found))

    def history(self, name: str) -> History:
        """Every version that it had of a model."""
        data = self._read(history_path(self.collection, self.channel, name), self._targets)
        return History.from_bytes(data, collection=self.collection, channel=self.channel, name=name)

    def _index(self, channel: str, targets: Mapping[str, Any]) -> Index:
        data = self._read(index_path(self.collection, channel), targets)
        return Index.from_bytes(data, collection=self.collection, channel=channel)

    def _of(self, channel: str, now: datetime) -> Mapping[str, Any]:
        role = channel_role(self.collection, channel)
        version = int(self._versions[f"{role}.json"]["version"])
        targets: Mapping[str, Any] = _signed(self._metadata / f"{version}.{role}.json", role, now)["targets"]
        return targets

    def _read(self, path: str, targets: Mapping[str, Any]) -> bytes:
        sha256 = targets[path]["hashes"]["sha256"]
        if not is_sha256(sha256):
            raise ValueError("no SHA-256")
        folder, _, name = path.rpartition("/")
        data = (self._folder / folder / f"{sha256}.{name}").read_bytes()
        if sha256_bytes(data) != sha256:
            raise ValueError(f"{name} is damaged")
        return data


def _name(asked: str, names: tuple[str, ...], collection: str) -> str:
    """The model that is meant, as `publish` understands it; `ValueError` where that is not said."""
    if asked:
        return check_name(asked)
    if len(names) > 1:
        raise ValueError("several models, and none is named")
    return names[0] if names else collection


def _alias(
    params: Mapping[str, str], project: Path, registered: str, channel: str, digest: str
) -> bool | None:
    """Whether the alias is at this model; None when it is not and the step could set it."""
    uri = params.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    uri = absolute_uri(uri, project)
    if peek_alias(uri, registered, channel) == digest:
        return True
    return None if peek_version(uri, registered, digest) is not None else False


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
