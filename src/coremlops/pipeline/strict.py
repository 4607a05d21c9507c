"""Checks that every parser of configuration shares: kinds of values, and keys that are known."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from coremlops.errors import ConfigError

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_CHARACTERS = _LETTERS | frozenset("0123456789-")
MAX_NAME = 64


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest known name, or the list of known names, or nothing."""
    from difflib import get_close_matches

    names = list(known)
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]!r}?"
    if names:
        return f"known: {', '.join(sorted(names)[:20])}"
    return ""


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """`value` as a mapping; nothing (null) is an empty one."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{where}: expected a mapping, got {_kind(value)}")
    return value


def known_keys(value: Mapping[str, Any], known: Collection[str], where: str) -> None:
    """Refuse keys that mean nothing here, naming the nearest that does."""
    for key in value:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}", hint=nearest(key, known))


def text(value: Any, where: str) -> str:
    """`value` as text."""
    if not isinstance(value, str):
        raise ConfigError(f"{where}: expected text, got {_kind(value)}")
    return value


def name(value: str, where: str) -> str:
    """`value` as a name of ours: letters, digits, `_` and `-`, at most 64."""
    # No regular expressions in what every run reads: compiling them costs more than the run.
    if not (0 < len(value) <= MAX_NAME and value[0] in _LETTERS and _CHARACTERS.issuperset(value)):
        raise ConfigError(f"{where}: {value!r} is no name; expected letters, digits, _ and -, at most 64")
    return value


def scalar(value: Any, where: str) -> str:
    """A parameter's value as text, written as MLflow writes it."""
    if value is None or isinstance(value, dict | list):
        raise ConfigError(f"{where}: expected one value, got {_kind(value)}")
    return str(value)


def texts(value: Any, where: str) -> tuple[str, ...]:
    """`value` as a list of text; nothing is an empty one."""
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ConfigError(f"{where}: expected a list, got {_kind(value)}")
    return tuple(text(item, where) for item in value)


def _kind(value: Any) -> str:
    names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "nothing"}
    return names.get(type(value), f"{type(value).__name__} {value!r}")
