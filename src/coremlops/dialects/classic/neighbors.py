"""k-nearest-neighbour classifiers.

The index (a plain list or a k-d tree) is a way to be fast and changes no answer, so it is not read.
Source: `NearestNeighbors.proto`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from coremlops.dialects.classic.numbers import Array, Labels, class_labels
from coremlops.errors import ModelFormatError


@dataclass(frozen=True, slots=True, eq=False)
class NearestNeighbors:
    """`samples` [n, dimensions] float32, with one label each in `sample_labels`; `k` neighbours vote.

    `inverse_distance`: a vote weighs 1 / squared distance; else all weigh the same. `default`: the label of
    a model without samples; None when it names none.
    """

    samples: Array
    sample_labels: Labels
    k: int
    inverse_distance: bool
    default: str | int | None


def read_nearest_neighbors(message: Any, *, where: str) -> NearestNeighbors:
    """A `KNearestNeighborsClassifier`. Raises ModelFormatError."""
    index = message.nearestNeighborsIndex
    width, count = index.numberOfDimensions, len(index.floatSamples)
    lengths = {len(sample.vector) for sample in index.floatSamples}
    if width < 1 or lengths - {width}:
        raise ModelFormatError(f"{where}: samples of {sorted(lengths)} numbers in {width} dimensions")
    flat = (value for sample in index.floatSamples for value in sample.vector)
    labels = class_labels(message)
    if len(labels) != count:
        raise ModelFormatError(f"{where}: {len(labels)} labels for {count} samples")
    k = message.numberOfNeighbors.defaultValue
    if k < 1:
        raise ModelFormatError(f"{where}: {k} neighbours; expected 1 or more")
    chosen = message.WhichOneof("DefaultClassLabel")
    default = None if chosen is None else getattr(message, chosen)
    if not count and default is None:
        raise ModelFormatError(f"{where}: neither samples nor a default label")
    return NearestNeighbors(
        samples=np.fromiter(flat, np.float32, count * width).reshape(count, width),
        sample_labels=labels,
        k=k,
        inverse_distance=message.WhichOneof("WeightingScheme") == "inverseDistanceWeighting",
        default=default,
    )
