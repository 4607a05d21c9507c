"""Where a project ships to: its repository, collection, registered name and MLflow store. Nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from coremlops.errors import ConfigError
from coremlops.pipeline.project import Project, find_project, load_project
from coremlops.tracking.address import DEFAULT_URI, absolute_uri


@dataclass(frozen=True, slots=True)
class Shipping:
    """`repository`: the folder of the signed repository. `collection`: None means its only one.

    `name`: what the model is called in MLflow's registry; empty means like the collection. `tracking_uri`:
    empty when there is no MLflow store to mirror to.
    """

    repository: Path
    collection: str | None = None
    name: str = ""
    tracking_uri: str = ""

    def registered(self, collection: str) -> str:
        """The registry's name for this collection's models."""
        return self.name or collection


def shipping(start: Path, environment: Mapping[str, str] | None = None) -> Shipping:
    """Where the project at or above `start` ships to; `start/repository` when there is no project.

    Raises `ConfigError` for a `coremlops.yaml` that cannot be accepted.
    """
    values = os.environ if environment is None else environment
    try:
        root = find_project(start)
    except ConfigError:
        return Shipping(start.absolute() / "repository", tracking_uri=values.get("MLFLOW_TRACKING_URI", ""))
    project = load_project(root)
    publish = _params(project, "publish")
    uri = values.get("MLFLOW_TRACKING_URI") or project.config.tracking_uri or DEFAULT_URI
    return Shipping(
        repository=root / publish.get("repository", "repository"),
        collection=publish.get("collection"),
        name=publish.get("name") or _params(project, "register").get("name", ""),
        tracking_uri=absolute_uri(uri, root),
    )


def _params(project: Project, component: str) -> Mapping[str, str]:
    """The parameters of the first step that uses a component, the default pipeline first."""
    pipelines = sorted(project.config.pipelines.values(), key=lambda pipeline: pipeline.name != "main")
    steps = (step for pipeline in pipelines for step in pipeline.steps)
    return next((step.params for step in steps if step.uses == component), {})
