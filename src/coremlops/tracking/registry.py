"""Versions and aliases in MLflow's registry, found by the digest of the model that they hold.

The signed repository is the authority on what devices get; an alias here mirrors a channel there, and
`publish` and `promote` alone write it, through `mirror_alias`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from coremlops.errors import TrackingError
from coremlops.tracking.address import sqlite_file
from coremlops.tracking.peek import DIGEST_TAG, logged_model_id, peek_alias, peek_version
from coremlops.tracking.store import connect, default_store, trouble

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["DIGEST_TAG", "Registered", "mirror_alias", "peek_alias", "peek_version", "register", "set_alias"]

_VERSIONS_TAG = "mlflow.modelVersions"


@dataclass(frozen=True, slots=True)
class Registered:
    """A version in the registry. `action`: whether it was made now ("done") or was there ("present")."""

    action: Literal["done", "present"]
    name: str
    version: str
    digest: str
    run_id: str


def register(
    model: Path | str,
    name: str,
    *,
    tracking_uri: str,
    digest: str,
    run_id: str | None = None,
    project: Path | str | None = None,
    our_run_id: str | None = None,
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    metadata: Mapping[str, Any] | None = None,
    dataset: Mapping[str, str] | None = None,
) -> Registered:
    """Log and register a Core ML file, unless `name` has a version of that digest already.

    The model belongs to MLflow's run `run_id`, or to the parent run of our run `our_run_id` of `project`,
    which is made if it is not there. Raises `TrackingError` when MLflow refuses.
    """
    from coremlops.tracking.flavor import log_model

    client = connect(tracking_uri)
    with trouble(f"cannot look for versions of {name!r}"):
        version = find_version(client, name, digest)
    if version is not None:
        return Registered("present", name, str(version.version), digest, str(version.run_id or ""))
    if run_id is None:
        if project is None or our_run_id is None:
            raise TrackingError("expected run_id, or project and our_run_id, got neither")
        from coremlops.tracking.sender import ensure_parent_run

        run_id = ensure_parent_run(Path(project), our_run_id)
    info = log_model(
        model,
        name,
        run_id=run_id,
        registered_model_name=name,
        digest=digest,
        params=params,
        tags=tags,
        metrics=metrics,
        metadata=metadata,
        dataset=dataset,
        tracking_uri=tracking_uri,
    )
    return Registered("done", name, str(info.registered_model_version), digest, run_id)


def mirror_alias(
    tracking_uri: str, name: str, alias: str, model_digest: str, *, project: Path | None = None
) -> bool:
    """Point the alias at the version that holds the model of that digest; False when there is none.

    `tracking_uri` is absolute (see `address.absolute_uri`). The project's sender does the work: 0.3 s instead
    of 4 s while one is at work. `project`: that of `COREMLOPS_PROJECT`, or that beside the SQLite store, if
    None; without any, the work is done here. Raises `TrackingError` when MLflow refuses or is not reached.
    """
    if peek_alias(tracking_uri, name, alias) == model_digest:
        return True
    project = project or _project_of(tracking_uri)
    if project is None:
        return set_alias(tracking_uri, name, alias, model_digest)
    from coremlops.tracking.errand import ask

    arguments = {"tracking_uri": tracking_uri, "name": name, "alias": alias, "model_digest": model_digest}
    return bool(ask(project, "set_alias", arguments))


def set_alias(tracking_uri: str, name: str, alias: str, model_digest: str) -> bool:
    """What `mirror_alias` has done: point the alias at the version, in this process."""
    client = connect(tracking_uri)
    with trouble(f"cannot set the alias {name}@{alias}"):
        version = find_version(client, name, model_digest)
        if version is None:
            return False
        client.set_registered_model_alias(name, alias, str(version.version))
    return True


def _link(client: MlflowClient, model_id: str, name: str, version: Any) -> None:
    """Tell the logged model of its version: MLflow's pages read that from a tag of its fluent API's."""
    known = json.loads(client.get_logged_model(model_id).tags.get(_VERSIONS_TAG, "[]"))
    if {"name": name, "version": version} not in known:
        text = json.dumps([*known, {"name": name, "version": version}])
        client.set_logged_model_tags(model_id, {_VERSIONS_TAG: text})


def _project_of(tracking_uri: str) -> Path | None:
    named = os.environ.get("COREMLOPS_PROJECT")
    if named:
        return Path(named)
    file = sqlite_file(tracking_uri)
    return file.parent if file is not None and (file.parent / ".coremlops").is_dir() else None


def find_version(client: MlflowClient, name: str, digest: str) -> Any:
    """The newest version of `name` with that digest whose logged model still exists; else None."""
    from mlflow.exceptions import MlflowException

    quoted = name.replace("'", "")
    found = client.search_model_versions(f"name = '{quoted}' AND tag.`{DIGEST_TAG}` = '{digest}'")
    for version in sorted(found, key=lambda v: int(v.version), reverse=True):
        model_id = logged_model_id(version.source)
        try:
            if model_id is not None:
                client.get_logged_model(model_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            continue
        return version
    return None


def create_version(
    client: MlflowClient,
    uri: str,
    name: str,
    model_id: str,
    run_id: str,
    digest: str,
    tags: Mapping[str, str],
) -> str:
    """Make a version from a logged model, tagged with the digest from its first moment."""
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    with default_store(uri):  # MLflow's SQL registry looks for `models:/<id>` in the process-wide store
        version = client.create_model_version(
            name,
            source=f"models:/{model_id}",
            run_id=run_id,
            tags={**tags, DIGEST_TAG: digest},
            model_id=model_id,
            await_creation_for=60,
        )
    _link(client, model_id, name, version.version)
    return str(version.version)
