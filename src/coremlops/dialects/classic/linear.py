"""Generalised linear models: a transform of `weights @ x + offset`, in double.

Source: `GLMClassifier.proto`, `GLMRegressor.proto`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from coremlops.dialects.classic.numbers import Array, Labels, class_labels, enum_name, matrix, vector
from coremlops.errors import ModelFormatError


@dataclass(frozen=True, slots=True, eq=False)
class LinearModel:
    """`weights` [rows, features], `offsets` [rows]; `transform`: `NoTransform`, `Logit` or `Probit`.

    A classifier has `labels` and an `encoding`. `ReferenceClass`: the rows score all classes but the first,
    whose score is 0; their probabilities are the softmax. `OneVsRest`: each row is one class against all
    others; two classes may share one row.
    """

    weights: Array
    offsets: Array
    transform: str
    labels: Labels | None = None
    encoding: str = ""


def read_linear_regressor(message: Any, *, where: str) -> LinearModel:
    """A `GLMRegressor`. Raises ModelFormatError."""
    return LinearModel(
        *_rows(message, where=where), enum_name(message, "postEvaluationTransform", where=where)
    )


def read_linear_classifier(message: Any, *, where: str) -> LinearModel:
    """A `GLMClassifier`. Raises ModelFormatError."""
    weights, offsets = _rows(message, where=where)
    labels, rows = class_labels(message), len(weights)
    encoding = enum_name(message, "classEncoding", where=where)
    transform = enum_name(message, "postEvaluationTransform", where=where)
    fits = rows == len(labels) - 1 if encoding == "ReferenceClass" else rows == len(labels)
    if not fits and not (rows == 1 and len(labels) == 2):
        raise ModelFormatError(f"{where}: {rows} rows of weights for {len(labels)} classes, {encoding}")
    if transform == "Probit" and len(labels) != 2:
        raise ModelFormatError(f"{where}: a probit of {len(labels)} classes; the format has it for two")
    return LinearModel(weights, offsets, transform, labels, encoding)


def _rows(message: Any, *, where: str) -> tuple[Array, Array]:
    weights = matrix([row.value for row in message.weights], what="rows of weights", where=where)
    offsets = vector(message.offset) if message.offset else np.zeros(len(weights))
    if not weights.size or len(offsets) != len(weights):
        raise ModelFormatError(
            f"{where}: {len(weights)} rows of {weights.shape[1]} weights and {len(offsets)} offsets"
        )
    return weights, offsets
