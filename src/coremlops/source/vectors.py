"""scikit-learn's support vectors and nearest neighbours, fitted, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coremlops.errors import ConversionError, InputError

_KERNELS = ("linear", "rbf", "poly", "sigmoid")


@dataclass(frozen=True, slots=True, eq=False)
class SupportVectors:
    """As libsvm holds them: `vectors` [n, features], class by class, `per_class` of each (empty: a
    regressor); `coefficients` [classes - 1 or 1, n]; `rho`, `prob_a`, `prob_b` [pairs]; the latter two are
    empty where it gives no probabilities.
    """

    features: tuple[str, ...]
    kernel: str
    gamma: float
    coef0: float
    degree: int
    vectors: tuple[tuple[float, ...], ...]
    per_class: tuple[int, ...]
    coefficients: tuple[tuple[float, ...], ...]
    rho: tuple[float, ...]
    prob_a: tuple[float, ...]
    prob_b: tuple[float, ...]
    labels: tuple[str, ...] | tuple[int, ...] | None


@dataclass(frozen=True, slots=True, eq=False)
class Neighbors:
    """`samples` [n, features] with the place of its label each in `classes`; the nearest `k` vote alike.

    `leaf`: of a k-d tree; 0 for a plain list.
    """

    features: tuple[str, ...]
    samples: tuple[tuple[float, ...], ...]
    classes: tuple[int, ...]
    k: int
    leaf: int
    labels: tuple[str, ...] | tuple[int, ...] | None


def check_kernel(estimator: Any, where: str) -> None:
    """Refuse a kernel that Core ML has not; one by a function keeps no number of features to read."""
    if estimator.kernel not in _KERNELS:
        raise ConversionError(
            f"{where}: the kernel {estimator.kernel} does not convert",
            hint=f"fit it with one of {', '.join(_KERNELS)}",
        )


def read_support_vectors(
    estimator: Any, features: tuple[str, ...], labels: Any, where: str
) -> SupportVectors:
    """SVC, NuSVC, SVR and NuSVR. Raises ConversionError."""
    if labels and len(labels) > 2 and estimator.break_ties:
        raise ConversionError(
            f"{where}: break_ties=True does not convert: Core ML's pairs vote",
            hint="set break_ties=False; or fit it with probabilities",
        )
    made = SupportVectors(
        features,
        estimator.kernel,
        float(estimator._gamma),
        float(estimator.coef0),
        int(estimator.degree),
        _rows(estimator.support_vectors_),
        tuple(map(int, estimator._n_support)) if labels else (),
        _rows(estimator._dual_coef_),
        tuple(-float(value) for value in estimator._intercept_),
        tuple(map(float, estimator._probA)) if labels else (),
        tuple(map(float, estimator._probB)) if labels else (),
        labels,
    )
    count, classes = len(made.vectors), len(labels or (0, 1))
    pairs = classes * (classes - 1) // 2
    shapes = [len(made.coefficients), *map(len, made.coefficients), len(made.rho), *map(len, made.vectors)]
    expected = [classes - 1, *[count] * (classes - 1), pairs, *[len(features)] * count]
    sizes = {len(made.prob_a), len(made.prob_b)}
    if shapes != expected or sizes not in ({0}, {pairs}) or (labels and sum(made.per_class) != count):
        raise InputError(f"{where}: its support vectors do not fit each other")  # libsvm would read past them
    return made


def read_neighbors(estimator: Any, features: tuple[str, ...], labels: Any, where: str) -> Neighbors:
    """KNeighborsClassifier. Raises ConversionError."""
    import numpy as np

    power = estimator.effective_metric_params_.get("p", 2)
    strange = (
        f"weights={estimator.weights!r}" if estimator.weights not in ("uniform", None) else
        f"metric={estimator.effective_metric_!r}"
        if estimator.effective_metric_ not in ("euclidean", "minkowski") or power != 2 else ""
    )  # fmt: skip
    if strange:
        raise ConversionError(
            f"{where}: KNeighborsClassifier({strange}) does not convert",
            hint="fit it with weights='uniform' and metric='euclidean'",
        )
    samples = np.asarray(_dense(estimator._fit_X), np.float64)
    if np.abs(samples).max() > np.finfo(np.float32).max:
        raise ConversionError(f"{where}: samples past float32's range do not convert: Core ML keeps float32")
    leaf = int(estimator.leaf_size) if estimator._fit_method == "kd_tree" else 0
    return Neighbors(
        features,
        _rows(samples),
        tuple(map(int, np.ravel(estimator._y))),
        int(estimator.n_neighbors),
        leaf,
        labels,
    )


def _dense(matrix: Any) -> Any:
    return matrix.toarray() if hasattr(matrix, "toarray") else matrix


def _rows(matrix: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in _dense(matrix))
