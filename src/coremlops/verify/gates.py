"""Limits that a proof must keep."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from coremlops.errors import UsageError

# Gates whose value must be at least the limit; the others' must be at most.
_AT_LEAST = frozenset({"snr_db", "channel_snr_db", "top1_agreement"})


@dataclass(frozen=True, slots=True)
class Gates:
    """The limits, each with the value that a faithful conversion keeps with room to spare.

    snr_db: least signal-to-noise ratio, in dB, of every compared output (the log-odds are the strict one).
    channel_snr_db: the same for each channel of each layer inside, where the layers can be matched by name.
    top1_agreement: least share of pictures for which both name the same label.
    accuracy_drop: how much smaller the Core ML model's accuracy may be than the source's.
    max_abs: largest difference of any probability.

    tests/verify/test_faces.py holds the measurements that the defaults come from.
    """

    snr_db: float = 40.0
    channel_snr_db: float = 10.0
    top1_agreement: float = 1.0
    accuracy_drop: float = 0.0
    max_abs: float = 0.02

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not math.isfinite(value):
                raise UsageError(f"gate {name}: a finite number expected, got {value}")

    def changed(self, settings: Iterable[str]) -> Gates:
        """These gates with `NAME=NUMBER` settings over them. Raises UsageError."""
        known = tuple(field.name for field in fields(self))
        values: dict[str, float] = {}
        for setting in settings:
            name, equals, text = setting.partition("=")
            if name not in known:
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"gates are {', '.join(known)}"
                raise UsageError(f"no gate {name!r}", hint=hint)
            try:
                values[name] = float(text)
            except ValueError:
                example = f"{name}={getattr(self, name):g}"
                got = repr(text) if equals else "no number"
                raise UsageError(f"gate {name}: a number expected, as in {example}, got {got}") from None
        return replace(self, **values)

    def judge(self, values: dict[str, float | None]) -> tuple[Verdict, ...]:
        """One verdict a gate that `values` names; a value of None is a failure."""
        return tuple(
            Verdict(name, limit, values[name], name in _AT_LEAST)
            for name, limit in asdict(self).items()
            if name in values
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one gate said. `value` is None when it could not be measured."""

    name: str
    limit: float
    value: float | None
    at_least: bool

    @property
    def ok(self) -> bool:
        if self.value is None:
            return False
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        got = "not a number" if self.value is None else f"{self.value:.4g}"
        return f"{self.name}: {word} {self.limit:g} expected, got {got}"

    def to_json(self) -> dict[str, Any]:
        word = "at_least" if self.at_least else "at_most"
        return {"name": self.name, "limit": self.limit, "value": self.value, "is": word, "ok": self.ok}
