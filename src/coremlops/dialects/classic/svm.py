"""Support vector machines, as libsvm stores and evaluates them, in double.

Source: `SVM.proto`; libsvm, `svm.cpp`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from coremlops.dialects.classic.numbers import Array, Labels, class_labels, matrix, vector
from coremlops.errors import ModelFormatError


@dataclass(frozen=True, slots=True)
class Kernel:
    """Of x and a vector v. `linear`: x.v; `rbf`: exp(-gamma |x - v|^2); `poly`: (gamma x.v + c)^degree;
    `sigmoid`: tanh(gamma x.v + c).
    """

    kind: str
    gamma: float = 0.0
    c: float = 0.0
    degree: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SupportVectors:
    """`count` vectors by their entries that are not zero: `rows`, `columns` (from 0) and `values`."""

    count: int
    rows: Array
    columns: Array
    values: Array


@dataclass(frozen=True, slots=True, eq=False)
class SupportVectorRegressor:
    """The sum of `coefficients` [vectors] times the kernel, less `rho`."""

    kernel: Kernel
    vectors: SupportVectors
    coefficients: Array
    rho: float


@dataclass(frozen=True, slots=True, eq=False)
class SupportVectorClassifier:
    """One against one: each pair of classes i < j has a decision value, positive for i.

    The vectors stand class by class, `per_class` of each. `coefficients` [classes - 1, vectors]: the pair
    (i, j) takes row j - 1 for the vectors of i and row i for those of j. `rho` [pairs]. `prob_a`, `prob_b`
    [pairs]: the sigmoid that makes a pair's probability from its decision value; empty for a model without
    probabilities.
    """

    kernel: Kernel
    vectors: SupportVectors
    per_class: Array
    coefficients: Array
    rho: Array
    prob_a: Array
    prob_b: Array
    labels: Labels


def read_support_vector_regressor(message: Any, *, where: str) -> SupportVectorRegressor:
    """A `SupportVectorRegressor`. Raises ModelFormatError."""
    vectors = _vectors(message, where=where)
    coefficients = vector(message.coefficients.alpha)
    if len(coefficients) != vectors.count:
        raise ModelFormatError(f"{where}: {len(coefficients)} coefficients for {vectors.count} vectors")
    return SupportVectorRegressor(_kernel(message, where=where), vectors, coefficients, message.rho)


def read_support_vector_classifier(message: Any, *, where: str) -> SupportVectorClassifier:
    """A `SupportVectorClassifier`. Raises ModelFormatError."""
    vectors = _vectors(message, where=where)
    per_class = vector(message.numberOfSupportVectorsPerClass, np.int64)
    labels, classes = class_labels(message), len(per_class)
    if classes < 2 or (labels and len(labels) != classes):
        raise ModelFormatError(f"{where}: support vectors of {classes} classes for {len(labels)} labels")
    if per_class.min() < 0 or per_class.sum() != vectors.count:
        raise ModelFormatError(
            f"{where}: {vectors.count} support vectors; the classes have {per_class.sum()}"
        )
    coefficients = matrix([row.alpha for row in message.coefficients], what="coefficients", where=where)
    if coefficients.shape != (classes - 1, vectors.count):
        raise ModelFormatError(
            f"{where}: coefficients {list(coefficients.shape)}; expected [{classes - 1}, {vectors.count}]"
        )
    pairs = classes * (classes - 1) // 2
    rho, prob_a, prob_b = (vector(entry) for entry in (message.rho, message.probA, message.probB))
    if len(rho) != pairs or len(prob_a) != len(prob_b) or len(prob_a) not in (0, pairs):
        raise ModelFormatError(
            f"{where}: {len(rho)} rho, {len(prob_a)} probA and {len(prob_b)} probB for {pairs} pairs"
        )
    return SupportVectorClassifier(
        _kernel(message, where=where),
        vectors,
        per_class,
        coefficients,
        rho,
        prob_a,
        prob_b,
        labels or tuple(range(classes)),
    )


def _kernel(message: Any, *, where: str) -> Kernel:
    chosen = message.kernel.WhichOneof("kernel")
    kernel: Any = getattr(message.kernel, chosen) if chosen else None
    match chosen:
        case "linearKernel":
            return Kernel("linear")
        case "rbfKernel":
            return Kernel("rbf", kernel.gamma)
        case "sigmoidKernel":
            return Kernel("sigmoid", kernel.gamma, kernel.c)
        case "polyKernel":
            if kernel.degree < 0:
                raise ModelFormatError(f"{where}: a polynomial kernel of degree {kernel.degree}")
            return Kernel("poly", kernel.gamma, kernel.c, kernel.degree)
    raise ModelFormatError(f"{where}: no kernel; expected linear, rbf, poly or sigmoid")


def _vectors(message: Any, *, where: str) -> SupportVectors:
    chosen = message.WhichOneof("supportVectors")
    if chosen is None:
        raise ModelFormatError(f"{where}: no support vectors")
    if chosen == "denseSupportVectors":
        dense = matrix(
            [entry.values for entry in message.denseSupportVectors.vectors],
            what="support vectors",
            where=where,
        )
        rows, columns = dense.nonzero()
        return SupportVectors(len(dense), rows, columns, dense[rows, columns])
    vectors = message.sparseSupportVectors.vectors
    rows = np.repeat(np.arange(len(vectors)), [len(entry.nodes) for entry in vectors])
    nodes = [node for entry in vectors for node in entry.nodes]
    columns = vector([node.index for node in nodes], np.int64) - 1  # libsvm counts from 1
    if columns.size and columns.min() < 0:
        raise ModelFormatError(
            f"{where}: a support vector has the index {columns.min() + 1}; expected 1 or more"
        )
    return SupportVectors(len(vectors), rows, columns, vector([node.value for node in nodes]))
