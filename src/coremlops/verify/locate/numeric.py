"""Which op loses what fp16 should keep: each value in the file's types against the same in float32.

Each op is computed three times: in float32, in the numeric mode with everything before it (its total error),
and in the numeric mode from what float32 computed (its own error). An op whose own error is more than
rounding explains is a suspect. Then the suspect's own error alone is put into the float32 model: what
reaches the outputs tells whether it matters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.dialects.mil import Function, Operation, Ref, TensorType
from coremlops.verify.locate.cut import OWN, piece, slices, tensors, types_of, uses
from coremlops.verify.locate.location import NUMERIC, Finding
from coremlops.verify.locate.program import Program, Values
from coremlops.verify.locate.switches import Switched
from coremlops.verify.statistics import CEILING_DB, UNDECIDED_NATS, difference, log_odds

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLICE_BYTES = 128 << 20
LARGEST_FP16 = 65504.0
OVERFLOWS = 65520.0  # what is this large rounds to infinity
NORMAL_FP16 = 2.0**-14
# Rounding once costs 2^-11 of each value at most: 66 dB, 72 or more in the mean. Two inputs and an output,
# each rounded, keep above 60.
EXCESS_DB = 55.0
SUSPECTS = 12
MOST = 0.03  # share of the power of an error below which its reason lies elsewhere


@dataclass(slots=True)
class Row:
    """One value, summed over the samples: power of the signal and of both errors; its largest magnitude."""

    name: str
    operation: Operation
    signal: float = 0.0
    own: float = 0.0
    total: float = 0.0
    peak: float = 0.0

    def add(self, exact: NDArray[Any], own: NDArray[Any], total: NDArray[Any]) -> None:
        """One sample more."""
        signal, noise = powers(exact, own)
        self.signal += signal
        self.own += noise
        self.total += powers(exact, total)[1]
        self.peak = max(self.peak, float(np.abs(exact[np.isfinite(exact)]).max(initial=0.0)))

    @property
    def own_db(self) -> float:
        return decibel(self.signal, self.own)

    @property
    def total_db(self) -> float:
        return decibel(self.signal, self.total)


@dataclass(slots=True)
class Suspect:
    """A value with more error of its own than rounding explains; `own` is what its op gives, one a sample."""

    row: Row
    kind: str
    words: str
    own: list[NDArray[Any]]
    effect_db: float = CEILING_DB


@dataclass(slots=True)
class Growth:
    """Every value in the program's order; the suspects, worst first; the outputs in float32, one a sample."""

    rows: list[Row]
    suspects: list[Suspect]
    outputs: list[Values]
    total_db: float


def decibel(signal: float, noise: float) -> float:
    """Ratio of two powers in dB, between -200 and 200; noise that is no number is all noise."""
    if noise == 0:
        return CEILING_DB
    if not signal > 0 or not np.isfinite(noise):
        return -CEILING_DB
    return float(np.clip(10 * np.log10(signal / noise), -CEILING_DB, CEILING_DB))


def powers(expected: NDArray[Any], got: NDArray[Any]) -> tuple[float, float]:
    """Power of the signal and of the error, over what is finite in the first; other errors are infinite.

    Infinities that both have are right: a mask.
    """
    first, second = np.asarray(expected, np.float64), np.asarray(got, np.float64)
    known = np.isfinite(first)
    if not known.all():
        if ((first != second) & ~known & ~np.isnan(first)).any():
            return 1.0, float("inf")
        first, second = first[known], second[known]
    with np.errstate(invalid="ignore", over="ignore"):
        noise = float(np.sum((first - second) ** 2))
    return float(np.sum(first**2)), noise if np.isfinite(noise) else float("inf")


def grow(
    program: Program,
    feeds: Sequence[Values],
    precision: str = "typed",
    progress: Callable[[int, int], None] | None = None,
) -> Growth:
    """Compute every value three times.

    Memory: for each sample, the values of a slice twice and what later slices use.
    """
    function = program.function
    exact: list[Values] = [dict(feed) for feed in feeds]
    rounded: list[Values] = [dict(feed) for feed in feeds]
    rows: list[Row] = []
    suspects: list[Suspect] = []
    parts = list(slices(function, SLICE_BYTES // len(feeds)))
    results = result_names(function)
    for index, operations in enumerate(parts):
        names = {name for operation in operations for name in tensors(operation)}
        connected = piece(function, operations)
        alone = piece(function, operations, given=names)
        in_float32, in_mode = program.open(connected, "float32"), program.open(connected, precision)
        taught = program.open(alone, precision)
        found = [Row(name, operation) for operation in operations for name in floats(operation)]
        own = []
        for before, after in zip(exact, rounded, strict=True):
            before |= in_float32.run({entry.name: before[entry.name] for entry in connected.inputs})
            after |= in_mode.run({entry.name: after[entry.name] for entry in connected.inputs})
            own.append(taught.run({entry.name: before[entry.name] for entry in alone.inputs}))
            for row in found:
                row.add(before[row.name], own[-1][row.name + OWN], after[row.name])
        rows += found
        doubtful = sorted((row for row in found if row.own_db < EXCESS_DB), key=lambda row: row.own_db)
        for row in doubtful[:SUSPECTS]:
            values = [value[row.name + OWN] for value in own]
            suspects.append(Suspect(row, *_cause(program, row, exact, values), values))
        suspects = sorted(suspects, key=lambda item: item.row.own_db)[:SUSPECTS]
        later = {name for row in parts[index + 1 :] for operation in row for name in uses(operation)}
        for values_ in (*exact, *rounded):
            for name in [name for name in values_ if name not in later and name not in results]:
                del values_[name]
        if progress is not None:
            progress(index + 1, len(parts))
    outputs = [_results(results, values_) for values_ in exact]
    probabilities = {name for value, name in results.items() if value != name}
    total = min(
        quality(expected, _results(results, got), probabilities)
        for expected, got in zip(outputs, rounded, strict=True)
    )
    return Growth(rows, suspects, outputs, total)


def result_names(function: Function) -> dict[str, str]:
    """The values that leave a function, each with the name that it leaves under."""
    found = {name: name for name in function.block.outputs}
    for operation in function.block.operations:
        if operation.type == "classify":
            [entry] = operation.inputs["probabilities"]
            if isinstance(entry, Ref):
                found = {name: name for name in found if name not in {out.name for out in operation.outputs}}
                found[entry.name] = operation.outputs[1].name
    return found


def _results(names: dict[str, str], values: Values) -> Values:
    return {out: values[name] for name, out in names.items() if name in values}


def quality(expected: Values, got: Values, probabilities: Collection[str] = ()) -> float:
    """Signal to noise of the worst output in dB; a classifier's probabilities are judged as log-odds too."""
    worst = CEILING_DB
    for name, value in expected.items():
        if value.dtype.kind != "f":
            continue
        worst = min(worst, decibel(*powers(value, got[name])))
        if name in probabilities:
            rows = (np.nan_to_num(part, nan=0.0).reshape(1, -1) for part in (value, got[name]))
            first, second = map(log_odds, rows)
            worst = min(worst, difference(first, second, floor=UNDECIDED_NATS).snr_db)
    return worst


def output_quality(function: Function, expected: Values, got: Values) -> float:
    """As `quality`, of the outputs of a function."""
    return quality(expected, got, _probabilities(function))


def judge(program: Program, feeds: Sequence[Values], growth: Growth, limit_db: float) -> tuple[Finding, ...]:
    """The ops whose own error alone breaks the limit, or is most of what there is, in the program's order.

    Fills in the suspects' `effect_db`. When the total breaks the limit and no suspect does: one finding of
    the kind "rounding", for the first value that has lost so much.
    """
    if growth.total_db >= limit_db:
        return ()
    if growth.suspects:
        switched = Switched(program, put=[item.row.name for item in growth.suspects])
        for place, feed in enumerate(feeds):
            spare = {item.row.name: item.own[place] for item in growth.suspects}
            for item in growth.suspects:
                got = switched.run(feed, put={item.row.name: item.own[place]}, spare=spare)
                item.effect_db = min(
                    item.effect_db, output_quality(program.function, growth.outputs[place], got)
                )
    order = {row.name: place for place, row in enumerate(growth.rows)}
    guilty = [item for item in growth.suspects if item.effect_db < max(limit_db, growth.total_db + 3)]
    guilty.sort(key=lambda item: order[item.row.name])
    if guilty:
        return tuple(
            Finding(
                NUMERIC,
                item.kind,
                plain(item.row.operation.name),
                item.row.operation.type,
                item.words,
                item.effect_db,
            )
            for item in guilty
        )
    below = next((row for row in growth.rows if row.total_db < limit_db), growth.rows[-1])
    many = sum(row.own_db < CEILING_DB for row in growth.rows)
    words = f"no single op explains it: {many} roundings add up, here to {below.total_db:.1f} dB"
    return (Finding(NUMERIC, "rounding", plain(below.operation.name), below.operation.type, words),)


_CAST = re.compile(r"_cast_fp(16|32)$")


def plain(name: str) -> str:
    """An op's name as the converter knew it before it chose the precision."""
    return _CAST.sub("", name)


def _probabilities(function: Function) -> set[str]:
    return {name for value, name in result_names(function).items() if value != name}


def floats(operation: Operation) -> list[str]:
    """The results of an op that can lose precision."""
    return [name for name, type_ in tensors(operation).items() if is_float(type_)]


def _cause(
    program: Program, row: Row, exact: Sequence[Values], own: Sequence[NDArray[Any]]
) -> tuple[str, str]:
    """Why an op's own error is what it is: (kind, words). `exact`: its inputs and its value, in float32."""
    operation = row.operation
    types = types_of(program.function)
    taken = [name for name in uses(operation) if name in types and name in exact[0] and is_float(types[name])]
    for name in taken:
        if (peak := _peak(exact, name)) >= OVERFLOWS and types[name].dtype == "fp16":
            return "overflow", f"it takes {plain(name)}, which reaches {peak:.3g}; fp16 ends at 65504"
    if row.peak >= OVERFLOWS and any(not np.isfinite(value).all() for value in own):
        return "overflow", f"its values reach {row.peak:.3g}; fp16 ends at 65504"
    again = program.open(piece(program.function, [operation], given=[row.name], wanted=[row.name]), "float32")

    def error(change: Callable[[NDArray[Any]], NDArray[Any]]) -> float:
        noise = 0.0
        for values in exact:
            feeds = {
                name: change(values[name]) if name in taken else values[name]
                for name in uses(operation)
                if name in values
            }
            noise += powers(values[row.name], again.run(feeds)[row.name + OWN])[1]
        return noise

    inherited = error(half)
    if inherited < MOST * row.own:
        small = max(np.abs(values[row.name]).max() for values in exact)
        return "underflow", f"its values are {small:.2g} at most; below {NORMAL_FP16:.2g}, fp16 loses digits"
    sunk = [name for name in taken if any(_sinks(values[name]).any() for values in exact)]
    if sunk and error(_floating) < 0.1 * inherited:
        return "underflow", _sunk_words(sunk[0], exact)
    if operation.type in (
        "sub",
        "add",
        "reduce_sum",
        "reduce_mean",
        "matmul",
        "linear",
        "conv",
        "batch_norm",
    ):
        largest = max(_peak(exact, name) for name in taken)
        words = (
            f"it leaves {row.peak:.3g} at most of values up to {largest:.3g}, where fp16 keeps steps of "
            f"{float(np.spacing(np.float16(min(largest, LARGEST_FP16)))):.2g}"
        )
        return "cancellation", words
    grown = (row.own / row.signal) ** 0.5 / 2.0**-12 if row.signal else float("inf")
    return "amplification", f"it makes rounding of its input {grown:.0f} times larger"


def is_float(type_: TensorType) -> bool:
    return type_.dtype in ("fp16", "fp32")


def half(array: NDArray[Any]) -> NDArray[Any]:
    """Each value rounded to fp16 once."""
    with np.errstate(over="ignore"):
        return array.astype(np.float16).astype(np.float32)


def _sinks(array: NDArray[Any]) -> NDArray[np.bool_]:
    """Where fp16 has fewer digits than usual, or none."""
    sinks: NDArray[np.bool_] = (array != 0) & (np.abs(array) < NORMAL_FP16)
    return sinks


def _floating(array: NDArray[Any]) -> NDArray[Any]:
    """As `half`, with values below fp16's normal range as they are."""
    return np.where(_sinks(array), array, half(array))


def _sunk_words(name: str, exact: Sequence[Values]) -> str:
    small = np.concatenate([np.abs(values[name][_sinks(values[name])]).ravel() for values in exact])
    gone = int((half(small) == 0).sum())
    what = f"{gone} of them become 0" if gone else "digits are lost"
    between = f"{small.size} values lie between {small.min():.2g} and {small.max():.2g}"
    return f"it takes {plain(name)}, where {between}: {what} in fp16"


def _peak(exact: Sequence[Values], name: str) -> float:
    return max(
        (float(np.abs(value[np.isfinite(value)]).max(initial=0.0)) for value in (v[name] for v in exact)),
        default=0.0,
    )
