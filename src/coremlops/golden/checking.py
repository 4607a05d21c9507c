"""Execute a model on its golden set: what a device does before it activates the model."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from coremlops.errors import GoldenError, InputError
from coremlops.golden.document import MAX_SET_BYTES, Call, GoldenSet, Limit, read_golden
from coremlops.golden.encoding import decode
from coremlops.golden.measures import WORST, Seen, Unlike, differences, observe, unequal
from coremlops.model import ModelAsset

if TYPE_CHECKING:
    from coremlops.golden.values import Expected
    from coremlops.runtime import Model

LEAST_RUNS, RUN_S = 3, 0.5
TIME_LIMIT_S = 600.0
Observed: TypeAlias = Mapping[str, Seen | Unlike]


@dataclass(frozen=True, slots=True)
class OutputError:
    """How far an output was from the set, at worst over all calls: ok when `error` is within `tolerance`.

    Relative to the output's scale, or a share of elements. The largest single difference of numbers counts
    as much as it is of its own limit.
    """

    name: str
    error: float
    tolerance: float
    ok: bool
    measure: str = "numbers"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What executing a golden set found.

    `agreement`: the share of calls with the expected label, of those that every numeric mode agrees on; None
    for no classifier. `load_s`: what this load took; `load_cached_s`: the same where the engine had the model
    in its cache, else None. `latency_s`: median of a prediction. `reason`: what is wrong first, and where;
    empty when `ok`.
    """

    model: str
    ok: bool
    outputs: tuple[OutputError, ...]
    agreement: float | None
    examples: int
    calls: int
    load_s: float
    load_cached_s: float | None
    latency_s: float
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `coremlops golden check --json`."""
        return asdict(self)


def check(
    model: Path,
    golden: Path,
    *,
    precision: str = "typed",
    engine: str = "auto",
    time_limit_s: float | None = TIME_LIMIT_S,
) -> Judgement:
    """Execute `model` on the golden set in the folder `golden`, and judge its answers.

    A model that answers otherwise is judged not ok. `time_limit_s`: of each prediction, so that a loop
    without an end keeps no device from its old model; None for an engine that knows none.
    Raises GoldenError for a set that is malformed, altered, belongs to another model, or holds inputs that
    the model does not take; ModelError for a model that cannot run.
    """
    promised = read_golden(golden)
    digest = ModelAsset.open(model).digest
    if promised.model != digest:
        raise GoldenError(
            f"a golden set of model {digest[:12]} expected, got one of {promised.model[:12]}",
            hint="golden set and model must come from one publication",
        )
    from coremlops.runtime import load

    begin = time.perf_counter()
    loaded = load(
        model,
        precision=precision,
        engine=engine,
        function_name=promised.function or None,
        time_limit_s=time_limit_s,
    )
    load_s = time.perf_counter() - begin
    feed = _feeder(promised, loaded, golden)
    answers: list[list[Observed]] = []
    times: list[float] = []
    try:
        for calls in promised.examples:
            answers.append([])
            for call, (outputs, took_s) in zip(calls, answer(loaded, map(feed, calls)), strict=True):
                answers[-1].append(observe(call.outputs, outputs))
                times.append(took_s)
    except InputError as error:
        raise GoldenError(f"the set's inputs do not fit the model: {error.message}") from None
    findings = _findings(promised, answers)
    wrong = next((finding for finding in findings.values() if finding.reason), None)
    return Judgement(
        model=digest,
        ok=wrong is None,
        outputs=tuple(finding.error for finding in findings.values()),
        agreement=agreement(promised, answers),
        examples=len(promised.examples),
        calls=len(times),
        load_s=load_s,
        load_cached_s=load_s if loaded.cached else None,
        latency_s=_median(loaded, feed(promised.examples[0][0]), times),
        reason=wrong.reason if wrong else "",
    )


def answer(loaded: Model, calls: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], float]]:
    """The outputs of each call of one example, from a fresh state, and how long it took in s."""
    state = loaded.make_state() if loaded.description.states else None
    for inputs in calls:
        begin = time.perf_counter()
        outputs = loaded.predict(inputs, state=state)
        yield outputs, time.perf_counter() - begin


@dataclass(frozen=True, slots=True)
class Finding:
    """One output over all calls. `reason`: the first thing that is wrong."""

    error: OutputError
    reason: str = ""


def judge(promised: GoldenSet, answers: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Finding]:
    """Compare answers, example by example and call by call, to a set, output by output."""
    pairs = zip(promised.examples, answers, strict=True)
    return _findings(
        promised,
        [
            [observe(call.outputs, given) for call, given in zip(calls, found, strict=True)]
            for calls, found in pairs
        ],
    )


def _findings(promised: GoldenSet, answers: Sequence[Sequence[Observed]]) -> dict[str, Finding]:
    return {limit.name: _finding(limit, promised, answers) for limit in promised.limits}


def agreement(promised: GoldenSet, answers: Sequence[Sequence[Observed]]) -> float | None:
    """The share of calls whose label is the expected one, of those that are decided."""
    hits = []
    for calls, found in zip(promised.examples, answers, strict=True):
        for call, given in zip(calls, found, strict=True):
            if promised.label and call.outputs[promised.label].decided:
                got = given[promised.label]
                hits.append(isinstance(got, Seen) and got.values == call.outputs[promised.label].values)
    return sum(hits) / len(hits) if hits else None


def _feeder(promised: GoldenSet, loaded: Model, folder: Path) -> Callable[[Call], dict[str, Any]]:
    """What gives the inputs of a call as `predict` takes them, read when they are wanted."""
    features = {feature.name: feature for feature in loaded.description.inputs}
    sizes = [(folder / name).stat().st_size for name in promised.files if (folder / name).is_file()]
    if sum(sizes) > MAX_SET_BYTES:
        raise GoldenError(f"at most {MAX_SET_BYTES} bytes of inputs expected, got {sum(sizes)}")
    for calls in promised.examples:
        for call in calls:
            unknown = sorted(set(call.inputs) - set(features))
            if unknown:
                raise GoldenError(f"inputs {', '.join(features):.200} expected, got {unknown[0]!r}")
    return lambda call: {name: decode(given, features[name], folder) for name, given in call.inputs.items()}


def _median(loaded: Model, inputs: dict[str, Any], times: list[float]) -> float:
    """Without the first prediction, which is slower; a few more where the set has few."""
    times = list(times)
    begin = time.perf_counter()
    while (
        len(times) <= LEAST_RUNS
        and not loaded.description.states
        and time.perf_counter() - begin + times[-1] < RUN_S
    ):
        times += [took_s for _, took_s in answer(loaded, [inputs])]
    return statistics.median(times[1:] or times)


def _finding(limit: Limit, promised: GoldenSet, answers: Sequence[Sequence[Observed]]) -> Finding:
    error = OutputError(limit.name, 0.0, limit.tolerance, True, limit.measure)
    reason, different, total = "", 0, 0
    for place, (calls, found) in enumerate(zip(promised.examples, answers, strict=True), start=1):
        for number, (call, given) in enumerate(zip(calls, found, strict=True), start=1):
            where = f"example {place}" + (f", call {number}" if len(calls) > 1 else "") + f": {limit.name}"
            expected, got = call.outputs[limit.name], given[limit.name]
            if isinstance(got, Unlike):
                reason = reason or f"{where}: {got}"
                error = replace(error, error=WORST, ok=False)
                continue
            if limit.measure == "numbers":
                error, wrong = _numbers(error, limit, expected, got)
                reason = reason or (wrong and f"{where}: {wrong}")
            elif limit.measure == "equal" and expected.decided:
                wrong_here = unequal(expected, got)
                different, total = different + wrong_here, total + len(expected.values)
                if wrong_here and limit.tolerance == 0:
                    reason = (
                        reason or f"{where}: expected {_words(expected.values)}, got {_words(got.values)}"
                    )
    if limit.measure == "equal" and error.ok:
        share = different / total if total else 0.0
        error = replace(error, error=share, ok=share <= limit.tolerance)
        if not error.ok:
            text = f"{limit.name}: at most {limit.tolerance:.4g} of all values may differ, got {share:.4g}"
            reason = reason or text
    return Finding(error, reason)


def _numbers(error: OutputError, limit: Limit, expected: Expected, got: Seen) -> tuple[OutputError, str]:
    """The worse of what is known and this call, and what is wrong with it."""
    rms, largest = (min(each / limit.scale, WORST) for each in differences(expected, got))
    both = max(rms, largest * limit.tolerance / limit.largest) if limit.largest else rms
    error = replace(error, error=min(max(error.error, both), WORST))
    wrong = ""
    if rms > limit.tolerance:
        wrong = f"a relative error of at most {limit.tolerance:.4g} expected, got {rms:.4g}"
    elif largest > limit.largest:
        wrong = f"a largest relative difference of at most {limit.largest:.4g} expected, got {largest:.4g}"
    if wrong:
        wrong += f" ({_words(expected.values)} expected, got {_words(got.values)})"
        error = replace(error, ok=False)
    return error, wrong


def _words(values: tuple[Any, ...]) -> str:
    """The first few values, for a person."""
    shown = [f"{value:.4g}" if isinstance(value, float) else repr(value)[:60] for value in values[:4]]
    return ", ".join(shown) + (", ..." if len(values) > 4 else "")
