"""Feature transforms: what stands between a caller's features and a model's.

Source: `Imputer.proto`, `Scaler.proto`, `Normalizer.proto`, `OneHotEncoder.proto`, `DictVectorizer.proto`,
`FeatureVectorizer.proto`, `ArrayFeatureExtractor.proto`, `CategoricalMapping.proto`, `Identity.proto`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from coremlops.dialects.classic.numbers import Array, Labels, enum_name, vector
from coremlops.errors import ModelFormatError

MAX_VECTOR = 1 << 24  # elements of a vector that a model may ask for


@dataclass(frozen=True, slots=True, eq=False)
class Imputer:
    """Values that are missing become `imputed`: an array, a number, a string or a dictionary.

    `replace`: the value that means "missing"; None means NaN, or what is not given at all.
    """

    imputed: Array | float | int | str | Mapping[str, float] | Mapping[int, float]
    replace: float | int | str | None


@dataclass(frozen=True, slots=True, eq=False)
class Scaler:
    """`scale * (x + shift)`; each of one element, for all, or of one for each element of x."""

    shift: Array
    scale: Array


@dataclass(frozen=True, slots=True)
class Normalizer:
    """x divided by its norm: `LMax` (the largest element), `L1` or `L2`."""

    norm: str


@dataclass(frozen=True, slots=True)
class OneHotEncoder:
    """The place of a category as an array with a single one, or (`sparse`) as the dictionary {place: 1}.

    `ignore_unknown`: a category that is not there gives zeros, else an error.
    """

    categories: Labels
    sparse: bool
    ignore_unknown: bool


@dataclass(frozen=True, slots=True)
class DictVectorizer:
    """A dictionary's values, each at the place of its key (in an array, or a dictionary again).

    Keys that are not there are left out.
    """

    keys: Labels


@dataclass(frozen=True, slots=True)
class FeatureVectorizer:
    """Features one after another in one array: (name, number of elements) each."""

    columns: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ArrayFeatureExtractor:
    """The elements of an array at `indices`."""

    indices: Array


@dataclass(frozen=True, slots=True)
class CategoricalMapping:
    """Strings to integers or back. `unknown`: for what is not there; None raises."""

    mapping: Mapping[str, int] | Mapping[int, str]
    unknown: str | int | None


@dataclass(frozen=True, slots=True)
class Identity:
    """Features out as they came in."""


def read_imputer(message: Any, *, where: str) -> Imputer:
    """An `Imputer`. Raises ModelFormatError."""
    kind, replaced = message.WhichOneof("ImputedValue"), message.WhichOneof("ReplaceValue")
    if kind is None:
        raise ModelFormatError(f"{where}: the imputer has no value to impute")
    value = getattr(message, kind)
    imputed: Any = value
    if kind.endswith("Array"):
        imputed = vector(value.vector, np.float64 if kind == "imputedDoubleArray" else np.int64)
    elif kind.endswith("Dictionary"):
        imputed = dict(value.map)
    return Imputer(imputed, None if replaced is None else getattr(message, replaced))


def read_scaler(message: Any, *, where: str) -> Scaler:
    """A `Scaler`. Raises ModelFormatError."""
    shift = vector(message.shiftValue) if message.shiftValue else np.zeros(1)
    scale = vector(message.scaleValue) if message.scaleValue else np.ones(1)
    if 1 not in (len(shift), len(scale)) and len(shift) != len(scale):
        raise ModelFormatError(f"{where}: {len(shift)} shifts and {len(scale)} scales")
    return Scaler(shift, scale)


def read_normalizer(message: Any, *, where: str) -> Normalizer:
    """A `Normalizer`. Raises ModelFormatError."""
    return Normalizer(enum_name(message, "normType", where=where))


def read_one_hot_encoder(message: Any, *, where: str) -> OneHotEncoder:
    """A `OneHotEncoder`. Raises ModelFormatError."""
    chosen = message.WhichOneof("CategoryType")
    if chosen is None:
        raise ModelFormatError(f"{where}: the one-hot encoder has no categories")
    unknown = enum_name(message, "handleUnknown", where=where)
    categories = tuple(getattr(message, chosen).vector)
    return OneHotEncoder(categories, message.outputSparse, unknown == "IgnoreUnknown")


def read_dict_vectorizer(message: Any, *, where: str) -> DictVectorizer:
    """A `DictVectorizer`. Raises ModelFormatError."""
    chosen = message.WhichOneof("Map")
    if chosen is None:
        raise ModelFormatError(f"{where}: the dictionary vectorizer has no keys")
    return DictVectorizer(tuple(getattr(message, chosen).vector))


def read_feature_vectorizer(message: Any, *, where: str) -> FeatureVectorizer:
    """A `FeatureVectorizer`. Raises ModelFormatError."""
    columns = tuple((entry.inputColumn, entry.inputDimensions) for entry in message.inputList)
    if any(size < 1 for _, size in columns) or sum(size for _, size in columns) > MAX_VECTOR:
        raise ModelFormatError(
            f"{where}: a feature vector of {sum(size for _, size in columns)} elements; "
            f"expected at least one a feature, at most {MAX_VECTOR} together"
        )
    return FeatureVectorizer(columns)


def read_array_feature_extractor(message: Any, *, where: str) -> ArrayFeatureExtractor:
    """An `ArrayFeatureExtractor`. Raises ModelFormatError."""
    if not message.extractIndex or max(message.extractIndex) >= MAX_VECTOR:
        raise ModelFormatError(f"{where}: the array feature extractor has no index, or one past {MAX_VECTOR}")
    return ArrayFeatureExtractor(vector(message.extractIndex, np.int64))


def read_categorical_mapping(message: Any, *, where: str) -> CategoricalMapping:
    """A `CategoricalMapping`. Raises ModelFormatError."""
    chosen, unknown = message.WhichOneof("MappingType"), message.WhichOneof("ValueOnUnknown")
    if chosen is None:
        raise ModelFormatError(f"{where}: the categorical mapping maps nothing")
    gives = {"stringToInt64Map": "int64Value", "int64ToStringMap": "strValue"}[chosen]
    if unknown not in (None, gives):
        raise ModelFormatError(f"{where}: a {chosen} with a default of the other type, {unknown}")
    value = None if unknown is None else getattr(message, unknown)
    return CategoricalMapping(dict(getattr(message, chosen).map), value)


def read_identity(message: Any, *, where: str) -> Identity:
    """An `Identity`."""
    return Identity()
