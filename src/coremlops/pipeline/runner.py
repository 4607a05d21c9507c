"""Runs a pipeline: does what is missing, in order, and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.errors import CoremlopsError, GateError, InputError, StepError, StoreError
from coremlops.pipeline.address import experiment_name, tracking_uri
from coremlops.pipeline.code import code_digest
from coremlops.pipeline.disk import cannot_write, read_json, write_json
from coremlops.pipeline.interrupt import Interrupts
from coremlops.pipeline.key import Ingredients
from coremlops.pipeline.lock import claim, clean_work, project_lock
from coremlops.pipeline.project import DOWNSTREAM, ReadyStep, load_project
from coremlops.pipeline.result import Progress, RunResult, Silence, StepResult
from coremlops.pipeline.session import Session
from coremlops.pipeline.store import Output, Record, remove

if TYPE_CHECKING:
    from coremlops.pipeline.recording import Recording

GATE_EXIT = 3
MAX_JOBS = 4
_POLL_S = 0.01

# A step under way: yields while its process runs, returns (status, key, output).
_Doing = Generator[None, None, tuple[str, str, Output]]


def run(
    project: Path,
    *,
    pipeline: str = "main",
    overrides: Mapping[str, str] | None = None,
    to: str | None = None,
    force: Sequence[str] = (),
    tracking_uri: str | None = None,
    progress: Progress | None = None,
    check: bool = True,
    jobs: int | None = None,
) -> RunResult:
    """Run a pipeline of the project in the folder `project`.

    `overrides`: `{"epochs": "3"}` or `{"train.epochs": "3"}`. `to`: only this step and what it needs.
    `force`: steps to run whether or not they are done. `jobs`: how many steps that do not need each other may
    run at once, by default one a CPU core, 4 at most. With `check=False` a step's failure is returned in the
    result. When a step fails no other starts, and those that run are waited for and kept.

    Raises `ConfigError` before anything runs, `StepError` for a step that failed, `GateError` for a gate that
    said no, `InputError` for an input that is not there, `StoreError` when the disk refuses.
    """
    began = time.perf_counter()
    progress = progress or Silence()
    loaded = load_project(project)
    ready = loaded.ready(pipeline, overrides, to)
    for name in force:
        loaded.config.pipeline(pipeline).step(name)
    with project_lock(loaded.own, loaded.root, progress.tell):
        clean_work(loaded.own / "work", progress.tell)
        session = Session.open(loaded, ready)
        result = _Run(session, frozenset(force), tracking_uri, progress, began).execute(
            jobs or min(MAX_JOBS, os.cpu_count() or 1)
        )
    if check and result.error is not None:
        raise result.error
    return result


class _Run:
    """One run's state: what its steps left so far."""

    def __init__(
        self, session: Session, force: frozenset[str], uri: str | None, progress: Progress, began: float
    ) -> None:
        self.session = session
        self.project = session.project
        self.force = force
        self.progress = progress
        self.began = began
        self.run_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{os.urandom(3).hex()}"
        self.uri = tracking_uri(self.project, uri)
        self.logs = self.project.own / "runs" / self.run_id
        self._recording: Recording | None = None
        self._checked = False
        self.outputs: dict[str, Output] = {}
        self.results: list[StepResult] = []
        self.keys: dict[str, str] = {}
        self.steps = {ready.name: ready for ready in session.pipeline.steps}
        self.interrupts = Interrupts()

    @property
    def recording(self) -> Recording:
        """Made by the first step that works: a run without work leaves no trace."""
        if self._recording is None:
            from coremlops.pipeline.recording import Recording

            self._recording = Recording(
                self.project, self.session.pipeline, self.run_id, self.uri, self.progress.tell
            )
        return self._recording

    def execute(self, jobs: int) -> RunResult:
        error: CoremlopsError | None = None
        status = "KILLED"
        try:
            with self.interrupts.raised():
                self._steps(jobs)
            status = "FINISHED"
        except CoremlopsError as caught:
            error, status = caught, "FAILED"
        finally:
            if self._recording is not None:
                self._recording.run_finished(status, {name: out.path for name, out in self.outputs.items()})
            self.session.remember_last(self.keys)
            self.session.code.save()
        order = list(self.steps)
        results = tuple(sorted(self.results, key=lambda step: order.index(step.name)))
        result = RunResult(self.run_id, time.perf_counter() - self.began, results, error, self.logs)
        if result.work:
            write_json(self.logs / "run.json", result.as_json())
        return result

    def _steps(self, jobs: int) -> None:
        """Start each step when what it needs is there, at most `jobs` at once.

        Everything but the steps' processes happens in this thread.
        """
        waiting = dict(self.steps)
        doing: dict[str, Generator[None]] = {}
        failure: CoremlopsError | None = None
        try:
            while doing or (waiting and failure is None):
                for name, ready in list(waiting.items()):
                    if failure is None and len(doing) < jobs and self._needs(ready) <= self.outputs.keys():
                        del waiting[name]
                        doing[name] = self._step(ready)
                ended = False
                for name, step in list(doing.items()):
                    try:
                        next(step)
                    except StopIteration:
                        ended = True
                        del doing[name]
                    except CoremlopsError as error:
                        ended = True
                        del doing[name]
                        failure = failure or error
                if not ended:
                    time.sleep(_POLL_S)
        finally:
            with self.interrupts.held():
                for step in doing.values():
                    step.close()
        if failure is not None:
            raise failure

    def _needs(self, ready: ReadyStep) -> set[str]:
        """The steps of this run that must be done before a step can start.

        An effect waits for all that is listed before it: what fails must leave the world as it was.
        """
        if ready.effect:
            return set(itertools.takewhile(lambda name: name != ready.name, self.steps))
        sources = {source.step for source in ready.step.inputs if source.step is not None}
        return (sources | set(ready.step.after)) & self.steps.keys()

    def _step(self, ready: ReadyStep) -> Generator[None]:
        """One step from its inputs to its result."""
        index, total = list(self.steps).index(ready.name), len(self.steps)
        began = time.perf_counter()
        try:
            inputs = self.session.inputs(ready, self.outputs)
            do = self._effect if ready.effect else self._pure
            try:
                status, key, output = yield from do(ready, inputs, index)
            except OSError as error:
                raise StoreError(f"step {ready.name}: {error}", hint=f"see {self._log(ready)}") from error
        except CoremlopsError as error:
            # What failed may be a later step's check, before this one began.
            later = self.steps.keys() - self.outputs.keys()
            name = error.step if isinstance(error, StepError) and error.step in later else ready.name
            failed = StepResult(name, "failed", time.perf_counter() - began, "", None)
            self.results.append(failed)
            self.progress.finished(failed, list(self.steps).index(name), total)
            raise
        self.outputs[ready.name] = output
        result = StepResult(ready.name, status, time.perf_counter() - began, key, output.path)
        self.results.append(result)
        self.progress.finished(result, index, total)

    # pure steps

    def _pure(self, ready: ReadyStep, inputs: Mapping[str, Output], index: int) -> _Doing:
        ingredients = self._ingredients(ready, inputs)
        key = ingredients.key()
        found = None if ready.name in self.force else self.session.store.find(key)
        if found is not None:
            self.keys[ready.name] = key
            return "cached", key, found[1]
        output = yield from self._done(ready, inputs, index, ingredients)
        return "ran", key, output

    def _ingredients(self, ready: ReadyStep, inputs: Mapping[str, Output]) -> Ingredients:
        return self.session.ingredients(ready, {name: item.tree.digest for name, item in inputs.items()})

    def _because(
        self, ready: ReadyStep, ingredients: Ingredients, inputs: Mapping[str, Output]
    ) -> tuple[str, ...]:
        """Why a step runs, and its listings kept so that the next answer can be as precise."""
        from coremlops.pipeline.difference import differences

        store = self.session.store
        _, last = self.session.last(ready.name)
        trees = {item.tree.digest: item.tree for item in inputs.values()}
        trees |= {tree.digest: tree for tree in self.session.code.trees(ready).values()}
        for tree in trees.values():
            if not (store.folder / "manifests" / f"{tree.digest}.json").exists():
                store.remember(tree)
        if last is None:
            return ("first run",)
        lines = differences(last.ingredients, ingredients, ready, store, {})
        if lines:
            return tuple(lines)
        return ("forced",) if ready.name in self.force else ("its output was no longer in the store",)

    def _record(
        self,
        ready: ReadyStep,
        output: str,
        elapsed_s: float,
        because: tuple[str, ...],
        ingredients: Ingredients,
    ) -> Record:
        finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        return Record(ready.name, output, self.run_id, finished, round(elapsed_s, 4), because, ingredients)

    def _check_output(self, ready: ReadyStep, out: Path) -> None:
        from coremlops.pipeline.findings import read_dataset, read_metrics
        from coremlops.pipeline.process import tail

        if not out.is_dir() or not any(out.iterdir()):
            raise StepError(
                f"step {ready.name} ended well and left nothing in downstream",
                step=ready.name,
                log_tail=tail(self._log(ready)),
                hint="a step must write its result into the folder that `downstream` names",
            )
        read_metrics(out, ready.name)
        read_dataset(out, ready.name)

    def _check_inputs(self, ready: ReadyStep, inputs: Mapping[str, Output]) -> None:
        """An output made while its input changed belongs to neither content."""
        for source in ready.step.inputs:
            if source.step is not None:
                continue
            now = self.session.input(ready, source, self.outputs)
            if now.tree.digest != inputs[source.name].tree.digest:
                raise InputError(
                    f"{source.source} changed while step {ready.name} was reading it",
                    hint="run again when it is complete",
                )

    def _code_changed(self, ready: ReadyStep, ingredients: Ingredients) -> bool:
        fresh = Session.open(self.project, self.session.pipeline).code.trees(ready)
        return {name: tree.digest for name, tree in fresh.items()} != dict(ingredients.code)

    # effects

    def _effect(self, ready: ReadyStep, inputs: Mapping[str, Output], index: int) -> _Doing:
        if ready.name not in self.force:
            receipt = self.session.present(ready, inputs, self.uri)
            if receipt is not None:
                return "present", "", self._present(ready, receipt)
        output = yield from self._done(ready, inputs, index, self._ingredients(ready, inputs))
        return "ran", "", output

    def _check_effect(self, ready: ReadyStep, out: Path) -> None:
        from coremlops.pipeline.findings import read_metrics, read_object

        if read_object(out, "receipt.json", ready.name) is None:
            write_json(out / "receipt.json", {"action": "done"})
        read_metrics(out, ready.name)

    def _present(self, ready: ReadyStep, receipt: Mapping[str, object]) -> Output:
        """The folder of an effect that is there already; made anew when it tells of another result."""
        output = self.session.effect_output(ready.name)
        old = read_json(output.path / "receipt.json") if output else None
        if output is not None and isinstance(old, dict) and _same_receipt(old, receipt):
            return output
        work = self._work(ready)
        write_json(work / "out" / "receipt.json", {"action": "present", **receipt})
        try:
            return self._replace_effect(ready, work)
        finally:
            _remove_quietly(work)

    def _replace_effect(self, ready: ReadyStep, work: Path) -> Output:
        target = self.project.own / "effects" / ready.name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.exists():
                target.rename(work / "old")
            (work / "out").rename(target)
        except OSError as error:
            raise cannot_write(target, error) from error
        return Output(target, self.session.trees.tree(target))

    # what both share

    def _done(
        self, ready: ReadyStep, inputs: Mapping[str, Output], index: int, ingredients: Ingredients
    ) -> Generator[None, None, Output]:
        """Run the step's process, and keep and record what it made."""
        self._check_effects()
        key = ingredients.key()
        because = self._because(ready, ingredients, inputs)
        began = time.perf_counter()
        self.progress.started(ready.name, index, len(self.steps), self._log(ready))
        self.recording.step_started(ready, {"coremlops.step": ready.name, "coremlops.key": key})
        work = self._work(ready)
        output: Output | None = None
        status = "KILLED"
        try:
            try:
                yield from self._process(ready, inputs, work)
                if ready.effect:
                    self._check_effect(ready, work / "out")
                else:
                    self._check_output(ready, work / "out")
                    self._check_inputs(ready, inputs)
            except CoremlopsError:
                self._keep(ready, work)
                raise
            if ready.effect:
                output = self._replace_effect(ready, work)
            else:
                output = self.session.store.commit(work / "out", ready.name)
            if not ready.effect and self._code_changed(ready, ingredients):
                self.progress.tell(
                    f"the code of {ready.name} changed while it ran: its output is used now, and not kept"
                )
            else:
                elapsed_s = time.perf_counter() - began
                self.session.store.write_record(
                    key, self._record(ready, output.tree.digest, elapsed_s, because, ingredients)
                )
                self.keys[ready.name] = key
            status = "FINISHED"
        except CoremlopsError:
            status = "FAILED"
            raise
        finally:
            self.recording.step_finished(ready, status, output.path if output else self._kept(ready))
            _remove_quietly(work)
        return output

    def _check_effects(self) -> None:
        """Before the first step that works: what would fail at the end in any case fails now, by its name.

        A run in which nothing works asks nothing.
        """
        if self._checked:
            return
        for ready in self.steps.values():
            if ready.effect:
                try:
                    self.session.check(ready)
                except CoremlopsError as error:
                    text = f"step {ready.name} cannot start: {error.message}"
                    raise StepError(text, step=ready.name, hint=error.hint) from error
        self._checked = True

    def _process(self, ready: ReadyStep, inputs: Mapping[str, Output], work: Path) -> Generator[None]:
        from coremlops.pipeline.findings import failed_gates
        from coremlops.pipeline.process import Job, tail

        out = work / "out"
        values = ready.values(self.project.root)
        values |= {name: str(item.path) for name, item in inputs.items()}
        values[DOWNSTREAM] = str(out)
        log = self._log(ready)
        command, environment = ready.mlproject.render(values), self._environment(ready)
        job = None
        try:
            with self.interrupts.held():  # between the start and the claim nobody would know the process
                job = Job(command, folder=ready.folder, environment=environment, log=log)
                claim(work, job.pid)
            while not job.ended():
                yield
            status = job.finish()
        except BaseException:
            if job is not None:
                with self.interrupts.held():
                    job.cancel()
            raise
        if status == 0:
            return
        lines = tail(log)
        if status == GATE_EXIT:
            raise GateError(
                f"step {ready.name}: a gate said no", failed_gates(out) or lines, hint=f"see {log}"
            )
        how = f"exit status {status}" if status < 128 else f"signal {status - 128} (exit status {status})"
        raise StepError(
            f"step {ready.name} failed with {how}", step=ready.name, log_tail=lines, hint=f"see {log}"
        )

    def _environment(self, ready: ReadyStep) -> dict[str, str]:
        from coremlops.pipeline.process import step_environment

        made_by = [self.steps[name] for name in self._upstream(ready.name)]
        environment = step_environment(
            self.project.own,
            {
                "COREMLOPS_PROJECT": str(self.project.root),
                "COREMLOPS_RUN_ID": self.run_id,
                "COREMLOPS_STEP": ready.name,
                "COREMLOPS_CODE_DIGEST": code_digest(self.session.code.trees(step) for step in made_by),
                "COREMLOPS_DATA_DIGEST": self._data_digest(ready),
                "MLFLOW_TRACKING_URI": self.uri,
                "MLFLOW_EXPERIMENT_NAME": experiment_name(self.project),
            },
        )
        # These name `mlflow run`'s own run, which the sender adopts; a step is not that run.
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
            environment.pop(name, None)
        # Keys that publish are no business of training code, which may log or keep what it finds.
        if not ready.effect:
            environment = {
                name: value
                for name, value in environment.items()
                if not name.startswith(("COREMLOPS_KEY_", "COREMLOPS_PIN"))
            }
        return environment

    def _upstream(self, name: str) -> list[str]:
        """A step and all it takes input from, nearest first."""
        found = [name]
        for current in found:
            sources = [source.step for source in self.steps[current].step.inputs]
            found += [step for step in dict.fromkeys(sources) if step is not None and step not in found]
        return found

    def _data_digest(self, ready: ReadyStep) -> str:
        from coremlops.pipeline.findings import read_dataset

        for name in self._upstream(ready.name)[1:]:
            dataset = read_dataset(self.outputs[name].path, name)
            if dataset is not None:
                return str(dataset["digest"])
        return ""

    def _log(self, ready: ReadyStep) -> Path:
        return self.logs / f"{ready.name}.log"

    def _work(self, ready: ReadyStep) -> Path:
        work = self.project.own / "work" / f"{self.run_id}-{ready.name}"
        try:
            (work / "out").mkdir(parents=True)
        except OSError as error:
            raise cannot_write(work, error) from error
        return work

    def _kept(self, ready: ReadyStep) -> Path:
        return self.logs / f"{ready.name}.output"

    def _keep(self, ready: ReadyStep, work: Path) -> None:
        """Leave what a failed step wrote beside its log: a report that said no is worth reading."""
        if any((work / "out").glob("*")):
            try:
                (work / "out").rename(self._kept(ready))
            except OSError as error:
                self.progress.tell(f"the output of {ready.name} could not be kept: {error}")


def _same_receipt(old: Mapping[str, object], new: Mapping[str, object]) -> bool:
    """Whether two receipts can tell of one result: what both name is equal, but for the action."""
    return all(old[name] == new[name] for name in old.keys() & new.keys() if name != "action")


def _remove_quietly(work: Path) -> None:
    with contextlib.suppress(OSError):  # the next run cleans up
        remove(work)
