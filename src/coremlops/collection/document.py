"""Strict reading and deterministic writing of the JSON documents that devices read.

The bytes may come from anyone: size, depth, repeated keys, unknown keys and types are checked before a
value is believed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NoReturn

from coremlops.collection.names import is_sha256
from coremlops.errors import NewerFormatError, OlderFormatError, RepositoryError

MAX_DEPTH = 10
MAX_VERSION = 2**31 - 1
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class Fields:
    """The fields of one JSON object, taken by name and type.

    `what` names the object in messages. `keys` are those that it has, `optional` those that it may have;
    others are an error. `older`: keys that it had before a collection held several models.
    """

    __slots__ = ("_values", "what")

    def __init__(
        self,
        value: object,
        what: str,
        keys: tuple[str, ...],
        optional: tuple[str, ...] = (),
        *,
        older: tuple[str, ...] = (),
    ) -> None:
        if not isinstance(value, dict):
            raise RepositoryError(f"{what}: expected an object, got {_kind(value)}")
        # A newer format has other keys: that it is newer comes first.
        later = value.get("format") if "format" in keys else 0
        if isinstance(later, int) and not isinstance(later, bool) and 0 < later <= MAX_VERSION:
            raise NewerFormatError(
                f"{what}: format {later}, and this coremlops reads format 0 alone",
                hint="update coremlops: a newer one wrote it",
            )
        for key in keys:
            if key not in value:
                if older and value.keys() >= set(older):
                    raise OlderFormatError(
                        f"{what}: an older coremlops wrote it, for one model a collection",
                        hint="publish to a new repository: coremlops repo init FOLDER;"
                        " or keep the older coremlops",
                    )
                raise RepositoryError(f"{what}: {key!r} is missing")
        # A history has thousands of objects: which key is unknown is looked for only where one is.
        if len(value) > len(keys) and (unknown := value.keys() - {*keys, *optional}):
            raise RepositoryError(f"{what}: unknown key {min(map(str, unknown))!r:.80}")
        self.what = what
        self._values: Mapping[str, object] = value

    def refuse(self, key: str, expected: str) -> NoReturn:
        """Raise the error that says what `key` should be."""
        raise RepositoryError(f"{self.what}: {key!r}: expected {expected}, got {self._values[key]!r:.80}")

    def has(self, key: str) -> bool:
        """Whether an optional key is there."""
        return key in self._values

    def raw(self, key: str) -> object:
        """A value as it stands, for a reader of its own."""
        return self._values[key]

    def text(self, key: str) -> str:
        """A string."""
        value = self._values[key]
        if not isinstance(value, str):
            self.refuse(key, "a string")
        return value

    def sha256(self, key: str) -> str:
        """64 lower-case hex digits."""
        value = self._values[key]
        if not isinstance(value, str) or not is_sha256(value):
            self.refuse(key, "64 lower-case hex digits")
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self._values[key]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.refuse(key, f"a whole number from {low} to {high}")
        return value

    def version(self, key: str) -> int:
        """A version number: 1 or more."""
        return self.integer(key, 1, MAX_VERSION)

    def time(self, key: str) -> datetime:
        """A UTC time in RFC 3339, seconds."""
        value = self._values[key]
        try:
            return time_of(value if isinstance(value, str) else "")
        except ValueError:
            self.refuse(key, "a time such as 2026-01-31T12:00:00Z")

    def truth(self, key: str) -> bool:
        """True or false."""
        value = self._values[key]
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def texts(self, key: str, most: int) -> tuple[str, ...]:
        """A list of 1 to `most` strings, none twice."""
        values = self._values[key]
        if (
            not isinstance(values, list)
            or not 0 < len(values) <= most
            or not all(isinstance(value, str) for value in values)
            or len(set(values)) != len(values)
        ):
            self.refuse(key, f"a list of 1 to {most} different strings")
        return tuple(values)

    def items(self, key: str, most: int) -> list[object]:
        """A list of at most `most` things."""
        value = self._values[key]
        if not isinstance(value, list) or len(value) > most:
            self.refuse(key, f"a list of at most {most}")
        return value

    def format(self, key: str = "format") -> int:
        """The document's format, which is 0: a later one was refused before."""
        return self.integer(key, 0, 0)


def read(data: bytes, what: str, *, most_bytes: int) -> object:
    """The JSON value in `data`.

    Raises `RepositoryError` for too many bytes, bytes that are no strict JSON (NaN, repeated keys and lone
    surrogates included) and nesting beyond 10.
    """
    if len(data) > most_bytes:
        raise RepositoryError(f"{what}: {len(data)} bytes, at most {most_bytes} are read")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RepositoryError(f"{what}: no strict JSON: {error!s:.120}") from None
    _check(value, what, MAX_DEPTH)
    return value


def write(value: object) -> bytes:
    """One value, one sequence of bytes: sorted keys, no spaces, ASCII, a line break at the end."""
    return (json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False) + "\n").encode("ascii")


def time_of(text: str) -> datetime:
    """The moment of a UTC time in RFC 3339, seconds. Raises ValueError."""
    if not _TIME.fullmatch(text):
        raise ValueError(text)
    return datetime.fromisoformat(text)


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key is repeated")
    return result


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _check(value: object, what: str, depth: int) -> None:
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise RepositoryError(f"{what}: text with a lone surrogate")
        return
    if not isinstance(value, (dict, list)):
        return
    if depth == 0:
        raise RepositoryError(f"{what}: nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict):
        for key in value:
            _check(key, what, depth)
    for item in value.values() if isinstance(value, dict) else value:
        _check(item, what, depth - 1)


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", int: "a number", float: "a number", bool: "a truth value"}
    return names.get(type(value), "null")
