"""A project on disk: its configuration, and each step with its folder, parameters and component."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from coremlops.errors import ConfigError
from coremlops.pipeline import strict
from coremlops.pipeline.components import COMPONENTS, Component
from coremlops.pipeline.config import FILE, Config, Step, parse_config
from coremlops.pipeline.mlproject import FILE as MLPROJECT
from coremlops.pipeline.mlproject import MLProject, Parameter, parse_mlproject
from coremlops.pipeline.yamlfile import YamlCache

DOWNSTREAM = "downstream"


class ReadyStep(NamedTuple):
    """A step with all that running it takes, but its inputs.

    `params`: its own parameters as given or by default, unresolved (a path is as it was written).
    """

    step: Step
    folder: Path
    mlproject: MLProject
    params: Mapping[str, str]
    component: Component | None

    @property
    def name(self) -> str:
        return self.step.name

    @property
    def effect(self) -> bool:
        """Whether it is reconciled rather than cached."""
        return self.component is not None and self.component.effect

    def values(self, root: Path) -> dict[str, str]:
        """Its own parameters as its command gets them: paths absolute, against the project's root."""
        types = self.mlproject.parameters
        return {
            name: str(root / value) if types[name].type == "path" and value else value
            for name, value in self.params.items()
        }


class ReadyPipeline(NamedTuple):
    """Steps in an order in which they can run."""

    name: str
    steps: tuple[ReadyStep, ...]


@dataclass(frozen=True, slots=True)
class Project:
    """A folder with a `coremlops.yaml`. `root` is absolute."""

    root: Path
    config: Config
    yaml: YamlCache

    @property
    def own(self) -> Path:
        """The folder that is ours."""
        return self.root / ".coremlops"

    def ready(
        self, pipeline: str = "main", overrides: Mapping[str, str] | None = None, to: str | None = None
    ) -> ReadyPipeline:
        """The steps of a pipeline with their `MLproject` read and parameters settled.

        `overrides`: `{"epochs": "3"}` for every step that has the parameter, `{"train.epochs": "3"}` for one;
        an empty number leaves what the project says. `to`: only this step and what it needs.

        Raises `ConfigError`.
        """
        chosen = self.config.pipeline(pipeline)
        steps = [self._ready(step) for step in chosen.steps]
        self.yaml.save()
        if overrides:
            steps = _override(steps, overrides)
        for ready in steps:
            _check_complete(ready)
        if to is not None:
            kept = {step.name for step in chosen.up_to(to).steps}
            steps = [step for step in steps if step.name in kept]
        return ReadyPipeline(pipeline, tuple(steps))

    def _ready(self, step: Step) -> ReadyStep:
        component = COMPONENTS[step.uses] if step.uses is not None else None
        if component is not None:
            folder, where = component.folder, f"{component.name}/{MLPROJECT}"
        else:
            folder = self.root / str(step.path)
            where = f"{step.path}/{MLPROJECT}"
            if not folder.is_dir():
                raise ConfigError(f"step {step.name}: there is no folder {step.path}")
        mlproject = parse_mlproject(self.yaml.read(folder / MLPROJECT, where), where)
        parameters = mlproject.parameters
        inputs = {source.name for source in step.inputs}
        for name in (*inputs, DOWNSTREAM):
            if name not in parameters:
                raise ConfigError(
                    f"{where} declares no parameter {name!r}, which step {step.name} fills",
                    hint=strict.nearest(name, parameters),
                )
            if parameters[name].type != "path":
                raise ConfigError(
                    f"{where}: parameter {name} takes a folder, so its type must be path, "
                    f"got {parameters[name].type}"
                )
        own = {name: item for name, item in parameters.items() if name not in inputs and name != DOWNSTREAM}
        at = f"{FILE}: step {step.name}"
        for name, value in step.params.items():
            if name not in own:
                raise ConfigError(f"{at} has no parameter {name!r}", hint=strict.nearest(name, own))
            own[name].check(value, at)
        values = {name: step.params.get(name, item.default) for name, item in own.items()}
        params = {name: value for name, value in values.items() if value is not None}
        if component is not None and component.name == "lint" and "suppress" not in step.params:
            params["suppress"] = json.dumps([entry.to_json() for entry in self.config.suppressions])
        return ReadyStep(step, folder, mlproject, params, component)


def find_project(start: Path) -> Path:
    """The nearest folder at or above `start` with a `coremlops.yaml`. Raises `ConfigError`."""
    start = start.absolute()
    for folder in (start, *start.parents):
        if (folder / FILE).is_file():
            return folder
    raise ConfigError(f"no {FILE} in {start} or above", hint="`coremlops init NAME` makes a project")


def load_project(path: Path) -> Project:
    """Read the project in the folder `path`. Raises `ConfigError`."""
    root = path.resolve()
    yaml = YamlCache(root / ".coremlops" / "cache" / "yaml.json")
    return Project(root, parse_config(yaml.read(root / FILE, FILE)), yaml)


def _override(steps: list[ReadyStep], overrides: Mapping[str, str]) -> list[ReadyStep]:
    known = [f"{ready.name}.{name}" for ready in steps for name in _settable(ready)]
    known += [name for ready in steps for name in _settable(ready)]
    changed = {ready.name: dict(ready.params) for ready in steps}
    for key, value in overrides.items():
        if key not in known:
            raise ConfigError(f"-P {key}: no step has this parameter", hint=strict.nearest(key, set(known)))
        step, dot, name = key.partition(".")
        for ready in steps:
            if dot and ready.name != step:
                continue
            parameter = _settable(ready).get(name if dot else key)
            # `mlflow run .` has to give every parameter: an empty number is one that nobody gave.
            if parameter is not None and (value or parameter.type != "float"):
                changed[ready.name][parameter.name] = parameter.check(value, f"-P {key}")
    return [
        ReadyStep(ready.step, ready.folder, ready.mlproject, changed[ready.name], ready.component)
        for ready in steps
    ]


def _settable(ready: ReadyStep) -> dict[str, Parameter]:
    inputs = {source.name for source in ready.step.inputs}
    return {
        name: item
        for name, item in ready.mlproject.parameters.items()
        if name not in inputs and name != DOWNSTREAM
    }


def _check_complete(ready: ReadyStep) -> None:
    for name, parameter in _settable(ready).items():
        if name not in ready.params:
            what = "input" if parameter.type == "path" else "parameter"
            raise ConfigError(
                f"step {ready.name}: no value for {what} {name!r}, which {ready.mlproject.where} needs",
                hint=f"give it in {FILE} under {ready.name}"
                + (f".inputs, or with -P {ready.name}.{name}=..." if what == "input" else ".params"),
            )
