"""One recorded run, carried to MLflow: a parent run, a nested run for each step.

Everything here may be done twice and counts once: runs are looked up by tag before they are made, metrics
carry the recorded times, and MLflow itself ignores a parameter, metric, dataset or artifact that it already
has. So a sender that dies between a request and its cursor loses nothing and doubles nothing.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.errors import TrackingError
from coremlops.tracking.address import absolute_uri
from coremlops.tracking.outbox import Outbox
from coremlops.tracking.store import connect, experiment_id, metric_name, refused

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput

RUN_TAG = "coremlops.run_id"
STEP_TAG = "coremlops.step_id"
ADOPT_TAG = "coremlops.mlflow_run_id"

# MLflow's own limits (mlflow.utils.validation, 3.17).
_BATCH = 100
_METRICS = 1000
_VALUE_LENGTH = 6000
_DIGEST_LENGTH = 36


def parent_run(project: Path, run_id: str, client: MlflowClient | None = None) -> str:
    """MLflow's id of the parent run of our run, made when it is not there: by whoever comes first.

    The sender and `register` both call this; a lock and a lookup by tag keep them from making two.
    Raises `TrackingError` for a run that was never recorded.
    """
    outbox = Outbox(project)
    with outbox.lock("parent", wait=True):
        known = outbox.parent(run_id)
        if known is not None:
            return str(known["mlflow_run_id"])
        started = outbox.started(run_id)
        if started is None:
            raise TrackingError(f"no run {run_id!r} is recorded in {outbox.folder}")
        uri = absolute_uri(str(started["tracking_uri"]), project)
        client = client or connect(uri)
        tags = {str(k): str(v) for k, v in started["tags"].items()}
        adopted = tags.get(ADOPT_TAG)
        if adopted and not _adopt(client, adopted, run_id):
            adopted = None
        found = adopted or _find(client, experiment_id(client, uri, started["experiment"]), RUN_TAG, run_id)
        if found is None:
            run = client.create_run(
                experiment_id(client, uri, started["experiment"]),
                start_time=int(started["time_ms"]),
                run_name=str(started["name"]),
                tags={**_origin(project), RUN_TAG: run_id},
            )
            found = str(run.info.run_id)
        outbox.set_parent(run_id, {"mlflow_run_id": found, "adopted": bool(adopted)})
        return found


class Delivery:
    """Sends the events of one run in order. `steps`: MLflow's run id of each step that was sent so far."""

    def __init__(
        self, project: Path, run_id: str, client: MlflowClient, uri: str, steps: Mapping[str, str]
    ) -> None:
        self.project = project
        self.run_id = run_id
        self.client = client
        self.uri = uri
        self.steps = dict(steps)
        self._experiment: str | None = None

    def send(self, event: Mapping[str, Any]) -> None:
        """Send one event. Raises whatever MLflow raises, except where it refuses a single thing for good."""
        time_ms = int(event["time_ms"])
        match event["event"]:
            case "run_started":
                self._run_started(event)
            case "step_started":
                self._step_started(event, time_ms)
            case "step_finished":
                run = self.steps.get(str(event["step"]))
                if run is None:
                    raise ValueError(f"step {event['step']!r} finished and never started")
                self._log(run, metrics=event["metrics"], time_ms=time_ms)
                self._log_datasets(run, [event["dataset"]] if event["dataset"] else [])
                self._log_artifacts(run, event["artifacts"])
                self.client.set_terminated(run, str(event["status"]), time_ms)
            case "run_finished":
                parent = parent_run(self.project, self.run_id, self.client)
                self._log(parent, metrics=event["metrics"], time_ms=time_ms)
                self._log_datasets(parent, event["datasets"])
                self._end_parent(str(event["status"]), time_ms)

    def kill(self, time_ms: int) -> None:
        """The run died without a word: what had not ended was killed."""
        for run in self.steps.values():
            if self.client.get_run(run).info.status == "RUNNING":
                self.client.set_terminated(run, "KILLED", time_ms)
        self._end_parent("KILLED", time_ms)

    def _end_parent(self, status: str, time_ms: int) -> None:
        parent = Outbox(self.project).parent(self.run_id)
        # `mlflow run` ends the run that it began.
        if parent is not None and not parent["adopted"]:
            self.client.set_terminated(parent["mlflow_run_id"], status, time_ms)

    def _run_started(self, event: Mapping[str, Any]) -> None:
        parent = parent_run(self.project, self.run_id, self.client)
        if self.client.get_run(parent).info.status != "RUNNING":  # a run that is taken up again
            self.client.update_run(parent, status="RUNNING")
        self._log(parent, params=event["params"], tags=event["tags"])

    def _step_started(self, event: Mapping[str, Any], time_ms: int) -> None:
        parent = parent_run(self.project, self.run_id, self.client)
        step = str(event["step"])
        # A step that is tried again in one run is a run of its own, so the time is part of its name.
        identity = f"{self.run_id}/{step}/{time_ms}"
        if self._experiment is None:
            self._experiment = str(self.client.get_run(parent).info.experiment_id)
        found = _find(self.client, self._experiment, STEP_TAG, identity)
        if found is None:
            tags = {**_origin(self.project, step), STEP_TAG: identity, "mlflow.parentRunId": parent}
            run = self.client.create_run(self._experiment, start_time=time_ms, run_name=step, tags=tags)
            found = str(run.info.run_id)
        self.steps[step] = found
        self._log(found, params=event["params"], tags={**event["tags"], "coremlops.step": step})

    def _log(
        self,
        run: str,
        *,
        params: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        tags: Mapping[str, Any] | None = None,
        time_ms: int = 0,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        items: list[Any] = [Param(metric_name(k), str(v)[:_VALUE_LENGTH]) for k, v in (params or {}).items()]
        items += [RunTag(metric_name(k), str(v)[:_VALUE_LENGTH]) for k, v in (tags or {}).items()]
        for name, value in (metrics or {}).items():
            number = _number(value)
            if number is not None:
                items.append(Metric(metric_name(name), number, time_ms, 0))
        for start in range(0, len(items), _BATCH):
            self._log_items(run, items[start : start + _BATCH])

    def _log_items(self, run: str, items: Sequence[Any]) -> None:
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.exceptions import MlflowException

        try:
            self.client.log_batch(
                run,
                metrics=[item for item in items if isinstance(item, Metric)],
                params=[item for item in items if isinstance(item, Param)],
                tags=[item for item in items if isinstance(item, RunTag)],
            )
        except MlflowException as error:
            if not refused(error):
                raise
            if len(items) == 1:
                # One parameter that `mlflow run` had logged with another value must not cost the rest.
                print(f"{self.run_id}: left out {items[0].key!r}: {error.message}", flush=True)
                return
            for item in items:
                self._log_items(run, [item])

    def _log_datasets(self, run: str, datasets: Iterable[Mapping[str, Any]]) -> None:
        inputs = [dataset_input(dataset) for dataset in datasets if dataset.get("digest")]
        if inputs:
            self.client.log_inputs(run, datasets=inputs)

    def _log_artifacts(self, run: str, paths: Iterable[str]) -> None:
        for path in map(Path, paths):
            if path.is_file():
                self.client.log_artifact(run, str(path))
            elif path.is_dir():
                self.client.log_artifacts(run, str(path), path.name)
            else:
                print(f"{self.run_id}: left out {path}: no such file", flush=True)


def dataset_input(dataset: Mapping[str, Any]) -> DatasetInput:
    """MLflow's view of a `dataset.json`.

    MLflow's field holds 36 characters, so it gets the first 36 of our digest; the tag `coremlops.digest`
    and the profile hold all of it.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag

    digest = str(dataset["digest"])
    entity = Dataset(
        name=str(dataset.get("name") or "dataset")[:500],
        digest=digest[:_DIGEST_LENGTH],
        source_type="local",
        source=json.dumps({"uri": str(dataset.get("source") or "")})[:65_000],
        profile=json.dumps({"digest": digest, "counts": dataset.get("counts") or {}})[:1_000_000],
    )
    tags = [InputTag("mlflow.data.context", str(dataset.get("context") or "training"))]
    return DatasetInput(entity, tags=[*tags, InputTag("coremlops.digest", digest)])


def _adopt(client: MlflowClient, mlflow_run_id: str, run_id: str) -> bool:
    try:
        client.set_tag(mlflow_run_id, RUN_TAG, run_id)
    except Exception as error:
        if not refused(error):
            raise
        print(f"{run_id}: no MLflow run {mlflow_run_id} to log into: {error}", flush=True)
        return False
    return True


def _find(client: MlflowClient, experiment: str, tag: str, value: str) -> str | None:
    quoted = value.replace("'", "")
    found = client.search_runs([experiment], f"tags.`{tag}` = '{quoted}'", max_results=1)
    return str(found[0].info.run_id) if found else None


def _origin(project: Path, step: str | None = None) -> dict[str, str]:
    """The tags behind the columns User and Source of MLflow's list of runs."""
    name = project.absolute().name
    tags = {"mlflow.source.name": name if step is None else f"{name}#{step}", "mlflow.source.type": "PROJECT"}
    with contextlib.suppress(KeyError, OSError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    return tags


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
