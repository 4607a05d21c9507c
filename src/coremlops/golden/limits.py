"""How far a device may be from a set: from the spread between numeric modes, with room for real silicon.

The Neural Engine adds in another order, looks functions up in tables and flushes small values, so it differs
from this emulation by more than the emulation's own rounding. An output may be eight times as far from the
typed answer as the other modes are, and never less than the floor; a zeroed channel, swapped labels or a
wrong preparation are further. To be calibrated from the first staging devices (docs/unverified.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from coremlops.errors import DataError
from coremlops.golden.document import CEILING, LARGEST_CEILING, Limit
from coremlops.golden.measures import Seen, Unlike, differences, magnitude, unequal
from coremlops.golden.values import Expected

if TYPE_CHECKING:
    from coremlops.model import ModelDescription

MODES = ("float32", "float16")
MARGIN = 8.0
FLOOR, LARGEST_FLOOR = 0.03, 0.05
# Trees, linear models and other classic ones compute in double, there as here.
EXACT_FLOOR, EXACT_LARGEST_FLOOR = 0.001, 0.002
# Of elements that must be equal: a few of many may differ, none of less than 50.
SHARE_FLOOR = 0.02
# An output that varies by more between modes would be let through with anything.
UNSTABLE = CEILING / 2

Answers = Mapping[str, Sequence[Mapping[str, Seen | Unlike]]]


def limits(
    promised: Sequence[Mapping[str, Expected]],
    answers: Answers,
    about: ModelDescription,
    *,
    exact: bool = False,
) -> tuple[tuple[Limit, ...], list[dict[str, Expected]], tuple[str, ...]]:
    """Each output's limit, the promises with what is decided in them, and what a person should know.

    `answers`: of the other modes, call by call. `exact`: a model that computes in double everywhere.
    Raises DataError when no output can be compared.
    """
    found, notes = [], []
    decided = [dict(call) for call in promised]
    for name in promised[0]:
        calls = [call[name] for call in promised]
        others = {mode: [outputs[name] for outputs in answers[mode]] for mode in answers}
        limit, note = _limit(name, calls, others, exact=exact)
        if calls[0].type in ("text", "integer"):
            for place, call in enumerate(decided):
                agreed = all(_same(calls[place], seen[place]) for seen in others.values())
                call[name] = replace(calls[place], decided=agreed)
        found.append(limit)
        notes += [f"{name}: {note}"] if note else []
    _undecide(decided, found, about)
    found = [_without_decisions(limit, decided) for limit in found]
    if all(limit.measure == "none" for limit in found):
        raise DataError(
            f"no output can be judged: {'; '.join(notes) or 'every label is a tie'}",
            hint="name other inputs, or make the model stable in float16; see coremlops verify",
        )
    return tuple(found), decided, tuple(notes)


def _limit(
    name: str, promised: Sequence[Expected], answers: Mapping[str, Sequence[Seen | Unlike]], *, exact: bool
) -> tuple[Limit, str]:
    """The first measure by which the modes agree well enough."""
    kind, dtype = promised[0].type, promised[0].dtype
    if kind in ("text", "integer"):
        return Limit(name, "equal"), ""
    if kind in ("texts", "integers") or (kind == "tensor" and dtype in ("int32", "int8")):
        share = max((_share(promised, answers[mode]) for mode in answers), default=0.0)
        if share <= UNSTABLE:
            tolerance = min(max(SHARE_FLOOR, MARGIN * share), CEILING)
            return Limit(name, "equal", _digits(tolerance), spread=_digits(share)), ""
        if kind != "tensor":
            return Limit(name, "none"), f"{share:.0%} of its values differ between modes; it is not compared"
    return _numbers(
        name, promised, answers, (EXACT_FLOOR, EXACT_LARGEST_FLOOR) if exact else (FLOOR, LARGEST_FLOOR)
    )


def _numbers(
    name: str,
    promised: Sequence[Expected],
    answers: Mapping[str, Sequence[Seen | Unlike]],
    floors: tuple[float, float],
) -> tuple[Limit, str]:
    scale, peak = magnitude(promised)
    rms = largest = 0.0
    note = ""
    for mode, calls in answers.items():
        each = _spread(promised, calls, scale)
        if mode == "float16" and math.isinf(each[0]):
            note = "it is not finite in float16; a device must compute it as the file declares"
            continue  # a program declares what it needs; what rounds everything is another model
        rms, largest = max(rms, each[0]), max(largest, each[1])
    if rms > UNSTABLE:
        said = "is not finite in every mode" if math.isinf(rms) else f"varies by {rms:.0%} between modes"
        return Limit(name, "none"), f"it {said}, so that it is not compared"
    return Limit(
        name,
        "numbers",
        tolerance=_digits(min(max(floors[0], MARGIN * rms), CEILING)),
        largest=_digits(min(max(floors[1] * peak / scale, MARGIN * largest), LARGEST_CEILING)),
        scale=scale,
        spread=_digits(rms),
        largest_spread=_digits(largest),
    ), note


def _spread(
    promised: Sequence[Expected], calls: Sequence[Seen | Unlike], scale: float
) -> tuple[float, float]:
    worst = 0.0, 0.0
    for expected, got in zip(promised, calls, strict=True):
        if isinstance(got, Unlike):
            return math.inf, math.inf
        each = differences(expected, got)
        worst = max(worst[0], each[0] / scale), max(worst[1], each[1] / scale)
    return worst


def _same(expected: Expected, got: Seen | Unlike) -> bool:
    return isinstance(got, Seen) and got.values == expected.values


def _share(promised: Sequence[Expected], calls: Sequence[Seen | Unlike]) -> float:
    """Of all elements over all calls, those that differ."""
    different = 0
    for expected, got in zip(promised, calls, strict=True):
        if isinstance(got, Unlike):
            return 1.0
        different += unequal(expected, got)
    return different / max(1, sum(len(expected.values) for expected in promised))


def _undecide(calls: Sequence[dict[str, Expected]], found: Sequence[Limit], about: ModelDescription) -> None:
    """A label is no verdict where two probabilities are closer than their tolerance."""
    label, shares = about.predicted_label, about.predicted_probabilities
    limit = next((limit for limit in found if limit.name == shares), None)
    if limit is None or label not in calls[0]:
        return
    room = 2 * min(limit.largest, limit.tolerance * math.sqrt(len(calls[0][shares].values))) * limit.scale
    for call in calls:
        ranked = sorted(call[shares].values, reverse=True)
        if len(ranked) > 1 and limit.measure == "numbers" and ranked[0] - ranked[1] <= room:
            call[label] = replace(call[label], decided=False)


def _without_decisions(limit: Limit, calls: Sequence[Mapping[str, Expected]]) -> Limit:
    """A label that is a tie everywhere says nothing."""
    if limit.measure != "equal" or any(call[limit.name].decided for call in calls):
        return limit
    return Limit(limit.name, "none")


def _digits(value: float) -> float:
    return float(f"{value:.4g}")
