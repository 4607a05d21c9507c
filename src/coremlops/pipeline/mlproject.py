"""An `MLproject` file: the parameters of a step with their types and defaults, and its command.

The format is MLflow's (mlflow.org, "MLflow Projects"), and what runs here runs with `mlflow run` alike:
values are put into the command template with shell quoting, nothing else is interpreted.
"""

from __future__ import annotations

import shlex
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coremlops.errors import ConfigError
from coremlops.pipeline import strict

FILE = "MLproject"
TYPES = ("string", "float", "int", "path", "uri")
_KEYS = ("name", "entry_points", "python_env", "conda_env", "docker_env")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of the entry point; `default` is None when a value must be given."""

    name: str
    type: str
    default: str | None

    def check(self, value: str, where: str) -> str:
        """`value`, if it is of the parameter's type. Raises `ConfigError`."""
        try:
            if self.type == "int":
                int(value)
            elif self.type == "float":
                float(value)
        except ValueError:
            raise ConfigError(
                f"{where}: parameter {self.name} is of type {self.type}, got {value!r}"
            ) from None
        if self.type == "uri" and not (value[:1].isalpha() and value.partition(":")[2]):
            raise ConfigError(f"{where}: parameter {self.name} is a URI, got {value!r}")
        if "\0" in value:
            raise ConfigError(f"{where}: parameter {self.name} holds a NUL character")
        return value


@dataclass(frozen=True, slots=True)
class MLProject:
    """The entry point `main` of one `MLproject`.

    `environment`: which kind of environment it declares to which file, `{"python_env": "python_env.yaml"}`.
    """

    where: str
    parameters: Mapping[str, Parameter]
    command: str
    environment: Mapping[str, str]

    def render(self, values: Mapping[str, str]) -> str:
        """The shell command with every value quoted."""
        return self.command.format(**{name: shlex.quote(value) for name, value in values.items()})

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that the command itself names (`python -m NAME`)."""
        if "-m" not in self.command:
            return ()
        import re

        return tuple(re.findall(r"python[0-9.]*\s+(?:-[A-Za-z]+\s+)*?-m\s+([A-Za-z_][\w.]*)", self.command))


def parse_mlproject(document: Mapping[str, Any], where: str) -> MLProject:
    """Check a parsed `MLproject`. Raises `ConfigError` that says where, what, expected and got."""
    strict.known_keys(document, _KEYS, where)
    entry_points = strict.mapping(document.get("entry_points"), f"{where}: entry_points")
    if "main" not in entry_points:
        raise ConfigError(f"{where} has no entry point `main`", hint=strict.nearest("main", entry_points))
    at = f"{where}: entry_points.main"
    main = strict.mapping(entry_points["main"], at)
    strict.known_keys(main, ("parameters", "command"), at)
    table = strict.mapping(main.get("parameters"), f"{at}.parameters")
    parameters = {name: _parameter(name, value, f"{at}.parameters") for name, value in table.items()}
    command = strict.text(main.get("command"), f"{at}.command")
    _check_template(command, parameters, f"{at}.command")
    return MLProject(where, parameters, command, _environment(document, where))


def _parameter(name: str, value: Any, where: str) -> Parameter:
    if not (name.isidentifier() and name.isascii()):
        raise ConfigError(f"{where}: {name!r} is no name of a parameter; expected letters, digits and _")
    where = f"{where}.{name}"
    if isinstance(value, str):
        value = {"type": value}
    table = strict.mapping(value, where)
    strict.known_keys(table, ("type", "default"), where)
    kind = strict.text(table.get("type", "string"), f"{where}.type")
    if kind not in TYPES:
        raise ConfigError(f"{where}: unknown type {kind!r}", hint=strict.nearest(kind, TYPES))
    default = table.get("default")
    parameter = Parameter(name, kind, None if default is None else strict.scalar(default, where))
    if parameter.default is not None:
        parameter.check(parameter.default, where)
    return parameter


def _check_template(command: str, parameters: Mapping[str, Parameter], where: str) -> None:
    try:
        fields = [field for field in string.Formatter().parse(command) if field[1] is not None]
    except ValueError as error:
        raise ConfigError(
            f"{where}: {error}", hint="write a brace that is no parameter as {{ or }}"
        ) from error
    for _, name, spec, conversion in fields:
        if name not in parameters or spec or conversion:
            raise ConfigError(
                f"{where}: {{{name}}} names no parameter", hint=strict.nearest(str(name), parameters)
            )


def _environment(document: Mapping[str, Any], where: str) -> dict[str, str]:
    declared = [key for key in ("python_env", "conda_env", "docker_env") if document.get(key)]
    if len(declared) > 1:
        raise ConfigError(f"{where}: expected one environment, got {' and '.join(declared)}")
    if "docker_env" in declared:
        raise ConfigError(
            f"{where}: docker_env is not supported; steps run with the Python that runs coremlops",
            hint="take docker_env out, or run this step with `mlflow run`",
        )
    return {key: strict.text(document[key], f"{where}: {key}") for key in declared}
