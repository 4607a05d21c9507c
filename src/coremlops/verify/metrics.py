"""Task metrics: what a model is for, as numbers per example.

A metric is a function `(outputs, truths) -> numbers`: `outputs` a list with what `predict` gives for each
example, by the model's names, `truths` a list of as many right answers; the result is one number an example,
or [examples, 2] for a ratio, errors and words say, that is summed before it is divided. It is called with a
few examples at a time. `module:function` names one of the user's; these are here:

    accuracy           1 where the label, or the largest value, is the truth's
    correlation        Pearson's, of the first output with the truth
    snr                signal to noise of the first output against the truth, dB
    token_errors       edits from the tokens to the truth's, over the truth's length: a word error rate
    average_precision  of `coordinates` and `confidence` of Core ML's detectors, at an overlap of 0.5
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from coremlops.errors import DataError, UsageError
from coremlops.source import user_object
from coremlops.verify.intervals import Interval, first_mean, resampled, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

Outputs: TypeAlias = Mapping[str, Any]
Function: TypeAlias = Callable[[list[Outputs], list[Any]], Any]

CHUNK = 64
OVERLAP = 0.5


@dataclass(frozen=True, slots=True)
class Metric:
    """A named metric. `name` is that of gates and reports: `accuracy`, or a user's function's own."""

    name: str
    function: Function

    def __call__(self, outputs: Sequence[Outputs], truths: Sequence[Any]) -> NDArray[np.float64]:
        """[examples, 1] or [examples, 2]. Raises UsageError for a function that gives anything else."""
        try:
            found = self.function(list(outputs), list(truths))
        except (DataError, UsageError):
            raise
        except Exception as error:  # a user's function raises what it likes
            raise UsageError(
                f"the metric {self.name} raised {type(error).__name__}: {str(error)[:200]}",
                hint="it is called with (outputs, truths), two lists of equal length",
            ) from error
        try:
            values = np.asarray(found, np.float64)
        except (TypeError, ValueError):
            values = np.empty(())
        count = len(outputs)
        if values.shape not in ((count,), (count, 1), (count, 2)):
            raise UsageError(
                f"the metric {self.name}: a number an example expected, [{count}] or [{count}, 2], "
                f"got {list(values.shape) if values.ndim else type(found).__name__}"
            )
        if not np.isfinite(values).all():
            raise UsageError(f"the metric {self.name}: finite numbers expected, got {values.ravel()[:4]}")
        return values.reshape(count, -1)


@dataclass(frozen=True, slots=True)
class Measured:
    """A metric of both sides. `model`, `source`: the averages; `drop`: the source's less the model's, paired.

    Intervals hold with the report's confidence, None for too few examples.
    """

    name: str
    model: float
    source: float
    model_interval: Interval | None
    source_interval: Interval | None
    drop: float
    drop_interval: Interval | None

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "model": self.model,
            "source": self.source,
            "model_interval": self.model_interval and list(self.model_interval),
            "source_interval": self.source_interval and list(self.source_interval),
            "drop": self.drop,
            "drop_interval": self.drop_interval and list(self.drop_interval),
        }


def measured(name: str, model: NDArray[Any], source: NDArray[Any], confidence: float) -> Measured:
    """From numbers per example of both sides, each [examples, 1 or 2]."""
    both = np.concatenate([model, source], axis=1)
    ratio = model.shape[1] == 2

    def of(means: NDArray[Any], place: int) -> NDArray[Any]:
        values: NDArray[Any] = means[:, place] / means[:, place + 1] if ratio else means[:, place]
        return values

    def drop(means: NDArray[Any]) -> NDArray[Any]:
        lost: NDArray[Any] = of(means, model.shape[1]) - of(means, 0)
        return lost

    if model.shape != source.shape or (ratio and not (model[:, 1].any() and source[:, 1].any())):
        raise UsageError(f"the metric {name}: the same kind of numbers for both sides expected, not all 0")
    share = not ratio and bool(np.isin(both, (0, 1)).all())  # both sides', or a perfect source looks like one
    value = float(of(model.mean(0)[None], 0)[0]), float(of(source.mean(0)[None], 0)[0])
    return Measured(
        name,
        *value,
        _interval(model, confidence, share),
        _interval(source, confidence, share),
        value[1] - value[0],
        resampled(both, drop, confidence),
    )


def _interval(values: NDArray[Any], confidence: float, share: bool) -> Interval | None:
    if values.shape[1] == 2:
        return resampled(values, lambda means: means[:, 0] / means[:, 1], confidence)
    if share:
        return wilson(int(values.sum()), len(values), confidence)
    return resampled(values, first_mean, confidence)


def open_metric(text: str) -> Metric:
    """A metric by its name here, or `module:function`. Raises UsageError."""
    if ":" in text:
        function = user_object(text)
        if not callable(function):
            raise UsageError(f"{text}: a function (outputs, truths) expected, got {type(function).__name__}")
        return Metric(text.partition(":")[2], function)
    if text not in METRICS:
        raise UsageError(f"no metric {text!r}", hint=f"module:function, or one of {', '.join(METRICS)}")
    return Metric(text, METRICS[text])


def accuracy(outputs: list[Outputs], truths: list[Any]) -> list[float]:
    return [float(_label(given) == str(truth)) for given, truth in zip(outputs, truths, strict=True)]


def correlation(outputs: list[Outputs], truths: list[Any]) -> list[float]:
    found = []
    for given, truth in zip(outputs, truths, strict=True):
        one, other = _numbers(given, truth)
        one, other = one - one.mean(), other - other.mean()
        size = float(np.sqrt((one**2).sum() * (other**2).sum()))
        found.append(float((one * other).sum()) / size if size else 0.0)
    return found


def snr(outputs: list[Outputs], truths: list[Any]) -> list[float]:
    from coremlops.verify.statistics import difference

    found = []
    for given, truth in zip(outputs, truths, strict=True):
        got, expected = _numbers(given, truth)
        found.append(difference(expected, got).snr_db)
    return found


def token_errors(outputs: list[Outputs], truths: list[Any]) -> list[list[float]]:
    """Whole numbers are tokens; of floats [..., tokens, vocabulary] the largest. Truths: whole numbers."""
    found = []
    for given, truth in zip(outputs, truths, strict=True):
        array = np.asarray(next(iter(given.values())))
        tokens = array.argmax(-1) if array.dtype.kind == "f" else array
        wanted = np.asarray(truth).ravel().tolist()
        found.append([float(_edits(tokens.ravel().tolist(), wanted)), float(len(wanted))])
    return found


def average_precision(outputs: list[Outputs], truths: list[Any]) -> list[float]:
    """Of each picture, averaged over its classes: a truth is rows of (class, x, y, width, height).

    x and y are of a box's middle. `confidence` is [boxes, classes], `coordinates` [boxes, 4].
    """
    return [_precision(given, np.asarray(truth)) for given, truth in zip(outputs, truths, strict=True)]


def _precision(given: Outputs, truth: NDArray[Any]) -> float:
    if truth.ndim != 2 or truth.shape[1] != 5 or not {"confidence", "coordinates"} <= set(given):
        raise DataError(
            "average_precision: outputs `confidence` and `coordinates`, truths [boxes, 5] expected, got "
            f"{', '.join(given)} and {list(truth.shape)}"
        )
    scores, boxes = np.asarray(given["confidence"]), np.asarray(given["coordinates"])
    found = []
    for kind in np.unique(truth[:, 0]).astype(int):
        wanted = truth[truth[:, 0] == kind, 1:]
        order = [i for i in np.argsort(-scores[:, kind], kind="stable") if scores[i, kind] > 0]
        free = np.ones(len(wanted), bool)
        hits, precision = 0, 0.0
        for rank, i in enumerate(order, start=1):
            overlaps = np.where(free, [_overlap(boxes[i], box) for box in wanted], 0)
            best = int(overlaps.argmax())
            if overlaps[best] >= OVERLAP:
                free[best] = False
                hits += 1
                precision += hits / rank
        found.append(precision / len(wanted))
    return float(np.mean(found)) if found else float(not (scores > 0).any())


def _overlap(one: NDArray[Any], other: NDArray[Any]) -> float:
    low = np.maximum(one[:2] - one[2:] / 2, other[:2] - other[2:] / 2)
    high = np.minimum(one[:2] + one[2:] / 2, other[:2] + other[2:] / 2)
    common = float(np.prod(np.maximum(high - low, 0)))
    whole = float(np.prod(one[2:]) + np.prod(other[2:])) - common
    return common / whole if whole else 0.0


def _edits(one: list[int], other: list[int]) -> int:
    """Levenshtein's distance."""
    row = list(range(len(other) + 1))
    for i, left in enumerate(one, start=1):
        before, row[0] = row[0], i
        for j, right in enumerate(other, start=1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (left != right))
    return row[-1]


def _label(given: Outputs) -> str:
    for value in given.values():
        if isinstance(value, str):
            return value
    for value in given.values():
        if isinstance(value, Mapping):
            return str(max(value, key=lambda label: value[label]))
    value = np.asarray(next(iter(given.values())))
    return str(int(value.argmax())) if value.size > 1 else str(value.item())


def _numbers(given: Outputs, truth: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    array = np.asarray(next(value for value in given.values() if not isinstance(value, str | Mapping)))
    wanted = np.asarray(truth)
    if array.size != wanted.size or wanted.dtype.kind not in "biuf":
        raise DataError(
            f"truths of {array.size} numbers expected, as the output has, got {wanted.size} of {wanted.dtype}"
        )
    return array.ravel().astype(np.float64), wanted.ravel().astype(np.float64)


METRICS: dict[str, Function] = {
    "accuracy": accuracy,
    "correlation": correlation,
    "snr": snr,
    "token_errors": token_errors,
    "average_precision": average_precision,
}
