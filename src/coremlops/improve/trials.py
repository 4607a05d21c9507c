"""A program whose weights are exchanged between two runs: nothing is written, read or parsed for a candidate.

One weight at a time is an input of the session, so that all that could become of it goes through one session;
a whole recipe's weights are constants of a session of its own, which the engine arranges as it does any.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from coremlops.compress.weights import Found, find_weights, values_of
from coremlops.dialects.mil import Function, Immediate, NamedType, Operation, TensorType
from coremlops.errors import InputError, ModelError, UnsupportedOpsError
from coremlops.lower import Lowered, lower_function
from coremlops.runtime import memory
from coremlops.runtime.session import Session
from coremlops.verify.locate.numeric import powers
from coremlops.verify.locate.program import Program, Values
from coremlops.verify.locate.switches import outputs_of
from coremlops.verify.statistics import UNDECIDED_NATS, log_odds

if TYPE_CHECKING:
    from numpy.typing import NDArray

Replaced: TypeAlias = "Mapping[str, NDArray[Any]]"  # what some weights become, by the weight's name


@dataclass(slots=True)
class Noise:
    """How far outputs are from what is expected, summed over samples.

    `power` of the expected values and `error` of the difference, by output; a classifier's probabilities are
    compared as log-odds, and `agreed` counts its equal first labels.
    """

    power: dict[str, float] = field(default_factory=dict)
    error: dict[str, float] = field(default_factory=dict)
    agreed: int = 0
    samples: int = 0

    def add(self, expected: Values, got: Values, probabilities: str) -> None:
        """One sample more."""
        self.samples += 1
        for name, first in expected.items():
            second, floor = got[name], 0.0
            if second.shape != first.shape and second.size == first.size:
                second = second.reshape(first.shape)
            if second.shape != first.shape:
                raise InputError(
                    f"{name}: {list(first.shape)} expected, as the source gives it, got {list(second.shape)}"
                )
            if name == probabilities:
                self.agreed += int(np.argmax(first) == np.argmax(second))
                first, second = log_odds(first.reshape(1, -1)), log_odds(second.reshape(1, -1))
                floor = first.size * UNDECIDED_NATS**2
            power, error = powers(first, second)
            self.power[name] = self.power.get(name, 0.0) + max(power, floor)
            self.error[name] = self.error.get(name, 0.0) + error

    @property
    def ratio(self) -> float:
        """The error's power over the signal's, of the worst output; infinite for what is no number."""
        return max((_ratio(self.error[name], self.power[name]) for name in self.power), default=0.0)


def _ratio(error: float, power: float) -> float:
    return error / power if power else (np.inf if error else 0.0)


class Trials:
    """`found`: the weights that can be exchanged, by name: those of the function outside of nested blocks."""

    def __init__(self, program: Program, feeds: Sequence[Values]) -> None:
        """Outputs are held against this model's own in float32. Raises ModelError and InputError."""
        if len(program.asset.spec.mlProgram.functions) > 1:
            raise ModelError(
                f"{program.asset.path}: one function expected, got several, which share their weights",
                hint="search one of them, and give its recipe to `coremlops compress --recipe`",
            )
        if not feeds:
            raise InputError("no calibration data; a weight's worth is measured by executing the model")
        self.program = program
        outer = {entry.outputs[0].name for entry in program.function.block.operations if entry.outputs}
        entries = (entry for entry in find_weights(program.asset) if entry.value in outer)
        self.found: dict[str, Found] = {entry.weight.name: entry for entry in entries}
        self.feeds = feeds
        self.lowered = self._lower(program.function)
        self.probabilities = self.lowered.classifier.source if self.lowered.classifier is not None else ""
        session = self._session(self.lowered)
        self.own = [_floats(outputs_of(self.lowered, session.run(feed))) for feed in feeds]
        self.hold_against(self.own)

    def hold_against(self, expected: Sequence[Values]) -> None:
        """Compare with these outputs from now on, one mapping a sample."""
        self.expected = list(expected)
        self.unchanged = self._noise(self.own)

    def values(self, name: str) -> NDArray[Any]:
        """A weight as the file holds it."""
        return values_of(self.program.asset, self.found[name])

    def each(self, name: str, candidates: Sequence[NDArray[Any]]) -> Iterator[Noise]:
        """The noise when one weight alone is each of these."""
        weight = self.found[name]
        try:
            lowered = self._lower(_opened(self.program.function, weight))
        except UnsupportedOpsError:  # an op that wants it as a constant: a recurrent net's
            for value in candidates:
                yield self.together({name: value})
            return
        session = self._session(lowered)
        for value in candidates:
            given = {weight.value: np.ascontiguousarray(value, np.float32)}
            yield self._noise(outputs_of(lowered, session.run({**feed, **given})) for feed in self.feeds)

    def together(self, replaced: Replaced) -> Noise:
        """The noise when all of these weights are replaced."""
        values = {self.found[name].value: value for name, value in replaced.items()}
        lowered = self._lower(_replaced(self.program.function, values))
        session = self._session(lowered)
        return self._noise(outputs_of(lowered, session.run(feed)) for feed in self.feeds)

    def _lower(self, function: Function) -> Lowered:
        asset = self.program.asset
        most = memory.constant_bytes(2 * asset.package.bytes)
        return lower_function(
            function,
            self.program.read_blob,
            precision="float32",
            where=str(asset.path),
            most_bytes=most,
        )

    def _session(self, lowered: Lowered) -> Session:
        # One thread: candidates run beside each other, and the same one gives the same bits each time.
        return Session(lowered, threads=1, locate=self.program.asset.locate)

    def _noise(self, results: Iterator[Values] | list[Values]) -> Noise:
        noise = Noise()
        for expected, got in zip(self.expected, results, strict=True):
            noise.add(expected, got, self.probabilities)
        return noise


def _floats(values: Values) -> Values:
    """Labels and counts say nothing about noise."""
    found = {name: value for name, value in values.items() if value.dtype.kind == "f"}
    if not found:
        raise ModelError("the model has no output of floats, so there is no noise to measure")
    return found


def _opened(function: Function, weight: Found) -> Function:
    """The function with a weight as an input."""
    kept = tuple(entry for entry in function.block.operations if not _makes(entry, (weight.value,)))
    added = NamedType(weight.value, TensorType("fp32", weight.weight.shape))
    return replace(function, inputs=(*function.inputs, added), block=replace(function.block, operations=kept))


def _replaced(function: Function, values: Replaced) -> Function:
    """The function with other constants."""
    operations = []
    for entry in function.block.operations:
        if _makes(entry, values):
            value = np.asarray(values[entry.outputs[0].name], np.float32)
            held = Immediate(TensorType("fp32", value.shape), value)
            entry = replace(
                entry,
                attributes={**entry.attributes, "val": held},
                outputs=(replace(entry.outputs[0], type=held.type),),
            )
        operations.append(entry)
    return replace(function, block=replace(function.block, operations=tuple(operations)))


def _makes(operation: Operation, names: Mapping[str, Any] | tuple[str, ...]) -> bool:
    return operation.type == "const" and operation.outputs[0].name in names
