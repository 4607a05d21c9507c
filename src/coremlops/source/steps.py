"""Transforms of a row of numbers before a predictor, fitted, as values: scikit-learn's Pipeline.

Each is one of Core ML's classic kinds. What they read is scikit-learn's own attributes after `fit`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeAlias

from coremlops.errors import ConversionError

_CONVERT = (
    "Pipeline of StandardScaler, MinMaxScaler, SimpleImputer, Normalizer and OneHotEncoder (one feature)"
)
_WITHOUT = "fit it on data that were transformed before, and do the same in the app"


@dataclass(frozen=True, slots=True)
class Scale:
    """`scale` [n] * (x + `shift` [n])."""

    shift: tuple[float, ...]
    scale: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Impute:
    """What is `missing` (NaN, or a number) becomes the value [n] at its place."""

    values: tuple[float, ...]
    missing: float


@dataclass(frozen=True, slots=True)
class Divide:
    """x divided by its norm: "L1", "L2" or "LMax", the largest element (not its size, as scikit-learn's)."""

    norm: str


@dataclass(frozen=True, slots=True)
class Pick:
    """The elements at these places."""

    places: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OneHot:
    """One category, a number or a text, to an array with a single one; zeros where it is unknown."""

    categories: tuple[str, ...] | tuple[int, ...]
    ignore_unknown: bool


Step: TypeAlias = Scale | Impute | Divide | Pick | OneHot


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """`steps` one after another on one array `input` [width] (of a OneHot: one category), then `last`."""

    width: int
    steps: tuple[Step, ...]
    last: Any


def flat(pipeline: Any) -> list[Any]:
    """The fitted steps of a Pipeline and of those within it; without those that let everything pass."""
    found: list[Any] = []
    for _, step in pipeline.steps:
        if type(step).__name__ == "Pipeline":
            found += flat(step)
        elif step is not None and step != "passthrough":
            found.append(step)
    return found


def read_step(step: Any, place: int, where: str) -> list[Step]:
    """What a fitted transform is made of. Raises ConversionError for one that Core ML cannot do."""
    kind = type(step).__name__
    reader = _READERS.get(kind)
    if reader is None:
        raise ConversionError(
            f"{where}: {kind} does not convert within a Pipeline",
            hint=f"those that do: {_CONVERT}; else {_WITHOUT}",
        )
    if kind == "OneHotEncoder" and place:
        raise ConversionError(
            f"{where}: OneHotEncoder as step {place + 1} does not convert", hint="it must come first"
        )
    return reader(step, where)


def _standard(step: Any, where: str) -> list[Step]:
    count = int(step.n_features_in_)
    mean = _floats(step.mean_) if step.with_mean else (0.0,) * count
    scale = _floats(1 / step.scale_) if step.with_std else (1.0,) * count
    return [Scale(tuple(-value for value in mean), scale)]


def _min_max(step: Any, where: str) -> list[Step]:
    if step.clip:
        raise ConversionError(
            f"{where}: MinMaxScaler(clip=True) does not convert: Core ML's scaler does not clip",
            hint="fit it with clip=False",
        )
    return [Scale(_floats(step.min_ / step.scale_), _floats(step.scale_))]


def _imputer(step: Any, where: str) -> list[Step]:
    if step.add_indicator or any(isinstance(value, str) for value in step.statistics_):
        what = "add_indicator=True" if step.add_indicator else "of texts"
        raise ConversionError(f"{where}: SimpleImputer {what} does not convert", hint=_WITHOUT)
    if not isinstance(step.missing_values, int | float):
        raise ConversionError(
            f"{where}: SimpleImputer(missing_values={step.missing_values!r}) does not convert",
            hint="fit it with NaN or a number",
        )
    values, found = _floats(step.statistics_), []
    if any(math.isnan(value) for value in values):  # a column of nothing is dropped
        kept = tuple(place for place, value in enumerate(values) if not math.isnan(value))
        found.append(Pick(kept))
        values = tuple(values[place] for place in kept)
    return [*found, Impute(values, float(step.missing_values))]


def _normalizer(step: Any, where: str) -> list[Step]:
    """The largest size is the largest of the elements and their negatives."""
    count = int(step.n_features_in_)
    if step.norm != "max":
        return [Divide(step.norm.upper())]
    places = tuple(range(count))
    signs = (1.0,) * count + (-1.0,) * count
    return [Pick(places * 2), Scale((0.0,) * 2 * count, signs), Divide("LMax"), Pick(places)]


def _one_hot(step: Any, where: str) -> list[Step]:
    if len(step.categories_) != 1:
        raise ConversionError(
            f"{where}: OneHotEncoder of {len(step.categories_)} features does not convert: Core ML takes one",
            hint="encode in the app and fit the predictor on the encoded data, or use trees of numbers",
        )
    categories, whole = step.categories_[0], step.categories_[0].dtype.kind in "iu"
    texts = all(isinstance(category, str) for category in categories)
    strange = ""
    if step.drop is not None:
        strange = "drop"
    elif step.handle_unknown not in ("error", "ignore") or step._infrequent_enabled:
        strange = "infrequent categories"
    elif not (whole or texts):
        strange = "categories that are neither whole numbers nor texts"
    if strange:
        raise ConversionError(f"{where}: OneHotEncoder with {strange} does not convert", hint=_WITHOUT)
    labels: Any = tuple(int(one) if whole else str(one) for one in categories)
    return [OneHot(labels, step.handle_unknown == "ignore")]


def _floats(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


_READERS = {
    "StandardScaler": _standard,
    "MinMaxScaler": _min_max,
    "SimpleImputer": _imputer,
    "Normalizer": _normalizer,
    "OneHotEncoder": _one_hot,
}
