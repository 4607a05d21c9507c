"""What goes into a model and what comes out, as `golden.json` writes it down."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from coremlops.collection.document import Fields
from coremlops.errors import RepositoryError

MAX_SIDE = 4096
MAX_RANK = 16
MAX_ELEMENTS = 1 << 31
MAX_VALUES = 4096
MAX_WORD = 200
DTYPES = ("float16", "float32", "float64", "int8", "uint8", "int32")
PLAIN = ("number", "integer", "text", "integers", "texts", "dictionary")
_FILE = re.compile(r"[0-9]{4}\.(png|bin)")
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass(frozen=True, slots=True)
class Given:
    """One input of one call.

    `type`: "picture" (a PNG), "tensor" (its elements in a file, little-endian, row by row) or one of `PLAIN`,
    whose `value` is a number, a string, a tuple of them, or a dictionary.
    """

    type: str
    file: str = ""
    sha256: str = ""
    dtype: str = ""
    shape: tuple[int, ...] = ()
    value: Any = None

    def to_json(self) -> dict[str, Any]:
        if self.type == "picture":
            return {"type": self.type, "file": self.file, "sha256": self.sha256}
        if self.type == "tensor":
            shaped = {"dtype": self.dtype, "shape": list(self.shape)}
            return {"type": self.type, "file": self.file, "sha256": self.sha256, **shaped}
        if self.type == "dictionary":
            values = [number_json(value) for value in self.value.values()]
            return {"type": self.type, "keys": list(self.value), "values": values}
        return {"type": self.type, "value": _plain_json(self.value)}


@dataclass(frozen=True, slots=True)
class Expected:
    """One output of one call.

    `type`: "tensor" (pictures too) or one of `PLAIN`. `values`: of a tensor those at `positions` (counted
    row by row; None for all of them), of a dictionary those of `keys`, of the others what they are.
    `rms`: of all finite elements of a sampled tensor of floats, else None; `finite`: whether all of them are.
    `decided`: whether every numeric mode gave this text or integer, so that a device must.
    """

    type: str
    values: tuple[Any, ...]
    dtype: str = ""
    shape: tuple[int, ...] = ()
    positions: tuple[int, ...] | None = None
    keys: tuple[str | int, ...] = ()
    rms: float | None = None
    finite: bool = True
    decided: bool = True

    def to_json(self) -> dict[str, Any]:
        values = [number_json(value) for value in self.values]
        if self.type == "tensor":
            made: dict[str, Any] = {"type": self.type, "dtype": self.dtype, "shape": list(self.shape)}
            made["values"] = values
            if self.positions is not None:
                made["positions"] = list(self.positions)
            if self.rms is not None:
                made |= {"rms": self.rms, "finite": self.finite}
            return made
        if self.type == "dictionary":
            return {"type": self.type, "keys": list(self.keys), "values": values}
        if self.type in ("integers", "texts"):
            return {"type": self.type, "values": values}
        made = {"type": self.type, "value": values[0]}
        return made if self.type == "number" else {**made, "decided": self.decided}


def number_json(value: Any) -> Any:
    """A number or a word as JSON has it: what is not finite has a word, "nan", "inf" or "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _plain_json(value: Any) -> Any:
    return [*value] if isinstance(value, tuple) else number_json(value)


def given_of(value: object, what: str) -> Given:
    """Parse one input. Raises RepositoryError."""
    kind = _type(value, what, ("picture", "tensor", *PLAIN))
    if kind == "picture":
        fields = Fields(value, what, ("type", "file", "sha256"))
        return Given(kind, _file(fields, ".png"), fields.sha256("sha256"))
    if kind == "tensor":
        fields = Fields(value, what, ("type", "file", "sha256", "dtype", "shape"))
        file, sha256 = _file(fields, ".bin"), fields.sha256("sha256")
        return Given(kind, file, sha256, _dtype(fields), _shape(fields))
    if kind == "dictionary":
        fields = Fields(value, what, ("type", "keys", "values"))
        keys = _keys(fields)
        numbers = _all(fields, "values", _number, "numbers")
        if len(numbers) != len(keys):
            fields.refuse("values", f"{len(keys)} numbers")
        return Given(kind, value=dict(zip(keys, numbers, strict=True)))
    fields = Fields(value, what, ("type", "value"))
    return Given(kind, value=_plain(fields, kind))


def expected_of(value: object, what: str) -> Expected:
    """Parse one output. Raises RepositoryError."""
    kind = _type(value, what, ("tensor", *PLAIN))
    if kind == "tensor":
        return _tensor(
            Fields(value, what, ("type", "dtype", "shape", "values"), ("positions", "rms", "finite"))
        )
    if kind == "dictionary":
        fields = Fields(value, what, ("type", "keys", "values"))
        keys, numbers = _keys(fields), _all(fields, "values", _number, "numbers")
        if len(numbers) != len(keys):
            fields.refuse("values", f"{len(keys)} numbers")
        return Expected(kind, numbers, keys=keys)
    if kind in ("integers", "texts"):
        fields = Fields(value, what, ("type", "values"))
        return Expected(kind, _all(fields, "values", _PARSERS[kind[:-1]], kind))
    decided = kind != "number"
    fields = Fields(value, what, ("type", "value", *(["decided"] if decided else [])))
    return Expected(kind, (_plain(fields, kind),), decided=not decided or fields.truth("decided"))


def check_word(value: object) -> str:
    """A name or label that can be shown. Raises ValueError."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_WORD or not value.isprintable():
        raise ValueError
    return value


def _tensor(fields: Fields) -> Expected:
    dtype, shape = _dtype(fields), _shape(fields)
    count, positions = math.prod(shape), None
    values = _all(fields, "values", _number if dtype.startswith("float") else _integer, "numbers")
    if fields.has("positions"):
        positions = _all(fields, "positions", _integer, "positions")
        rising = all(a < b for a, b in itertools.pairwise(positions))
        if not rising or not positions or not 0 <= positions[0] <= positions[-1] < count:
            fields.refuse("positions", f"rising numbers from 0 to {count - 1}")
        count = len(positions)
    if len(values) != count:
        fields.refuse("values", f"{count} numbers")
    if not fields.has("rms"):
        return Expected("tensor", values, dtype, shape, positions)
    rms = _number(fields.raw("rms"))
    if not 0 <= rms < math.inf:
        fields.refuse("rms", "a finite number from 0")
    return Expected("tensor", values, dtype, shape, positions, rms=rms, finite=fields.truth("finite"))


def _type(value: object, what: str, known: tuple[str, ...]) -> str:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind not in known:
        raise RepositoryError(f"{what}: a type of {', '.join(known)} expected, got {kind!r:.80}")
    return str(kind)


def _file(fields: Fields, suffix: str) -> str:
    name = fields.text("file")
    if not _FILE.fullmatch(name) or not name.endswith(suffix):
        fields.refuse("file", f"a name such as 0001{suffix}")
    return name


def _dtype(fields: Fields) -> str:
    if fields.text("dtype") not in DTYPES:
        fields.refuse("dtype", f"one of {', '.join(DTYPES)}")
    return fields.text("dtype")


def _shape(fields: Fields) -> tuple[int, ...]:
    sizes = fields.items("shape", MAX_RANK)
    if not all(isinstance(size, int) and not isinstance(size, bool) and size >= 0 for size in sizes):
        fields.refuse("shape", "sizes")
    shape = tuple(int(size) for size in sizes)  # type: ignore[call-overload]
    if math.prod(shape) > MAX_ELEMENTS:
        fields.refuse("shape", f"at most {MAX_ELEMENTS} elements")
    return shape


def _number(value: object) -> float:
    if isinstance(value, str):
        return _WORDS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError
    return float(value)


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise ValueError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_VALUES:
        raise ValueError
    return value


def _key(value: object) -> str | int:
    return value if isinstance(value, str) and len(value) <= MAX_WORD else _integer(value)


_PARSERS: Mapping[str, Callable[[object], Any]] = {"number": _number, "integer": _integer, "text": _text}


def _all(fields: Fields, key: str, parse: Callable[[object], Any], words: str) -> tuple[Any, ...]:
    values = fields.items(key, MAX_VALUES)
    try:
        return tuple(parse(value) for value in values)
    except (ValueError, KeyError, OverflowError):
        fields.refuse(key, words)


def _keys(fields: Fields) -> tuple[str | int, ...]:
    keys: tuple[str | int, ...] = _all(fields, "keys", _key, "strings or whole numbers")
    if len(set(keys)) != len(keys) or len({type(key) for key in keys}) > 1:
        fields.refuse("keys", "different keys of one type")
    return keys


def _plain(fields: Fields, kind: str) -> Any:
    if kind in ("integers", "texts"):
        return _all(fields, "value", _PARSERS[kind[:-1]], kind)
    try:
        return _PARSERS[kind](fields.raw("value"))
    except (ValueError, KeyError, OverflowError):
        fields.refuse("value", f"a value of the type {kind}")
