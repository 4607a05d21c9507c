"""Where a project's runs are tracked, by precedence: default < file < environment < flag."""

from __future__ import annotations

import os
from pathlib import Path

from coremlops.errors import ConfigError
from coremlops.pipeline.project import Project
from coremlops.tracking.address import DEFAULT_URI, absolute_uri


def tracking_uri(project: Project, flag: str | None = None) -> str:
    """Where runs go: the project's SQLite < the file < MLFLOW_TRACKING_URI < the flag. SQLite is absolute.

    Raises `ConfigError` for a folder that such an address cannot name.
    """
    uri, base = project.config.tracking_uri or DEFAULT_URI, project.root
    if os.environ.get("MLFLOW_TRACKING_URI"):
        uri, base = os.environ["MLFLOW_TRACKING_URI"], Path.cwd()
    if flag:
        uri, base = flag, Path.cwd()
    absolute = absolute_uri(uri, base)
    if absolute != uri and any(sign in str(base) for sign in "?%"):
        raise ConfigError(
            f"MLflow cannot keep a store in {base}: ? and % mean something else in its addresses",
            hint="rename the folder, or name another place with `tracking: {uri: ...}`",
        )
    return absolute


def experiment_name(project: Project) -> str:
    """The experiment: the project's name < the file < MLFLOW_EXPERIMENT_NAME."""
    named = os.environ.get("MLFLOW_EXPERIMENT_NAME")
    return named or project.config.experiment or project.config.project
