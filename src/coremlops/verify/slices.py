"""Parts of the data that are looked at one by one: a model may be right on the whole and wrong at night.

label              by the truth
name:REGEX         by what the pattern's first group matches in the example's name
FILE.json          {"night": ["*/night_*", ...], "day": [...]}: patterns of names
FILE.csv:COLUMN    by a column of a table whose column `name` names the example
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeAlias

from coremlops.errors import DataError, UsageError

MAX_FILE_BYTES = 64 << 20
MAX_SLICES = 1000
# (name, truth) -> the slices that the example is in
Slicer: TypeAlias = Callable[[str, Any], tuple[str, ...]]


def open_slices(text: str) -> Slicer:
    """What divides the data; see above. Raises UsageError for what is none, DataError for a bad file."""
    if text == "label":
        return lambda _, truth: () if truth is None else (str(truth),)
    if text.startswith("name:"):
        return _by_name(text.removeprefix("name:"))
    if text.endswith(".json"):
        return _by_patterns(Path(text))
    path, colon, column = text.rpartition(":")
    if colon and path.endswith(".csv"):
        return _by_column(Path(path), column)
    raise UsageError(f"slices: label, name:REGEX, FILE.json or FILE.csv:COLUMN expected, got {text!r}")


def _by_name(pattern: str) -> Slicer:
    try:
        found = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"slices: a regular expression expected, got {pattern!r}: {error}") from None
    if found.groups != 1:
        raise UsageError(f"slices: one group expected, as in name:^([a-z]+)_, got {found.groups}")

    def of(name: str, _: Any) -> tuple[str, ...]:
        match = found.search(name)
        return (match[1],) if match and match[1] else ()

    return of


def _by_patterns(path: Path) -> Slicer:
    try:
        value = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {str(error)[:200]}") from None
    if not (
        isinstance(value, dict)
        and 0 < len(value) <= MAX_SLICES
        and all(isinstance(item, list) and all(isinstance(p, str) for p in item) for item in value.values())
    ):
        raise DataError(f'{path}: {{"slice": ["pattern", ...], ...}} expected, at most {MAX_SLICES} slices')
    return lambda name, _: tuple(
        part for part, patterns in value.items() if any(fnmatchcase(name, pattern) for pattern in patterns)
    )


def _by_column(path: Path, column: str) -> Slicer:
    rows = csv.DictReader(_text(path).splitlines())
    names = rows.fieldnames or []
    if not {"name", column} <= set(names):
        raise DataError(f"{path}: columns name and {column} expected, got {', '.join(names)[:200] or 'none'}")
    table = {row["name"]: row[column] for row in rows}
    return lambda name, _: (table[name],) if table.get(name) else ()


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise DataError(f"{path}: at most {MAX_FILE_BYTES} bytes expected, got more")
        return path.read_text("utf-8")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: UTF-8 text expected") from None
