"""Limits that a proof must keep."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from difflib import get_close_matches
from typing import Any

from coremlops.errors import UsageError
from coremlops.verify.intervals import Interval
from coremlops.verify.statistics import CEILING_DB

# Gates whose value must be at least the limit; the others' must be at most.
_AT_LEAST = frozenset({"snr_db", "channel_snr_db", "top1_agreement"})
_MORE = re.compile(
    r"slice\.(snr_db|top1_agreement)|(slice\.)?[^.].*\.(least|most|drop|rise)|.+\.(max_abs|mean_abs|snr_db|psnr_db)"
)
_FORMS = "METRIC.least, .most, .drop or .rise, OUTPUT.max_abs, slice.snr_db, slice.METRIC.least"


def _range(name: str) -> tuple[float, float]:
    """What a limit can be: at 0 dB the error is as large as the answers, and 200 is what exact ones have."""
    how = name.rpartition(".")[2]
    if how in ("snr_db", "psnr_db", "channel_snr_db"):
        return 0, CEILING_DB
    if how in ("top1_agreement", "accuracy_drop"):
        return (0 if how == "top1_agreement" else -1), 1
    return (0, math.inf) if how in ("max_abs", "mean_abs") else (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Gates:
    """The limits, each with the value that a faithful conversion keeps with room to spare.

    snr_db: least signal-to-noise ratio, in dB, of every compared output (the log-odds are the strict one).
    channel_snr_db: the same for each channel of each layer inside, where the layers can be matched by name.
    top1_agreement: least share of pictures for which both name the same label.
    accuracy_drop: how much smaller the Core ML model's accuracy may be than the source's.
    max_abs: largest difference of any probability.

    more: gates on what else is measured, see `Limit`.

    tests/verify/test_faces.py holds the measurements that the defaults come from.
    """

    snr_db: float = 40.0
    channel_snr_db: float = 10.0
    top1_agreement: float = 1.0
    accuracy_drop: float = 0.0
    max_abs: float = 0.02
    more: tuple[Limit, ...] = ()

    def __post_init__(self) -> None:
        for name, value in (*self.fixed.items(), *((item.name, item.limit) for item in self.more)):
            if not math.isfinite(value):
                raise UsageError(f"gate {name}: a finite number expected, got {value}")
            least, most = _range(name)
            if not least <= value <= most:
                raise UsageError(f"gate {name}: {least:g} to {most:g} expected, got {value:g}")

    @property
    def fixed(self) -> dict[str, float]:
        """The limits that every proof has, by name."""
        return {name: getattr(self, name) for name in FIXED}

    @property
    def changed_for_classifiers(self) -> tuple[str, ...]:
        """Limits that only a classifier has, and that are not the default."""
        only = ("top1_agreement", "accuracy_drop", "max_abs")
        standard = Gates()
        return tuple(name for name in only if getattr(self, name) != getattr(standard, name))

    def changed(self, settings: Iterable[str]) -> Gates:
        """These gates with `NAME=NUMBER` settings over them. Raises UsageError."""
        known = FIXED
        values: dict[str, float] = {}
        more = list(self.more)
        for setting in settings:
            name, equals, text = setting.partition("=")
            if name not in known and not _MORE.fullmatch(name):
                near = get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else f"gates are {', '.join(known)}, {_FORMS}"
                raise UsageError(f"no gate {name!r}", hint=hint)
            try:
                number = float(text)
            except ValueError:
                example = f"{name}={getattr(self, name, 0.9):g}"
                got = repr(text) if equals else "no number"
                raise UsageError(f"gate {name}: a number expected, as in {example}, got {got}") from None
            if name in known:
                values[name] = number
            else:
                more = [*(item for item in more if item.name != name), Limit(name, number)]
        return replace(self, **values, more=tuple(more))

    def judge(self, values: dict[str, float | None]) -> tuple[Verdict, ...]:
        """One verdict a fixed gate that `values` names; a value of None is a failure."""
        return tuple(
            Verdict(name, limit, values[name], name in _AT_LEAST)
            for name, limit in self.fixed.items()
            if name in values
        )


FIXED = tuple(field.name for field in fields(Gates) if field.name != "more")


@dataclass(frozen=True, slots=True)
class Limit:
    """A gate on what else is measured.

    METRIC.least, METRIC.most     the metric itself, at the end of its interval that is against it
    METRIC.drop, METRIC.rise      how much it may be below, or above, the other side's: paired, the same
    OUTPUT.max_abs, .mean_abs, .snr_db, .psnr_db     of one output
    slice.snr_db, slice.top1_agreement, slice.METRIC.least (or .most, .drop, .rise)     of the worst slice
    """

    name: str
    limit: float

    @property
    def parts(self) -> tuple[str, str]:
        """What is judged, and how: ("accuracy", "drop")."""
        what, _, how = self.name.removeprefix("slice.").rpartition(".")
        return what, how

    @property
    def of_slices(self) -> bool:
        return self.name.startswith("slice.")

    @property
    def at_least(self) -> bool:
        return self.parts[1] in ("least", "snr_db", "psnr_db", "top1_agreement")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one gate said. `value` is None when it could not be measured.

    `interval`: judged at its end that is against the model, so that few examples do not pass by luck.
    """

    name: str
    limit: float
    value: float | None
    at_least: bool
    interval: Interval | None = None
    slice: str = ""

    @property
    def judged(self) -> float | None:
        """The value, or the end of its interval that is against the model."""
        if self.interval is None:
            return self.value
        return self.interval[0] if self.at_least else self.interval[1]

    @property
    def ok(self) -> bool:
        if self.judged is None:
            return False
        return self.judged >= self.limit if self.at_least else self.judged <= self.limit

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        got = "not a number" if self.value is None else f"{self.value:.4g}"
        if self.interval is not None:
            got += f" ({self.interval[0]:.4g} to {self.interval[1]:.4g})"
        where = f" in the slice {self.slice}" if self.slice else ""
        return f"{self.name}: {word} {self.limit:g} expected, got {got}{where}"

    def to_json(self) -> dict[str, Any]:
        word = "at_least" if self.at_least else "at_most"
        found = {"name": self.name, "limit": self.limit, "value": self.value, "is": word, "ok": self.ok}
        if self.interval is not None:
            found |= {"interval": list(self.interval), "judged": self.judged}
        return found | ({"slice": self.slice} if self.slice else {})
