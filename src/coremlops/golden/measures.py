"""How far what a model answers is from what is expected."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from coremlops.golden.values import DTYPES, MAX_VALUES, Expected

Array: TypeAlias = np.ndarray[Any, Any]

# Of a larger output, as many places, one in each of as many equal parts, so that every channel has some.
SAMPLED = 256
# Of a dictionary with more keys, the largest.
MOST_KEYS, TOP_KEYS = 64, 10
# No error is larger: JSON has no infinity.
WORST = 1e9


class Unlike(Exception):
    """An output that has another type, shape or other keys than expected; the text says both."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is compared of an output: `values` as `Expected` has them, `rms` and `finite` of all of it."""

    values: tuple[Any, ...]
    rms: float | None = None
    finite: bool = True


def expected(value: Any, seed: str) -> Expected:
    """What a set keeps of an output. `seed` chooses the places: the same one, the same places.

    Raises Unlike for what no set can hold.
    """
    if isinstance(value, Mapping):
        keys = tuple(value)
        if len(keys) > MOST_KEYS:
            keys = tuple(sorted(value, key=value.__getitem__, reverse=True)[:TOP_KEYS])
        keys = tuple(key if isinstance(key, str) else int(key) for key in keys)
        return Expected("dictionary", tuple(_short(value[key]) for key in keys), keys=keys)
    if isinstance(value, str | list | tuple) or _is_integer(value):
        return _exact(value)
    if isinstance(value, int | float | np.number):
        return Expected("number", (_short(value),))
    array = _array(value)
    positions = None if array.size <= SAMPLED else _positions(array.size, seed)
    flat = array.reshape(-1)
    kept = flat if positions is None else flat[list(positions)]
    dtype = (
        str(array.dtype) if str(array.dtype) in DTYPES else "float32" if array.dtype.kind == "f" else "int32"
    )
    if array.dtype.kind != "f":
        return Expected("tensor", tuple(map(int, kept)), dtype, array.shape, positions)
    rms, finite = (None, True) if positions is None else _summary(flat)
    rms = None if rms is None else _short(rms)
    return Expected("tensor", tuple(map(_short, kept)), dtype, array.shape, positions, rms=rms, finite=finite)


def seen(promised: Expected, value: Any) -> Seen:
    """The same part of another answer. Raises Unlike."""
    if promised.type == "dictionary":
        if not isinstance(value, Mapping):
            raise Unlike(f"numbers by key expected, got {type(value).__name__}")
        missing = [key for key in promised.keys if key not in value]
        if missing:
            raise Unlike(f"a number for {missing[0]!r:.80} expected, the model has no such key")
        return Seen(tuple(float(value[key]) for key in promised.keys))
    if promised.type == "tensor":
        return _seen_tensor(promised, value)
    try:
        found = expected(value, "")
    except Unlike:
        found = Expected("", ())
    if found.type != promised.type:
        if promised.type == "number" and isinstance(value, int | np.integer):
            return Seen((float(value),))
        raise Unlike(f"the type {promised.type} expected, got {type(value).__name__}")
    if len(found.values) != len(promised.values):
        raise Unlike(f"{len(promised.values)} values expected, got {len(found.values)}")
    return Seen(found.values)


def observe(promised: Mapping[str, Expected], answer: Mapping[str, Any]) -> dict[str, Seen | Unlike]:
    """What is compared of a whole answer, which may be much larger; an output that does not fit says why."""
    found: dict[str, Seen | Unlike] = {}
    for name, each in promised.items():
        try:
            if name not in answer:
                raise Unlike("a value expected, got none")
            found[name] = seen(each, answer[name])
        except Unlike as unlike:
            found[name] = unlike
    return found


def differences(promised: Expected, got: Seen) -> tuple[float, float]:
    """(root mean square, largest) of the differences of numbers, in the output's own unit.

    What is not finite must be the same on both sides, or the difference is infinite. The root mean square of
    a sampled output counts too: it moves by no more than the differences' own.
    """
    before = np.asarray([float(each) for each in promised.values])
    after = np.asarray([float(each) for each in got.values])
    special = ~np.isfinite(before)
    if not (np.array_equal(special, ~np.isfinite(after)) and _same(before[special], after[special])):
        return math.inf, math.inf
    with np.errstate(over="ignore"):
        gaps = np.abs(after[~special] - before[~special])
        rms = math.sqrt(float(np.mean(gaps**2))) if gaps.size else 0.0
    if promised.rms is not None and got.rms is not None:
        if promised.finite and not got.finite:
            return math.inf, math.inf
        rms = max(rms, abs(got.rms - promised.rms))
    return rms, float(gaps.max(initial=0.0))


def unequal(promised: Expected, got: Seen) -> int:
    """How many elements differ."""
    return sum(1 for a, b in zip(promised.values, got.values, strict=True) if a != b)


def magnitude(answers: Sequence[Expected]) -> tuple[float, float]:
    """(root mean square, largest size) of an output over a set, of what is finite; 1 where it is 0.

    Of a sampled output the root mean square of all of it counts, and the largest is no less than that: in a
    map that is nearly everywhere 0, no sample may show what it is about.
    """
    squares, largest = [], 0.0
    for each in answers:
        values = np.abs([float(value) for value in each.values])
        values = values[np.isfinite(values)]
        largest = max(largest, float(values.max(initial=0.0)))
        with np.errstate(over="ignore"):
            squares.append(
                float(np.mean(values**2)) if each.rms is None and values.size else (each.rms or 0) ** 2
            )
    found = _short(math.sqrt(sum(squares) / len(squares)))
    scale = found if 0 < found < math.inf else 1.0
    return scale, max(largest, scale)


def _exact(value: Any) -> Expected:
    if isinstance(value, str):
        return Expected("text", (value,))
    if _is_integer(value):
        return Expected("integer", (int(value),))
    if len(value) > MAX_VALUES:
        raise Unlike(f"a sequence of at most {MAX_VALUES} values expected, got {len(value)}")
    if all(isinstance(item, str) for item in value):
        return Expected("texts", tuple(map(str, value)))
    if all(_is_integer(item) for item in value):
        return Expected("integers", tuple(map(int, value)))
    raise Unlike("a sequence of texts or of whole numbers expected, got others")


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _array(value: Any) -> Array:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise Unlike(f"numbers expected, got {type(value).__name__}")
    return array


def _seen_tensor(promised: Expected, value: Any) -> Seen:
    array = _array(value)
    if array.shape != promised.shape:
        raise Unlike(f"the shape {list(promised.shape)} expected, got {list(array.shape)}")
    flat = array.reshape(-1)
    kept = flat if promised.positions is None else flat[list(promised.positions)]
    if promised.rms is None:
        return Seen(tuple(kept.tolist()))
    return Seen(tuple(kept.tolist()), *_summary(flat.astype(np.float64)))


def _summary(flat: Array) -> tuple[float, bool]:
    numbers = flat.astype(np.float64)
    finite = np.isfinite(numbers)
    whole = bool(finite.all())
    numbers = numbers if whole else numbers[finite]
    return math.sqrt(float(np.mean(numbers**2))) if numbers.size else 0.0, whole


def _positions(count: int, seed: str) -> tuple[int, ...]:
    """One place in each of `SAMPLED` equal parts."""
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:8], "little"))
    bounds = np.linspace(0, count, SAMPLED + 1).astype(np.int64)
    return tuple(int(each) for each in random.integers(bounds[:-1], bounds[1:]))


def _same(a: Array, b: Array) -> bool:
    return bool(np.array_equal(a, b, equal_nan=True))


def _short(value: Any) -> float:
    """Seven digits: a tolerance is never so narrow."""
    return float(f"{float(value):.7g}")
