"""What the values inside a model really are: executed in float32, and looked at with float16 in mind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.lint.subject import Body, Part, size_bytes
from coremlops.source import Samples, feed

FP16_MAX = 65504.0
FP16_ZERO = 2.0**-25  # what is not larger rounds to 0
MAX_GROUP_BYTES = 256 << 20  # of inner values that one prediction gives
MAX_GROUP = 1000


@dataclass(frozen=True, slots=True)
class Range:
    """What an inner value was, over all samples.

    `largest`: the greatest finite absolute value. `nan`, `infinite`: whether there was one. `vanished`: the
    share of the values that are not 0 and that float16 rounds to 0.
    """

    largest: float
    nan: bool
    infinite: bool
    vanished: float

    def joined(self, other: Range) -> Range:
        return Range(
            max(self.largest, other.largest),
            self.nan or other.nan,
            self.infinite or other.infinite,
            max(self.vanished, other.vanished),
        )


@dataclass(frozen=True, slots=True)
class Observed:
    """Ranges by the name of the inner value. `about` says on what data; `random` when nobody's."""

    ranges: Mapping[str, Range]
    about: str
    count: int
    random: bool


def measure(values: Any) -> Range:
    """The range of one array."""
    array = np.asarray(values)
    finite = np.isfinite(array)
    sizes = np.abs(array, where=finite, out=np.zeros(array.shape, array.dtype))
    there = np.count_nonzero(sizes)
    gone = np.count_nonzero((sizes > 0) & (sizes <= FP16_ZERO))
    return Range(
        float(sizes.max(initial=0)),
        bool(np.isnan(array).any()),
        bool(np.isinf(array).any()),
        gone / there if there else 0.0,
    )


def observe(part: Part, samples: Samples, progress: Callable[[int, int], None] | None = None) -> Observed:
    """Execute the model in float32 on each sample and measure its inner values.

    All of a program that lie outside of blocks, what a network's layers give, features between the members
    of a pipeline. A few at a time, so that memory stays bounded. Raises what loading and predicting raise.
    """
    from coremlops.runtime import load

    path: Path = part.asset.path
    model = load(path, precision="float32")
    groups = list(_groups(model.inner_names, _sizes(part)))
    found: dict[str, Range] = {}
    done, total = 0, len(groups) * len(samples)
    for group in groups:
        for sample in samples:
            given = feed(sample, model.description)
            state = model.make_state() if model.description.states else None
            results = model.predict(given, state=state, intermediates=group)
            for name in group:
                value = results.get(name)
                if isinstance(value, np.ndarray) and value.dtype.kind == "f":
                    now = measure(value)
                    found[name] = found[name].joined(now) if name in found else now
            done += 1
            if progress is not None:
                progress(done, total)
    return Observed(found, samples.about, len(samples), "random" in samples.about)


def _sizes(part: Part) -> dict[str, int]:
    """The declared bytes of a program's values."""
    return {
        entry.name: size_bytes(entry.type)
        for body in part.bodies
        if not body.part
        for op in body.ops
        for entry in op.operation.outputs
    }


def _groups(names: Sequence[str], sizes: Mapping[str, int]) -> Iterator[tuple[str, ...]]:
    """The names in their order, cut so that a group stays small."""
    group: list[str] = []
    held = 0
    for name in names:
        size = sizes.get(name, 1 << 20)
        if group and (held + size > MAX_GROUP_BYTES or len(group) == MAX_GROUP):
            yield tuple(group)
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield tuple(group)


def narrow(bodies: Iterable[Body]) -> frozenset[str]:
    """The values that a program types fp16."""
    return frozenset(
        entry.name
        for body in bodies
        if not body.part
        for op in body.ops
        for entry in op.operation.outputs
        if getattr(entry.type, "dtype", "") == "fp16"
    )
