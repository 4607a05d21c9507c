"""Linear models to a `GLMRegressor` or `GLMClassifier`. Source: the `.proto` files of these names."""

from __future__ import annotations

from typing import Any

from coremlops.source.sklearn import Linear


def write_linear(spec: Any, model: Linear) -> None:
    """Fill a `Model` message's weights; its labels are the caller's, as is its description."""
    chosen = spec.glmRegressor if model.labels is None else spec.glmClassifier
    chosen.SetInParent()
    for row in model.weights:
        chosen.weights.add().value.extend(row)
    chosen.offset.extend(model.offsets)
    if model.labels is not None:
        chosen.postEvaluationTransform = 0  # Logit
        chosen.classEncoding = 0  # ReferenceClass
