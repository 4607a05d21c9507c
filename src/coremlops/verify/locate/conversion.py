"""Where the source and the Core ML file part in float32: a conversion that is wrong, not imprecise.

Values are paired by what they hold, the rest by name. Then each op of the file is fed with the source's
values, so that what it gives differs by its own fault alone. A name may pair values that mean different
things; such a pair is recognised by this: what comes after it agrees when it is not fed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.dialects.mil import Operation
from coremlops.verify.locate.causes import Trial, Verdict, explain, proven
from coremlops.verify.locate.cut import OWN, is_movable, piece, uses
from coremlops.verify.locate.inside import Inner
from coremlops.verify.locate.location import CONVERSION, Finding
from coremlops.verify.locate.numeric import decibel, floats, plain, powers, quality, result_names
from coremlops.verify.locate.program import Program, Values
from coremlops.verify.locate.switches import Switched
from coremlops.verify.statistics import CEILING_DB

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAME_DB = 50.0  # two values that are one: weights rounded to fp16 keep more
LEAST_VALUES = 4  # fewer prove nothing
WEAK = 0.01  # of a layer's mean power: what a silent channel is measured against
LIMIT_CHANNEL_DB = 10.0
SUSPECTS = 8
NOISE_DB = 10.0  # how much errors may cancel each other
MEANT = 6
TRIES = 12  # pairs that may be doubted


@dataclass(slots=True)
class Pair:
    """A value of the file and the source's. `shape`: the file's. `own`: what its op gives when it is fed with
    the source's values; `own_db`, `channel_db`: how near that is, in all and in the worst channel."""

    name: str
    operation: Operation
    inner: Inner
    shape: tuple[int, ...]
    own: NDArray[Any] | None = None
    own_db: float = CEILING_DB
    channel_db: float = CEILING_DB

    @property
    def can_be_fed(self) -> bool:
        """Whether both have one shape, axes of 1 aside."""
        return squeezed(self.shape) == squeezed(self.inner.value.shape)

    @property
    def fed(self) -> NDArray[Any]:
        return np.ascontiguousarray(self.inner.value.reshape(self.shape), np.float32)

    def measure(self, own: NDArray[Any]) -> None:
        expected = self.inner.value
        self.own = own
        self.own_db = decibel(*powers(expected.ravel(), own.ravel())) if self.can_be_fed else -CEILING_DB
        self.channel_db = worst_channel(expected, own.reshape(expected.shape))

    def is_apart(self, limit_db: float) -> bool:
        return self.own_db < limit_db or self.channel_db < LIMIT_CHANNEL_DB


def squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def worst_channel(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """Signal to noise in dB of the worst of the channels of [1, channels, *]; 200 for other shapes."""
    if expected.ndim < 3 or expected.shape[0] != 1 or not np.isfinite(expected).all():
        return CEILING_DB
    signal = expected[0].reshape(expected.shape[1], -1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        noise = np.mean((signal - got[0].reshape(signal.shape)) ** 2, axis=1)
    power = np.mean(signal**2, axis=1)
    power = np.maximum(power, WEAK * power.mean())
    return min(decibel(float(some), float(other)) for some, other in zip(power, noise, strict=True))


def pair_up(program: Program, values: Values, source: Mapping[str, Inner]) -> dict[str, Pair]:
    """Pairs by what the file's value is called, in the program's order.

    `values`: the file's, in float32. A value of the source may have several, such as one and its copy.
    """
    by_size: dict[int, list[Inner]] = {}
    for item in source.values():
        if _says_something(item.value):
            by_size.setdefault(item.value.size, []).append(item)
    pairs: dict[str, Pair] = {}
    rest: dict[str, Operation] = {}
    namesakes = [0, 0]
    for operation in filter(is_movable, program.function.block.operations):
        for name in floats(operation):
            value, namesake = values[name], _namesake(source, name, operation)
            likeness = [(_likeness(value, item.value), item) for item in by_size.get(value.size, ())]
            # 1 + exp(x) is almost exp(x): the name tells them apart, else what is nearest.
            likeness.sort(key=lambda item: (item[0] > SAME_DB and item[1] is namesake, item[0]))
            if likeness and likeness[-1][0] > SAME_DB:
                pairs[name] = Pair(name, operation, likeness[-1][1], value.shape)
                if namesake is not None:
                    namesakes[likeness[-1][1] is namesake] += 1
            else:
                rest[name] = operation
    names = functools.partial(_by_name, values, source)
    place = functools.partial(_by_place, values, source)
    if namesakes[True] and namesakes[True] >= namesakes[False]:
        ways = [names, place]  # names have proven to be sure
    else:  # nothing is known of them, or both number their values, each in its own way
        ways = [place] if namesakes[False] else [place, names]
    for way in ways:
        pairs |= way(pairs, {name: operation for name, operation in rest.items() if name not in pairs})
    return {name: pairs[name] for name in values if name in pairs}


def _by_name(
    values: Values, source: Mapping[str, Inner], pairs: Mapping[str, Pair], made: Mapping[str, Operation]
) -> dict[str, Pair]:
    """What both call the same, and has one size."""
    taken = {id(pair.inner) for pair in pairs.values()}
    found = {}
    for name, operation in made.items():
        other = _namesake(source, name, operation)
        if other is not None and id(other) not in taken and other.value.size == values[name].size:
            found[name] = Pair(name, operation, other, values[name].shape)
            taken.add(id(other))
    return found


def _by_place(
    values: Values, source: Mapping[str, Inner], pairs: Mapping[str, Pair], made: Mapping[str, Operation]
) -> dict[str, Pair]:
    """Between two pairs: what is left of one size, where both sides have as many of it.

    What the file never shows is left out: the convolution before a batch norm that was folded into it, say.
    """
    items = _shown(list(source.values()), {id(pair.inner) for pair in pairs.values()})
    names = [name for name in values if name in pairs or name in made]
    places = {id(item): place for place, item in enumerate(items)}
    taken = {id(pair.inner) for pair in pairs.values()}
    anchors = [(place, places[id(pairs[name].inner)]) for place, name in enumerate(names) if name in pairs]
    anchors = [(-1, -1), *anchors, (len(names), len(items))]
    found = {}
    for (first, from_), (last, to) in itertools.pairwise(anchors):
        ours = [name for name in names[first + 1 : last] if name in made]
        theirs = [
            item for item in items[from_ + 1 : to] if id(item) not in taken and item.value.dtype.kind == "f"
        ]
        for size in {values[name].size for name in ours}:
            some = [name for name in ours if values[name].size == size]
            other = [item for item in theirs if item.value.size == size]
            if len(some) == len(other):
                for name, item in zip(some, other, strict=True):
                    found[name] = Pair(name, made[name], item, values[name].shape)
    return found


def _shown(items: list[Inner], paired: Collection[int]) -> list[Inner]:
    """The items without those that were never paired where the same op is followed by the same, as far as
    pairs reach."""
    last = max((place for place, item in enumerate(items) if id(item) in paired), default=-1)
    after = [item.kind for item in items[1:]] + [""]
    kinds = {id(item): (item.kind, kind) for item, kind in zip(items, after, strict=True)}
    seen = {kinds[id(item)] for item in items if id(item) in paired}
    missed = {kinds[id(item)] for item in items[: last + 1] if id(item) not in paired}
    return [item for item in items if id(item) in paired or kinds[id(item)] not in missed - seen]


def _says_something(value: NDArray[Any]) -> bool:
    """Whether values that are equal to these are hardly so by chance."""
    return bool(
        value.dtype.kind == "f"
        and value.size >= LEAST_VALUES
        and np.isfinite(value).all()
        and np.ptp(value) > 0
    )


def _namesake(source: Mapping[str, Inner], name: str, operation: Operation) -> Inner | None:
    return source.get(plain(name)) or source.get(plain(operation.name))


def _likeness(value: NDArray[Any], other: NDArray[Any]) -> float:
    """Signal to noise in dB, looking at a few values first; -200 for other shapes."""
    if squeezed(value.shape) != squeezed(other.shape):
        return -CEILING_DB
    first, second = value.ravel(), other.ravel()
    few = slice(None, None, max(1, first.size // 64))
    found = decibel(*powers(second[few], first[few]))
    return decibel(*powers(second, first)) if found > SAME_DB / 2 else found


def in_float32(program: Program, feeds: Values) -> Values:
    """Every value of the program, in its order, with nothing rounded."""
    operations = [entry for entry in program.function.block.operations if is_movable(entry)]
    function = piece(program.function, operations)
    return program.open(function, "float32").run({entry.name: feeds[entry.name] for entry in function.inputs})


def compare(program: Program, feeds: Values, pairs: dict[str, Pair], limit_db: float) -> list[Pair]:
    """Fill in how far each pair is apart by its own fault; the pairs that are, in the program's order.

    Pairs that share a name and mean different things are taken out of `pairs`.
    """
    operations = [entry for entry in program.function.block.operations if is_movable(entry)]
    _measure(program, operations, feeds, pairs, pairs)
    apart: list[Pair] = []
    for pair in list(pairs.values()):
        if not pair.is_apart(limit_db) or len(apart) == TRIES:
            continue
        others = {name: replace(item) for name, item in pairs.items() if item is not pair}
        heirs = _heirs(program, pair.name, others)
        if heirs:
            between = segment(program, heirs, {name for name, item in others.items() if item.can_be_fed})
            _measure(program, between, feeds, others, heirs)
            misled = {name for name in heirs if pairs[name].is_apart(limit_db)}
            wrong = {name for name in heirs if others[name].is_apart(limit_db)}
            if not wrong or wrong < misled:  # what comes after it is better off without its values
                del pairs[pair.name]
                pairs.update((name, others[name]) for name in heirs)
                continue
        apart.append(pair)
    return apart


def _measure(
    program: Program,
    operations: Sequence[Operation],
    feeds: Values,
    pairs: Mapping[str, Pair],
    wanted: Collection[str],
) -> None:
    fed = {name: pair.fed for name, pair in pairs.items() if pair.can_be_fed}
    function = piece(program.function, operations, given=fed.keys(), wanted=wanted)
    values = feeds | fed
    results = program.open(function, "float32").run(
        {entry.name: values[entry.name] for entry in function.inputs}
    )
    for name in wanted:
        pairs[name].measure(results[name + OWN if name in fed else name])


def _heirs(program: Program, name: str, pairs: Mapping[str, Pair]) -> list[str]:
    """The pairs that come after a value, with no pair between that could be fed."""
    reached, found = {name}, []
    for operation in filter(is_movable, program.function.block.operations):
        if reached.isdisjoint(uses(operation)):
            continue
        for entry in operation.outputs:
            if entry.name in pairs:
                found.append(entry.name)
            if entry.name not in pairs or not pairs[entry.name].can_be_fed:
                reached.add(entry.name)
    return found


def segment(program: Program, names: Collection[str], fed: Collection[str]) -> tuple[Operation, ...]:
    """The ops that compute these values from the fed ones, in order."""
    wanted, kept = set(names), []
    for operation in reversed(program.function.block.operations):
        if is_movable(operation) and any(entry.name in wanted for entry in operation.outputs):
            kept.append(operation)
            wanted |= {name for name in uses(operation) if name not in fed}
    return tuple(reversed(kept))


def judge(
    program: Program,
    feeds: Values,
    pairs: Mapping[str, Pair],
    apart: Sequence[Pair],
    weights: Mapping[str, NDArray[Any]],
    total_db: float,
    limit_db: float,
) -> tuple[Finding, ...]:
    """The pairs whose fault reaches the outputs, in the program's order, each with its cause.

    Where none alone does, the one that is farthest apart. A fault that does more harm alone than there is in
    all is none: those values were no pair.
    """
    suspects = sorted(apart, key=lambda pair: min(pair.own_db, pair.channel_db))[:SUSPECTS]
    effects = _effects(program, feeds, suspects)
    suspects = [pair for pair in suspects if effects[pair.name] > total_db - NOISE_DB]
    guilty = [pair for pair in suspects if effects[pair.name] < max(limit_db, total_db + 3)] or suspects[:1]
    order = {name: place for place, name in enumerate(pairs)}
    found = []
    for pair in sorted(guilty, key=lambda item: order[item.name]):
        kind, words, operation = explain(_trial(program, feeds, pairs, pair, weights))
        found.append(
            Finding(
                CONVERSION,
                kind,
                plain(operation.name),
                operation.type,
                words,
                effects[pair.name],
                pair.inner.module,
                pair.inner.source,
            )
        )
    return tuple(found)


def _effects(program: Program, feeds: Values, suspects: Sequence[Pair]) -> dict[str, float]:
    """What each fault alone does to the outputs: the rest of the file from its value and the source's."""
    fed = {pair.name: pair.fed for pair in suspects if pair.can_be_fed}
    effects = {pair.name: CEILING_DB for pair in suspects}
    if not fed:
        return effects
    switched = Switched(program, put=fed)
    probabilities = {out for name, out in result_names(program.function).items() if out != name}
    for pair in suspects:
        if pair.name in fed and pair.own is not None:
            right = switched.run(feeds, put={pair.name: fed[pair.name]}, spare=fed)
            wrong = switched.run(feeds, put={pair.name: pair.own}, spare=fed)
            effects[pair.name] = quality(right, wrong, probabilities)
    return effects


def _trial(
    program: Program,
    feeds: Values,
    pairs: Mapping[str, Pair],
    pair: Pair,
    weights: Mapping[str, NDArray[Any]],
) -> Trial:
    fed = {name: item.fed for name, item in pairs.items() if item.can_be_fed and item is not pair}
    operations = segment(program, [pair.name], fed)
    home = pair.inner.module + "."
    nearest = sorted(weights, key=lambda name: not (home != "." and name.startswith(home)))
    return Trial(
        program,
        operations,
        pair.name,
        feeds | fed,
        frozenset(feeds),
        pair.inner.value,
        pair.inner.numbers,
        {name: weights[name] for name in nearest},
    )


def guess_first(
    program: Program,
    feeds: Values,
    operation: Operation,
    source: Mapping[str, Inner],
    pairs: Mapping[str, Pair],
    weights: Mapping[str, NDArray[Any]],
    inputs: Collection[str],
) -> Verdict | None:
    """The cause of a wrong op that nothing of the source was paired with: what may be meant is tried."""
    fed = {name for name, pair in pairs.items() if pair.can_be_fed}
    taken = {id(pair.inner) for pair in pairs.values()}
    for name in floats(operation)[:1]:
        operations = segment(program, [name], fed)
        value = Trial(program, operations, name, feeds, frozenset(), np.zeros(0), (), {}).run(operations)
        size = 0 if value is None else value.size
        meant = [item for item in source.values() if item.value.size == size and id(item) not in taken]
        for item in meant[:MEANT]:
            trial = Trial(
                program, operations, name, feeds, frozenset(inputs), item.value, item.numbers, weights
            )
            found = proven(trial)
            if found is not None:
                return found
    return None


def agrees(
    program: Program,
    operations: tuple[Operation, ...],
    name: str,
    feeds: Values,
    expected: NDArray[Any],
    limit_db: float,
) -> bool:
    """Whether these ops give what the source gives, when they are fed with the source's values."""
    return Trial(program, operations, name, feeds, frozenset(), expected, (), {}).db(operations) >= limit_db
