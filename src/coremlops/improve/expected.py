"""What a model's outputs should be by its source, and how near a file on disk comes to that."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.errors import InputError
from coremlops.improve.trials import Noise, Trials
from coremlops.source.reference import Reference
from coremlops.source.samples import Samples, feed
from coremlops.verify.locate.program import Program, Values
from coremlops.verify.locate.switches import outputs_of


def expected_outputs(reference: Reference, data: Samples, trials: Trials) -> list[Values]:
    """The source's outputs under the model's names, one mapping a sample.

    By name where the source has them, by position where it has as many. Raises InputError.
    """
    names = list(trials.expected[0])
    labels = trials.lowered.classifier.labels if trials.lowered.classifier is not None else ()
    found = []
    for sample in data:
        given = reference(feed(sample, reference))
        arrays = {name: _array(value, labels) for name, value in given.items()}
        floats = {name: value for name, value in arrays.items() if value.dtype.kind == "f"}
        if set(names) <= set(floats):
            found.append({name: floats[name] for name in names})
        elif len(names) == len(floats):
            found.append(dict(zip(names, floats.values(), strict=True)))
        else:
            raise InputError(
                f"{reference.name}: the outputs {', '.join(names)} expected, "
                f"got {', '.join(floats) or 'none'}",
                hint="a model's own outputs in float32 are what it is held against without --against",
            )
        broken = [name for name, value in found[-1].items() if np.isnan(value).any()]
        if broken:
            raise InputError(f"{reference.name}: {sample.name}: {broken[0]} is no number")
    return found


def _array(value: Any, labels: Sequence[Any]) -> np.ndarray[Any, Any]:
    if isinstance(value, dict):  # a classifier's probabilities by label
        missing = [label for label in labels if label not in value]
        if missing:
            raise InputError(f"the source has no probability of {missing[0]!r}")
        return np.array([[value[label] for label in labels]], np.float32)
    return np.asarray(value)


def prove(path: Path, data: Samples, trials: Trials) -> Noise:
    """The noise of a file, executed in the types that it declares, against what the search expected."""
    program = Program(path)
    lowered = program.lower(program.function, "typed")
    session = program.open(program.function, "typed")
    noise = Noise()
    for sample, expected in zip(data, trials.expected, strict=True):
        got = outputs_of(lowered, session.run(program.feeds(feed(sample, program.description))))
        noise.add(expected, got, trials.probabilities)
    return noise
