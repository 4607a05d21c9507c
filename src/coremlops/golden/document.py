"""`golden.json`, parsed strictly: it reaches devices, and a device trusts nothing that it has not checked.

Every byte of it is explained in docs/golden.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from coremlops.collection import document
from coremlops.errors import GoldenError, RepositoryError
from coremlops.golden.values import Expected, Given, check_word, expected_of, given_of

FILE = "golden.json"
MAX_DOCUMENT_BYTES = 1 << 20
MAX_SET_BYTES = 16 << 20
MAX_EXAMPLES = 32
MAX_CALLS = 64
MAX_FEATURES = 512
MAX_DECISIONS = 32
MEASURES = ("numbers", "equal", "none")
# What a set is made of unless somebody says otherwise.
DEFAULT_EXAMPLES, DEFAULT_BYTES = 8, 256 << 10
# A set whose tolerances are wider would pass models that answer anything.
CEILING = 0.25
LARGEST_CEILING = 1000.0
ROUNDING = 1.00001  # `scale` and the values are written with seven digits


@dataclass(frozen=True, slots=True)
class Limit:
    """How far one output may be from what is expected.

    `measure`: "numbers" (the error is that of the root mean square, and of the largest single value, both
    over `scale`), "equal" (the share of elements that differ) or "none" (the output must be there, with its
    shape). `spread`, `largest_spread`: what was measured between numeric modes when the set was made.
    """

    name: str
    measure: str
    tolerance: float = 0.0
    largest: float = 0.0
    scale: float = 1.0
    spread: float = 0.0
    largest_spread: float = 0.0

    def to_json(self) -> dict[str, Any]:
        made: dict[str, Any] = {"name": self.name, "measure": self.measure}
        if self.measure != "none":
            made |= {"tolerance": self.tolerance, "spread": self.spread}
        if self.measure == "numbers":
            made |= {
                "largest": self.largest, "largest_spread": self.largest_spread, "scale": self.scale
            }  # fmt: skip
        return made


@dataclass(frozen=True, slots=True)
class Call:
    """One prediction: what goes in, by input, and what must come out, by output."""

    inputs: Mapping[str, Given]
    outputs: Mapping[str, Expected]


@dataclass(frozen=True, slots=True)
class Decision:
    """Somebody widened tolerances. `basis`: what for; `changes`: (output, limits before, limits after)."""

    at: str
    by: str
    reason: str
    basis: str
    changes: tuple[tuple[str, tuple[float, float], tuple[float, float]], ...]

    def to_json(self) -> dict[str, Any]:
        changes = [
            {"name": name, "before": list(before), "after": list(after)}
            for name, before, after in self.changes
        ]
        return {
            "at": self.at, "by": self.by, "reason": self.reason, "basis": self.basis, "changes": changes
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class GoldenSet:
    """A whole set. `function`: of a model that has several, else empty. `label`: the output whose agreement
    is counted, empty for a model that is no classifier. `examples`: the calls of each, from a fresh state.
    """

    model: str
    function: str
    label: str
    limits: tuple[Limit, ...]
    examples: tuple[tuple[Call, ...], ...]
    decisions: tuple[Decision, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `golden.json`."""
        made: dict[str, Any] = {
            "format": 0,
            "model": self.model,
            "outputs": [limit.to_json() for limit in self.limits],
            "examples": [{"calls": [_call_json(call) for call in calls]} for calls in self.examples],
        }
        made |= {key: value for key in ("function", "label") if (value := getattr(self, key))}
        if self.decisions:
            made["decisions"] = [each.to_json() for each in self.decisions]
        return made

    def to_bytes(self) -> bytes:
        """The bytes of `golden.json`: the same set gives the same."""
        return document.write(self.to_json())

    @property
    def files(self) -> Mapping[str, str]:
        """SHA-256 by name of the files beside `golden.json`."""
        calls = (call for calls in self.examples for call in calls)
        return {given.file: given.sha256 for call in calls for given in call.inputs.values() if given.file}

    def widened(self, limits: tuple[Limit, ...], decision: Decision) -> GoldenSet:
        """The set with other limits, and the decision that made them."""
        return replace(self, limits=limits, decisions=(*self.decisions, decision))


def read_golden(folder: Path) -> GoldenSet:
    """Parse `folder/golden.json`. Raises GoldenError for anything but a well-formed set."""
    return parse_golden(read_file(folder, FILE, MAX_DOCUMENT_BYTES))


def parse_golden(data: bytes) -> GoldenSet:
    """Parse the bytes of `golden.json`. Raises GoldenError."""
    try:
        return _parse(document.read(data, FILE, most_bytes=MAX_DOCUMENT_BYTES))
    except RepositoryError as error:
        raise GoldenError(error.message) from None


def read_file(folder: Path, name: str, most_bytes: int) -> bytes:
    """A plain file of the set. Raises GoldenError for a link, for none, and for more bytes."""
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file():
            raise GoldenError(f"{name}: a file expected, got none", hint=f"it belongs in {folder}")
        with path.open("rb") as file:
            data = file.read(most_bytes + 1)
    except OSError as error:
        raise GoldenError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > most_bytes:
        raise GoldenError(f"{name}: at most {most_bytes} bytes expected, got more")
    return data


def _call_json(call: Call) -> dict[str, Any]:
    return {
        "inputs": {name: given.to_json() for name, given in call.inputs.items()},
        "outputs": {name: expected.to_json() for name, expected in call.outputs.items()},
    }


def _parse(value: object) -> GoldenSet:
    keys = ("format", "model", "outputs", "examples")
    top = document.Fields(value, FILE, keys, ("function", "label", "decisions"))
    top.format()
    limits = tuple(
        _limit(item, f"{FILE}: outputs[{i}]") for i, item in enumerate(_list(top, "outputs", MAX_FEATURES))
    )
    names = {limit.name for limit in limits}
    if len(names) != len(limits) or all(limit.measure == "none" for limit in limits):
        top.refuse("outputs", "each output once, and one that is compared")
    examples = tuple(
        _example(item, names, f"{FILE}: examples[{i}]")
        for i, item in enumerate(_list(top, "examples", MAX_EXAMPLES))
    )
    for i, limit in enumerate(limits):
        _check_scale(limit, _sizes(limit.name, examples), f"{FILE}: outputs[{i}]")
    if sum(map(len, examples)) > MAX_CALLS:
        top.refuse("examples", f"at most {MAX_CALLS} calls")
    label = _word(top, "label") if top.has("label") else ""
    if label and label not in names:
        top.refuse("label", "one of the outputs")
    decisions = _list(top, "decisions", MAX_DECISIONS) if top.has("decisions") else []
    return GoldenSet(
        model=top.sha256("model"),
        function=_word(top, "function") if top.has("function") else "",
        label=label,
        limits=limits,
        examples=examples,
        decisions=tuple(_decision(item, f"{FILE}: decisions[{i}]") for i, item in enumerate(decisions)),
    )


def _limit(value: object, what: str) -> Limit:
    measure = value.get("measure") if isinstance(value, dict) else None
    if measure not in MEASURES:
        raise GoldenError(f"{what}: a measure of {', '.join(MEASURES)} expected, got {measure!r:.80}")
    more = {"none": (), "equal": ("tolerance", "spread")}
    numbers = more.get(measure, ("tolerance", "spread", "largest", "largest_spread", "scale"))
    fields = document.Fields(value, what, ("name", "measure", *numbers))
    made = {key: _number(fields, key, math.inf) for key in numbers}
    for key, most in (("tolerance", CEILING), ("largest", LARGEST_CEILING)):
        if key in made:
            _number(fields, key, most)
    if made.get("scale") == 0:
        fields.refuse("scale", "a number above 0")
    return Limit(_word(fields, "name"), measure, **made)


def _check_scale(limit: Limit, sizes: list[float], what: str) -> None:
    """Differences count over `scale`: one that is larger than every expected value would pass any answer."""
    most = max([1.0, *sizes])
    if limit.measure == "numbers" and limit.scale > ROUNDING * most:
        raise GoldenError(
            f"{what}: 'scale': expected at most {most:g}, 1 or the largest value, got {limit.scale:g}"
        )


def _sizes(name: str, examples: tuple[tuple[Call, ...], ...]) -> list[float]:
    """How large the finite numbers are that are expected of an output."""
    answers = [call.outputs[name] for calls in examples for call in calls]
    found = [value for answer in answers for value in (*answer.values, answer.rms)]
    return [abs(float(value)) for value in found if _finite(value)]


def _example(value: object, names: set[str], what: str) -> tuple[Call, ...]:
    fields = document.Fields(value, what, ("calls",))
    calls = enumerate(_list(fields, "calls", MAX_CALLS))
    return tuple(_call(item, names, f"{what}.calls[{i}]") for i, item in calls)


def _call(value: object, names: set[str], what: str) -> Call:
    fields = document.Fields(value, what, ("inputs", "outputs"))
    inputs, outputs = _entries(fields, "inputs"), _entries(fields, "outputs")
    if set(outputs) != names:
        fields.refuse("outputs", f"exactly {', '.join(sorted(names)):.200}")
    return Call(
        MappingProxyType({name: given_of(item, f"{what}: {name}") for name, item in inputs.items()}),
        MappingProxyType({name: expected_of(item, f"{what}: {name}") for name, item in outputs.items()}),
    )


def _entries(fields: document.Fields, key: str) -> dict[str, object]:
    value = fields.raw(key)
    if not isinstance(value, dict) or len(value) > MAX_FEATURES:
        fields.refuse(key, f"an object with at most {MAX_FEATURES} names")
    try:
        return {check_word(name): item for name, item in value.items()}
    except ValueError:
        fields.refuse(key, "names that print")


def _decision(value: object, what: str) -> Decision:
    fields = document.Fields(value, what, ("at", "by", "reason", "basis", "changes"))
    fields.time("at")
    changes = []
    for i, item in enumerate(_list(fields, "changes", MAX_FEATURES)):
        change = document.Fields(item, f"{what}.changes[{i}]", ("name", "before", "after"))
        changes.append((_word(change, "name"), _pair(change, "before"), _pair(change, "after")))
    words = {key: fields.text(key)[:2000] for key in ("by", "reason", "basis")}
    return Decision(at=fields.text("at"), changes=tuple(changes), **words)


def _pair(fields: document.Fields, key: str) -> tuple[float, float]:
    values = fields.items(key, 2)
    if len(values) != 2 or not all(_finite(value) for value in values):
        fields.refuse(key, "two numbers")
    return float(values[0]), float(values[1])  # type: ignore[arg-type]


def _list(fields: document.Fields, key: str, most: int) -> list[object]:
    found = fields.items(key, most)
    if not found:
        fields.refuse(key, f"1 to {most} things")
    return found


def _word(fields: document.Fields, key: str) -> str:
    try:
        return check_word(fields.raw(key))
    except ValueError:
        fields.refuse(key, "a name that prints")


def _number(fields: document.Fields, key: str, most: float) -> float:
    value = fields.raw(key)
    if not _finite(value) or not 0 <= value <= most:  # type: ignore[operator]
        fields.refuse(key, f"a number from 0 to {most:g}")
    return float(value)  # type: ignore[arg-type]


def _finite(value: object) -> bool:
    """Whether it is a number that a double holds; a whole number may be beyond all of them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
