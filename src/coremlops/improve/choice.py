"""The smallest set of ops to keep in float32, found by emulation: no candidate is converted.

An op in float32 helps where its value goes to another one: between an op in float32 and one in fp16 the value
is rounded all the same. So what is chosen first is values, by what rounding each alone does to the outputs;
then the ops that make and take them; then ops are dropped one by one while the limit holds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from coremlops.dialects.mil import Function, Operation
from coremlops.verify.locate.cut import is_movable, tensors, uses
from coremlops.verify.locate.numeric import output_quality, plain
from coremlops.verify.locate.program import Program, Values
from coremlops.verify.locate.switches import Switched

# A group of values that costs less than a hundredth of what the limit allows is not looked into further.
NEGLIGIBLE_DB = 20.0
MOST_DROPS = 96  # ops that are tried without, one by one
# They have no type of their own to choose: the converter writes them where types change.
_GLUE = ("cast", "classify")


@dataclass(frozen=True, slots=True)
class Choice:
    """`kept`: names of ops as the converter knows them. `quality_db`: emulated, of the worst output.

    `operations`: how many the program computes with. `tried`: how many candidates were executed.
    """

    kept: tuple[str, ...]
    quality_db: float
    operations: int
    tried: int


def smallest(
    program: Program,
    feeds: Sequence[Values],
    limit_db: float,
    *,
    progress: Callable[[int], None] | None = None,
) -> Choice:
    """Choose the ops of a program to keep in float32 so that every output keeps `limit_db` of float32's.

    It is small, not proven to be the smallest: there are 2^ops sets. `progress` is called with the number of
    candidates that were executed so far.
    """
    return _Search(program, feeds, limit_db, progress or (lambda tried: None)).run()


class _Search:
    def __init__(
        self, program: Program, feeds: Sequence[Values], limit_db: float, progress: Callable[[int], None]
    ) -> None:
        self.flow = _Flow(program.function)
        self.switched = Switched(program, rounded=self.flow.rounded)
        self.values = self.switched.rounded
        self.feeds = feeds
        self.limit_db = limit_db
        self.progress = progress
        self.tried = 0
        self.exact = [self.switched.run(feed) for feed in feeds]

    def run(self) -> Choice:
        quality = self.quality(self.values, self.feeds)
        kept: set[str] = set()
        if quality < self.limit_db:
            ranked = self.ranked(list(self.values))
            kept = self.dropped(self.flow.around(self.enough(ranked)))
            quality = self.with_ops(kept)
        order = [operation.name for operation in self.flow.operations if operation.name in kept]
        return Choice(tuple(map(plain, order)), quality, len(self.flow.operations), self.tried)

    def quality(self, rounded: Collection[str], feeds: Sequence[Values]) -> float:
        """Of the worst output in dB when these values are rounded, and no others."""
        self.tried += 1
        self.progress(self.tried)
        program = self.flow.function
        results = zip(feeds, self.exact, strict=False)
        return min(
            output_quality(program, exact, self.switched.run(feed, rounded)) for feed, exact in results
        )

    def with_ops(self, kept: Collection[str]) -> float:
        """When these ops are in float32."""
        free = self.flow.between(kept)
        return self.quality([name for name in self.values if name not in free], self.feeds)

    def ranked(self, values: list[str]) -> list[str]:
        """Values by what rounding them alone costs, worst first. Halves that cost nothing stay whole."""
        cost: dict[str, float] = {}

        def split(some: list[str]) -> None:
            quality = self.quality(some, self.feeds[:1])
            if len(some) == 1 or quality > self.limit_db + NEGLIGIBLE_DB:
                cost.update(dict.fromkeys(some, quality))
                return
            split(some[: len(some) // 2])
            split(some[len(some) // 2 :])

        split(values)
        return sorted(values, key=cost.__getitem__)

    def enough(self, ranked: list[str]) -> list[str]:
        """The shortest beginning of `ranked` that suffices when it is not rounded."""
        low, high = 0, 1
        while high < len(ranked) and not self.suffices(ranked[:high]):
            low, high = high, min(2 * high, len(ranked))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self.suffices(ranked[:middle]) else (middle, high)
        return ranked[:high]

    def suffices(self, free: Collection[str]) -> bool:
        loose = self.flow.between(self.flow.around(free))
        return self.quality([name for name in self.values if name not in loose], self.feeds) >= self.limit_db

    def dropped(self, kept: set[str]) -> set[str]:
        """The set without each op that it can do without, tried from the last to the first."""
        order = [operation.name for operation in reversed(self.flow.operations) if operation.name in kept]
        for name in order[:MOST_DROPS]:
            if self.with_ops(kept - {name}) >= self.limit_db:
                kept = kept - {name}
        return kept


class _Flow:
    """Which op makes a value and which take it. `rounded`: what the file declares as fp16."""

    def __init__(self, function: Function) -> None:
        self.function = function
        movable = [entry for entry in function.block.operations if is_movable(entry)]
        self.operations = [entry for entry in movable if entry.type not in _GLUE]
        self.maker = {name: operation for operation in movable for name in tensors(operation)}
        self.takers: dict[str, list[Operation]] = {name: [] for name in self.maker}
        for operation in function.block.operations:
            for name in uses(operation):
                if name in self.takers:
                    self.takers[name].append(operation)
        self.rounded = [
            name
            for operation in movable
            for name, type_ in tensors(operation).items()
            if type_.dtype == "fp16"
        ]

    def around(self, values: Collection[str]) -> set[str]:
        """The names of the ops that make and take these values."""
        found = [operation for name in values for operation in (self.maker[name], *self.takers[name])]
        return {operation.name for operation in found if operation.type not in _GLUE}

    def between(self, kept: Collection[str]) -> set[str]:
        """The values that are not rounded when these ops are in float32."""

        def free(operation: Operation) -> bool:
            return operation.type in _GLUE or operation.name in kept

        return {
            name
            for name, maker in self.maker.items()
            if free(maker) and all(map(free, self.takers[name])) and self._has_op(name)
        }

    def _has_op(self, name: str) -> bool:
        """A value between two casts is rounded by them."""
        return any(entry.type not in _GLUE for entry in (self.maker[name], *self.takers[name]))
