"""Carries what a run does to `coremlops.tracking`; a run that does no work leaves no trace there."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.errors import CoremlopsError
from coremlops.pipeline.address import experiment_name
from coremlops.pipeline.findings import artifacts, read_dataset, read_metrics
from coremlops.pipeline.project import Project, ReadyPipeline, ReadyStep

if TYPE_CHECKING:
    from coremlops.tracking import RunRecorder


class Recording:
    """The record of one run, begun when the first step works.

    A record that cannot be written is reported once through `tell` and the run goes on.
    """

    def __init__(
        self, project: Project, pipeline: ReadyPipeline, run_id: str, uri: str, tell: Callable[[str], None]
    ) -> None:
        self._project = project
        self._pipeline = pipeline
        self._run_id = run_id
        self._uri = uri
        self._tell = tell
        self._recorder: RunRecorder | None = None
        self._broken = False

    def step_started(self, ready: ReadyStep, tags: Mapping[str, str]) -> None:
        """A step begins to work; the first one begins the run."""

        def record() -> None:
            recorder = self._begin()
            recorder.step_started(ready.name, ready.params, tags)

        self._guard(record)

    def step_finished(self, ready: ReadyStep, status: str, output: Path | None) -> None:
        """A step ended; `output` is what it wrote, if anything."""

        def record() -> None:
            assert self._recorder is not None  # noqa: S101 (step_started came first)
            there = output is not None and output.is_dir()
            self._recorder.step_finished(
                ready.name,
                status=status,
                metrics=_metrics(output, ready.name) if output and there else {},
                dataset=_dataset(output, ready.name) if output and there else None,
                artifacts=artifacts(output) if output and there else [],
            )

        self._guard(record)

    def run_finished(self, status: str, outputs: Mapping[str, Path]) -> None:
        """The run ended; `outputs` of all its steps, cached ones too, so that the run answers alone."""
        if self._recorder is None:
            return
        metrics: dict[str, float] = {}
        datasets: list[Mapping[str, Any]] = []
        for step, path in outputs.items():
            metrics |= {f"{step}.{name}": value for name, value in _metrics(path, step).items()}
            dataset = _dataset(path, step)
            if dataset is not None and dataset not in datasets:
                datasets.append(dataset)
        recorder = self._recorder
        self._guard(lambda: recorder.run_finished(status, metrics=metrics, datasets=datasets))

    def _begin(self) -> RunRecorder:
        if self._recorder is None:
            from coremlops.tracking import RunRecorder, start_sender

            name = f"{self._project.config.project} {self._pipeline.name}"
            recorder = RunRecorder(
                self._project.root,
                self._run_id,
                name=name,
                tracking_uri=self._uri,
                experiment=experiment_name(self._project),
            )
            params = {
                f"{ready.name}.{key}": value
                for ready in self._pipeline.steps
                for key, value in ready.params.items()
            }
            tags = {"coremlops.run_id": self._run_id, "coremlops.pipeline": self._pipeline.name}
            if os.environ.get("MLFLOW_RUN_ID"):
                tags["coremlops.mlflow_run_id"] = os.environ["MLFLOW_RUN_ID"]
            recorder.run_started(params, tags)
            self._recorder = recorder
            start_sender(self._project.root)
        return self._recorder

    def _guard(self, record: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            record()
        except (CoremlopsError, OSError) as error:
            self._broken = True
            self._tell(f"this run is not tracked: {error}")


def _metrics(folder: Path, step: str) -> dict[str, float]:
    try:
        return read_metrics(folder, step)
    except CoremlopsError:
        return {}


def _dataset(folder: Path, step: str) -> dict[str, Any] | None:
    try:
        return read_dataset(folder, step)
    except CoremlopsError:
        return None
