"""Which answers are compared: outputs that belong together, as arrays of one shape."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coremlops.model import ModelDescription


@dataclass(frozen=True, slots=True)
class Classes:
    """A classifier's outputs: the names of its label and its probabilities; `labels` in the other's order."""

    label: str
    probabilities: str
    labels: tuple[str, ...]


def classes_of(description: ModelDescription, labels: tuple[str, ...]) -> Classes | None:
    """None for what is no classifier with probabilities."""
    if not (labels and description.predicted_label and description.predicted_probabilities):
        return None
    return Classes(description.predicted_label, description.predicted_probabilities, labels)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Outputs of the model, each with the name that it has on the other side; `left_out`: of the model."""

    names: tuple[tuple[str, str], ...]
    left_out: tuple[str, ...]


def pair(ours: Sequence[str], theirs: Sequence[str], asked: Mapping[str, str]) -> Pairs:
    """Pair outputs: as `asked`, by name, or by position when no name fits. Raises InputError.

    Core ML has letters, digits and _: `y/out:0` is `y_out_0` there.
    """
    for one, other in asked.items():
        if one not in ours or other not in theirs:
            raise InputError(
                f"no pair of outputs {one}={other}; the model has {', '.join(ours)}, the other side "
                f"{', '.join(theirs)}"
            )
    named = {_word(name): name for name in theirs} | {name: name for name in theirs}
    pairs = list(asked.items()) or [(name, named[name]) for name in ours if name in named]
    if not pairs and len(ours) == len(theirs):
        pairs = list(zip(ours, theirs, strict=True))
    if not pairs:
        raise InputError(
            f"outputs that belong together expected; the model has {', '.join(ours)}, the other side "
            f"{', '.join(theirs)}",
            hint="say which: --pair MODEL_OUTPUT=SOURCE_OUTPUT",
        )
    paired = {name for name, _ in pairs}
    return Pairs(tuple(pairs), tuple(name for name in ours if name not in paired))


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name, flags=re.ASCII)


def arrays_of(expected: Any, got: Any, where: str) -> tuple[NDArray[Any], NDArray[Any]] | None:
    """Both sides of an output in one shape, dictionaries by key; None for a label. Raises InputError."""
    if isinstance(expected, Mapping) and isinstance(got, Mapping):
        by_key = {str(key): value for key, value in got.items()}
        keys = [str(key) for key in expected]
        if set(by_key) != set(keys):
            differ = sorted(set(by_key) ^ set(keys))[:6]
            raise InputError(
                f"{where}: the keys of the other side expected; not in both: {', '.join(differ)}"
            )
        got = {key: by_key[key] for key in keys}
    one, two = as_array(expected), as_array(got)
    return None if one is None or two is None else alike(one, two, where)


def as_array(value: Any) -> NDArray[Any] | None:
    """Numbers of an output, a picture or a dictionary in its own order; None for a label."""
    if isinstance(value, str):
        return None
    if isinstance(value, Mapping):
        return np.array(list(value.values()), np.float64)
    array = np.asarray(value)
    if array.dtype.kind not in "biufc":
        return None
    return array.astype(np.float64) if array.dtype.kind == "b" else array


def alike(expected: NDArray[Any], got: NDArray[Any], where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both in one shape; axes of length 1 do not count. Raises InputError, also where NaN is expected."""
    if [size for size in expected.shape if size != 1] != [size for size in got.shape if size != 1]:
        raise InputError(
            f"{where}: the shape {list(expected.shape)} expected, as on the other side, got {list(got.shape)}"
        )
    if np.isnan(expected).any():
        raise InputError(f"{where}: the other side answers with values that are not finite")
    got = got.reshape(expected.shape)
    endless = np.isinf(expected)
    if endless.any():  # log-probabilities may be -inf: equal where both are
        if (expected[endless] != got[endless]).any():
            return np.where(endless, 0, expected), np.where(endless, np.nan, got)
        return np.where(endless, 0, expected), np.where(endless, 0, got)
    return expected, got


def classifier_answer(
    outputs: Mapping[str, Any], classes: Classes, asked: Mapping[str, str], name: str
) -> tuple[str, NDArray[np.float64]]:
    """(label, [labels]) of either side: a Core ML classifier's, or a source's row of probabilities.

    Raises InputError for a source that has no such row.
    """
    key = asked.get(classes.probabilities, classes.probabilities)
    shares = outputs.get(key)
    if shares is None:
        rows = [value for value in outputs.values() if np.size(value) == len(classes.labels)]
        shares = rows[0] if rows else next(iter(outputs.values()), None)
    count = len(classes.labels)
    if isinstance(shares, Mapping):
        said = {str(label): float(share) for label, share in shares.items()}
        missing = [label for label in classes.labels if label not in said]
        if missing:
            raise InputError(f"{name}: a probability of each label expected, none of {missing[0]!r}")
        row = np.array([said[label] for label in classes.labels])
    else:
        array = np.asarray(shares, np.float64)
        if array.shape not in ((1, count), (count,)):
            raise InputError(
                f"the source: one probability a label expected, [1, {count}], got {list(array.shape)}"
            )
        row = array.reshape(count)
    label = outputs.get(classes.label)
    return (classes.labels[int(np.argmax(row))] if label is None else str(label)), row
