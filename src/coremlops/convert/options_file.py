"""Options of a conversion from YAML, JSON or flags: the fields of `ConvertOptions`, by their names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from coremlops.convert.interface import Input, Output
from coremlops.convert.options import ConvertOptions
from coremlops.convert.words import check_keys, short
from coremlops.errors import InputError, UsageError
from coremlops.source import parse_labels

MAX_BYTES = 4 << 20
_WORDS = (
    "target",
    "precision",
    "kind",
    "capture",
    "label_name",
    "default_function",
    "author",
    "description",
    "version",
    "license",
)
_LISTS = ("states", "without_repairs")
KEYS = tuple(item.name for item in fields(ConvertOptions) if item.name not in ("card", "provenance"))
_PATHS = ("labels", "keep_float32", "weights")


def read_options(path: Path) -> dict[str, Any]:
    """What a file of options says, with names of files beside it made whole. Raises UsageError."""
    value = _document(path, "options")
    if not isinstance(value, dict):
        raise UsageError(f"{path}: keys such as target: iOS17 expected, got {short(value)}")
    check_keys(value, KEYS, str(path))
    for key in _PATHS:
        if isinstance(value.get(key), str):
            value[key] = str(path.parent / value[key])
    functions = value.get("functions")
    if isinstance(functions, dict):
        value["functions"] = {
            name: str(path.parent / source) if (path.parent / str(source)).exists() else source
            for name, source in functions.items()
        }
    return value


def parse_options(value: Mapping[str, Any], where: str = "options", **more: Any) -> ConvertOptions:
    """The options that a mapping says. `more`: fields that no file has, `provenance` and `card`.

    labels, keep_float32: lists, or the name of a file. Raises UsageError; unknown keys name what is near.
    """
    check_keys(value, KEYS, where)
    found: dict[str, Any] = {}
    for key in _WORDS:
        if key in value:
            found[key] = _word(value[key], f"{where}: {key}")
    for key in _LISTS:
        if key in value:
            found[key] = tuple(_words(value[key], f"{where}: {key}"))
    if "inputs" in value:
        found["inputs"] = tuple(
            Input.of(item, f"{where}: inputs") for item in _list(value["inputs"], f"{where}: inputs")
        )
    if "outputs" in value:
        found["outputs"] = tuple(
            Output.of(item, f"{where}: outputs") for item in _list(value["outputs"], f"{where}: outputs")
        )
    if "keep_float32" in value:
        found["keep_float32"] = _keep(value["keep_float32"], f"{where}: keep_float32")
    if "labels" in value:
        found["labels"] = _labels(value["labels"], f"{where}: labels")
    if "weights" in value:
        found["weights"] = Path(_word(value["weights"], f"{where}: weights"))
    for key in ("metadata", "functions"):
        if key in value:
            found[key] = _texts(value[key], f"{where}: {key}")
    return ConvertOptions(**found, **more)


def _document(path: Path, what: str) -> Any:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(
                f"{path}: at most {MAX_BYTES} bytes of {what} expected, got {path.stat().st_size}"
            )
        text = path.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: text in UTF-8 expected") from None
    try:
        return json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path}: {what} as YAML or JSON expected: {' '.join(str(error).split())}") from None


def _keep(value: object, where: str) -> tuple[str, ...]:
    """A list, or a recipe: a file with `{"format": 1, "keep_float32": [...]}`, as `verify --fix` reports."""
    if isinstance(value, str):
        path = Path(value)
        said = _document(path, "a recipe")
        if not isinstance(said, dict) or "keep_float32" not in said:
            raise UsageError(f"{path}: a recipe is {{format: 1, keep_float32: [...]}}, got {short(said)}")
        check_keys(said, ("format", "keep_float32"), str(path))
        if said.get("format", 1) != 1:
            raise UsageError(f"{path}: format 1 expected, got {short(said['format'])}")
        value = said["keep_float32"]
    return tuple(_words(value, where))


def _labels(value: object, where: str) -> tuple[str, ...]:
    """A list, or a file with one label a line, or a JSON list."""
    if isinstance(value, str):
        path = Path(value)
        if path.suffix in (".json", ".yaml", ".yml"):
            value = _document(path, "labels")
        else:
            try:
                if path.stat().st_size > MAX_BYTES:
                    raise UsageError(f"{path}: at most {MAX_BYTES} bytes of labels expected")
                lines = path.read_text("utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{path}: a file of labels, one a line, expected: {error}") from None
            value = [line.strip() for line in lines if line.strip()]
        where = str(path)
    try:
        return parse_labels(value, where)
    except InputError as error:
        raise UsageError(error.message, hint=error.hint) from error


def _word(value: object, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(f"{where}: a word expected, got {short(value)}")
    return str(value)


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: a list expected, got {short(value)}")
    return value


def _words(value: object, where: str) -> list[str]:
    return [_word(item, where) for item in _list(value, where)]


def _texts(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: keys with texts expected, got {short(value)}")
    return {str(key): _word(item, f"{where}: {key}") for key, item in value.items()}
