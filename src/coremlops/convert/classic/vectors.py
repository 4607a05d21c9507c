"""Support vectors and nearest neighbours. Source: `SVM.proto`, `NearestNeighbors.proto`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coremlops.errors import UsageError
from coremlops.source.vectors import Neighbors, SupportVectors


def write_support_vectors(spec: Any, model: SupportVectors) -> None:
    """Fill a `Model` message's vectors; its labels are the caller's, as is its description."""
    chosen = spec.supportVectorRegressor if model.labels is None else spec.supportVectorClassifier
    kernel = getattr(chosen.kernel, f"{model.kernel}Kernel")
    kernel.SetInParent()
    if model.kernel != "linear":
        kernel.gamma = model.gamma
    if model.kernel in ("poly", "sigmoid"):
        kernel.c = model.coef0
    if model.kernel == "poly":
        kernel.degree = model.degree
    chosen.denseSupportVectors.SetInParent()
    for vector in model.vectors:
        chosen.denseSupportVectors.vectors.add().values.extend(vector)
    if model.labels is None:
        chosen.coefficients.alpha.extend(model.coefficients[0])
        chosen.rho = model.rho[0]
        return
    for row in model.coefficients:
        chosen.coefficients.add().alpha.extend(row)
    chosen.numberOfSupportVectorsPerClass.extend(model.per_class)
    chosen.rho.extend(model.rho)
    chosen.probA.extend(model.prob_a)
    chosen.probB.extend(model.prob_b)


def write_neighbors(spec: Any, model: Neighbors, labels: Sequence[Any]) -> None:
    """Fill a `Model` message's samples, with a label each. Raises UsageError for labels out of order."""
    if list(labels) != sorted(set(labels)):
        raise UsageError(
            f"labels {', '.join(map(str, labels))}: nearest neighbours take them in rising order",
            hint="Core ML sorts them; fit the estimator on the labels that you want",
        )
    chosen = spec.kNearestNeighborsClassifier
    index = chosen.nearestNeighborsIndex
    index.numberOfDimensions = len(model.features)
    index.squaredEuclideanDistance.SetInParent()
    if model.leaf:
        index.singleKdTreeIndex.leafSize = model.leaf
    else:
        index.linearIndex.SetInParent()
    for sample in model.samples:
        index.floatSamples.add().vector.extend(sample)
    neighbors = chosen.numberOfNeighbors
    neighbors.defaultValue = model.k
    neighbors.range.minValue = neighbors.range.maxValue = model.k
    chosen.uniformWeighting.SetInParent()
