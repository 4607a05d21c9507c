"""`coremlops.yaml`: pipelines of steps, parsed strictly into values.

    project: faces
    code: [shared]
    tracking: {uri: "sqlite:///mlflow.db", experiment: faces}
    pipelines:
      main:
        steps:
          prepare: {path: prepare, inputs: {photos: ./photos}}
          train:   {path: train,   inputs: {upstream: prepare}, params: {epochs: 20}, after: [other]}
          convert: {uses: convert, inputs: {upstream: train}}
    lint:
      suppress:
        - {rule: ane-float32, op: "softmax*", reason: "kept in float32 on purpose"}

An input is a step, a path inside a step's output (`prepare/test`), or a path of the project that begins
with `./`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from coremlops.errors import ConfigError, UsageError
from coremlops.pipeline import strict
from coremlops.pipeline.components import COMPONENTS

if TYPE_CHECKING:
    from coremlops.lint import Suppression

FILE = "coremlops.yaml"
MAX_STEPS = 200


@dataclass(frozen=True, slots=True)
class Input:
    """Where an input comes from: a step (`step`, and `path` inside its output) or the project (`path`).

    `path` is POSIX, relative, and empty for the whole output.
    """

    name: str
    step: str | None
    path: str

    @property
    def source(self) -> str:
        """As it is written in the file."""
        if self.step is None:
            return f"./{self.path}"
        return f"{self.step}/{self.path}" if self.path else self.step


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a pipeline: `path` (a folder of the project) or `uses` (a built-in component)."""

    name: str
    path: str | None
    uses: str | None
    inputs: tuple[Input, ...]
    params: Mapping[str, str]
    after: tuple[str, ...]

    @property
    def upstream(self) -> tuple[str, ...]:
        """The steps that must be done before this one, each once."""
        of_inputs = [source.step for source in self.inputs if source.step is not None]
        return tuple(dict.fromkeys([*of_inputs, *self.after]))


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Steps in an order in which they can run."""

    name: str
    steps: tuple[Step, ...]

    def step(self, name: str) -> Step:
        """The step `name`. Raises `ConfigError` naming the nearest."""
        for step in self.steps:
            if step.name == name:
                return step
        raise ConfigError(
            f"pipeline {self.name} has no step {name!r}",
            hint=strict.nearest(name, [step.name for step in self.steps]),
        )

    def up_to(self, name: str) -> Pipeline:
        """The part of the pipeline that `name` needs, itself included."""
        needed = {self.step(name).name}
        for step in reversed(self.steps):
            if step.name in needed:
                needed.update(step.upstream)
        return Pipeline(self.name, tuple(step for step in self.steps if step.name in needed))


@dataclass(frozen=True, slots=True)
class Config:
    """A whole `coremlops.yaml`. Empty `tracking_uri` and `experiment` mean the defaults.

    `suppressions`: of `coremlops lint`.
    """

    project: str
    code: tuple[str, ...]
    tracking_uri: str
    experiment: str
    pipelines: Mapping[str, Pipeline]
    suppressions: tuple[Suppression, ...] = ()

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline `name`. Raises `ConfigError` naming the nearest."""
        if name not in self.pipelines:
            raise ConfigError(f"{FILE} has no pipeline {name!r}", hint=strict.nearest(name, self.pipelines))
        return self.pipelines[name]


def parse_config(document: Mapping[str, Any]) -> Config:
    """Check a parsed `coremlops.yaml`. Raises `ConfigError` that says where, what, expected and got."""
    strict.known_keys(document, ("project", "code", "tracking", "pipelines", "lint"), FILE)
    if "project" not in document:
        raise ConfigError(f"{FILE}: `project` is missing", hint="begin the file with `project: NAME`")
    project = strict.name(strict.text(document["project"], f"{FILE}: project"), f"{FILE}: project")
    code = tuple(
        relative_path(path, f"{FILE}: code") for path in strict.texts(document.get("code"), f"{FILE}: code")
    )
    tracking = strict.mapping(document.get("tracking"), f"{FILE}: tracking")
    strict.known_keys(tracking, ("uri", "experiment"), f"{FILE}: tracking")
    pipelines = strict.mapping(document.get("pipelines"), f"{FILE}: pipelines")
    if not pipelines:
        raise ConfigError(f"{FILE}: `pipelines` is missing", hint="add `pipelines: {main: {steps: ...}}`")
    return Config(
        project=project,
        code=code,
        tracking_uri=strict.text(tracking.get("uri", ""), f"{FILE}: tracking.uri"),
        experiment=strict.text(tracking.get("experiment", ""), f"{FILE}: tracking.experiment"),
        pipelines={name: _pipeline(name, value) for name, value in pipelines.items()},
        suppressions=_suppressions(document.get("lint")),
    )


def _suppressions(value: Any) -> tuple[Suppression, ...]:
    """What stands under `lint`. Whether there is such a rule, `lint` itself says: it knows them."""
    table = strict.mapping(value, f"{FILE}: lint")
    strict.known_keys(table, ("suppress",), f"{FILE}: lint")
    if not table.get("suppress"):
        return ()
    from coremlops.lint.suppression import parse_suppressions

    try:
        return parse_suppressions(table["suppress"], f"{FILE}: lint.suppress")
    except UsageError as error:
        raise ConfigError(error.message, hint=error.hint) from None


def relative_path(value: str, where: str) -> str:
    """A POSIX path that stays inside the project, normalised."""
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if value.startswith("/") or ".." in parts or "\0" in value or "\\" in value or not parts:
        raise ConfigError(f"{where}: {value!r} is no path inside the project")
    if parts[0] == ".coremlops":
        raise ConfigError(f"{where}: {value!r} is ours; a step cannot live in or read from .coremlops/")
    return "/".join(parts)


def _pipeline(name: str, value: Any) -> Pipeline:
    where = f"{FILE}: pipelines.{strict.name(name, f'{FILE}: pipelines')}"
    table = strict.mapping(value, where)
    strict.known_keys(table, ("steps",), where)
    steps = strict.mapping(table.get("steps"), f"{where}.steps")
    if not steps:
        raise ConfigError(f"{where} has no steps")
    if len(steps) > MAX_STEPS:
        raise ConfigError(f"{where} has {len(steps)} steps; at most {MAX_STEPS} are accepted")
    parsed = {key: _step(key, item, f"{where}.steps", tuple(steps)) for key, item in steps.items()}
    return Pipeline(name, _ordered(parsed, where))


def _step(name: str, value: Any, where: str, steps: tuple[str, ...]) -> Step:
    where = f"{where}.{strict.name(name, where)}"
    table = strict.mapping(value, where)
    strict.known_keys(table, ("path", "uses", "inputs", "params", "after"), where)
    if ("path" in table) == ("uses" in table):
        raise ConfigError(
            f"{where}: expected one of `path` and `uses`, got {'both' if 'path' in table else 'neither'}"
        )
    path = uses = None
    if "path" in table:
        path = relative_path(strict.text(table["path"], f"{where}.path"), f"{where}.path")
    else:
        uses = strict.text(table["uses"], f"{where}.uses")
        if uses not in COMPONENTS:
            raise ConfigError(
                f"{where}.uses: no built-in component {uses!r}", hint=strict.nearest(uses, COMPONENTS)
            )
    inputs = strict.mapping(table.get("inputs"), f"{where}.inputs")
    params = strict.mapping(table.get("params"), f"{where}.params")
    after = strict.texts(table.get("after"), f"{where}.after")
    for other in after:
        if other not in steps:
            raise ConfigError(f"{where}.after: no step {other!r}", hint=strict.nearest(other, steps))
    return Step(
        name=name,
        path=path,
        uses=uses,
        inputs=tuple(_input(key, item, f"{where}.inputs.{key}", steps) for key, item in inputs.items()),
        params={key: strict.scalar(item, f"{where}.params.{key}") for key, item in params.items()},
        after=after,
    )


def _input(name: str, value: Any, where: str, steps: tuple[str, ...]) -> Input:
    source = strict.text(value, where)
    if source.startswith("./"):
        return Input(name, None, relative_path(source, where))
    step, _, path = source.partition("/")
    if step not in steps:
        raise ConfigError(
            f"{where}: {source!r} names no step", hint=f"{strict.nearest(step, steps)} A path begins with ./"
        )
    return Input(name, step, relative_path(path, where) if path else "")


def _ordered(steps: Mapping[str, Step], where: str) -> tuple[Step, ...]:
    """The steps with each after what it needs, otherwise as written. Raises `ConfigError` on a cycle."""
    done: dict[str, Step] = {}
    waiting = dict(steps)
    while waiting:
        ready = next((s for s in waiting.values() if all(up in done for up in s.upstream)), None)
        if ready is None:
            raise ConfigError(
                f"{where}: the steps wait for each other in a circle: {' -> '.join(_cycle(waiting))}",
                hint="A -> B reads: A needs B; take one of these inputs or `after` entries out",
            )
        done[ready.name] = waiting.pop(ready.name)
    return tuple(done.values())


def _cycle(waiting: Mapping[str, Step]) -> list[str]:
    """One circle among steps of which each waits for another of them."""
    name = next(iter(waiting))
    path: list[str] = []
    while name not in path:
        path.append(name)
        name = next(up for up in waiting[name].upstream if up in waiting)
    return [*path[path.index(name) :], name]
