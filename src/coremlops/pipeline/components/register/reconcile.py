"""Whether there is anything for `register` to do: a few milliseconds, without MLflow."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coremlops.errors import CoremlopsError
from coremlops.pipeline.components.proven import read_proven
from coremlops.tracking.address import DEFAULT_URI, absolute_uri
from coremlops.tracking.peek import peek_version


def present(inputs: Mapping[str, Path], params: Mapping[str, str], project: Path) -> Mapping[str, Any] | None:
    """The receipt of a registration that is there already, or None when the step must run.

    `params["tracking_uri"]` is the runner's; else the environment's. Inputs that `register` would refuse
    answer None, so that the step runs and says why.
    """
    try:
        proven = read_proven(inputs["model"], inputs["report"], done="registered")
        name = params["name"]
    except (CoremlopsError, KeyError):
        return None
    uri = params.get("tracking_uri") or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    version = peek_version(absolute_uri(uri, project), name, proven.digest)
    if version is None:
        return None
    return {"action": "present", "name": name, "version": version, "digest": proven.digest}
