"""Support vector machines against scikit-learn, which carries libsvm, and libsvm where it is installed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import ModelFormatError
from tests.classic_models import classifier, load, predict, regressor

svm = pytest.importorskip("sklearn.svm")

KERNELS: list[dict[str, Any]] = [
    {"kernel": "linear"},
    {"kernel": "rbf", "gamma": 0.3},
    {"kernel": "poly", "gamma": 0.5, "degree": 3, "coef0": 1.5},
    {"kernel": "poly", "gamma": 0.5, "degree": 0},
    {"kernel": "sigmoid", "gamma": 0.1, "coef0": -0.3},
]
# Doubles all the way, and sums in another order than libsvm's.
TIGHT = 1e-9


def fill(message: Any, source: Any) -> None:
    """Kernel and vectors, the latter dense."""
    kernel = getattr(message.kernel, f"{source.kernel}Kernel")
    kernel.SetInParent()
    if source.kernel != "linear":
        kernel.gamma = source.gamma
    if source.kernel in ("poly", "sigmoid"):
        kernel.c = source.coef0
    if source.kernel == "poly":
        kernel.degree = source.degree
    for row in source.support_vectors_:
        message.denseSupportVectors.vectors.add().values.extend(row)


def as_classifier(source: Any, labels: list[Any]) -> Any:
    model = classifier({"x": (4,)}, labels, "supportVectorClassifier", probable=bool(len(source.probA_)))
    message = model.supportVectorClassifier
    fill(message, source)
    message.numberOfSupportVectorsPerClass.extend(source.n_support_)
    message.rho.extend(source.intercept_ if len(labels) == 2 else -source.intercept_)
    for row in source._dual_coef_:
        message.coefficients.add().alpha.extend(row)
    message.probA.extend(source.probA_)
    message.probB.extend(source.probB_)
    return model


def blobs(classes: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    target = np.arange(80) % classes
    return rng.normal(size=(80, 4)) + 0.7 * target[:, None], target


@pytest.mark.parametrize(
    "kernel", KERNELS, ids=lambda kernel: f"{kernel['kernel']}{kernel.get('degree', '')}"
)
def test_a_regressor(tmp_path: Path, kernel: dict[str, Any]) -> None:
    data, target = blobs(3)
    source = svm.SVR(**kernel).fit(data, target + 0.1 * data[:, 0])
    model = regressor({"x": (4,)})
    message = model.supportVectorRegressor
    fill(message, source)
    message.coefficients.alpha.extend(source.dual_coef_[0])
    message.rho = -source.intercept_[0]
    got = [result["y"] for result in predict(model, tmp_path, data[:10])]
    np.testing.assert_allclose(got, source.predict(data[:10]), rtol=TIGHT, atol=TIGHT)


@pytest.mark.parametrize(
    "kernel", KERNELS, ids=lambda kernel: f"{kernel['kernel']}{kernel.get('degree', '')}"
)
@pytest.mark.parametrize("labels", [["b", "a"], [7, 5, 6, -1]])
def test_votes(tmp_path: Path, kernel: dict[str, Any], labels: list[Any]) -> None:
    data, target = blobs(len(labels))
    source = svm.SVC(**kernel).fit(data, target)
    results = predict(as_classifier(source, labels), tmp_path, data)
    assert [result["label"] for result in results] == [labels[number] for number in source.predict(data)]
    assert set(results[0]) == {"label"}


@pytest.mark.parametrize("classes", [3, 5])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_probabilities_of_many_classes(tmp_path: Path, classes: int) -> None:
    data, target = blobs(classes)
    source = svm.SVC(kernel="rbf", gamma=0.3, probability=True, random_state=0).fit(data, target)
    results = predict(as_classifier(source, list(range(classes))), tmp_path, data)
    got = np.array([list(result["p"].values()) for result in results])
    # libsvm stops its iteration early: this close only the same iteration, stopped at the same turn, comes.
    np.testing.assert_allclose(got, source.predict_proba(data), rtol=0, atol=TIGHT)
    assert [result["label"] for result in results] == list(got.argmax(axis=1))


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_probabilities_of_two_classes_are_those_of_the_pair(tmp_path: Path) -> None:
    data, target = blobs(2)
    source = svm.SVC(kernel="linear", probability=True, random_state=0).fit(data, target)
    results = predict(as_classifier(source, ["a", "b"]), tmp_path, data[:10])
    decision = -source.decision_function(data[:10])  # libsvm's is positive for the first class
    first = 1 / (1 + np.exp(decision * source.probA_ + source.probB_))
    np.testing.assert_allclose([result["p"]["a"] for result in results], first, atol=TIGHT)


def test_sparse_vectors_count_from_one(tmp_path: Path) -> None:
    model = regressor({"a": "double", "b": "double"})
    message = model.supportVectorRegressor
    message.kernel.linearKernel.SetInParent()
    message.sparseSupportVectors.vectors.add().nodes.add(index=2, value=3)
    message.sparseSupportVectors.vectors.add()
    message.coefficients.alpha.extend([2, 5])
    message.rho = 1
    assert load(model, tmp_path).predict({"a": 100, "b": 10})["y"] == 2 * 3 * 10 - 1


def test_libsvm_itself(tmp_path: Path) -> None:
    svmutil = pytest.importorskip("libsvm.svmutil", reason="libsvm is not part of the dev extra")
    data, target = blobs(4)
    source = svmutil.svm_train(target.tolist(), data.tolist(), "-q -b 1 -t 2 -g 0.4")
    _, _, expected = svmutil.svm_predict([], data.tolist(), source, "-q -b 1")
    model = classifier({"x": (4,)}, source.get_labels(), "supportVectorClassifier")
    message = model.supportVectorClassifier
    message.kernel.rbfKernel.gamma = 0.4
    message.numberOfSupportVectorsPerClass.extend(source.get_nr_sv() and [source.nSV[i] for i in range(4)])
    message.rho.extend(source.rho[i] for i in range(6))
    message.probA.extend(source.probA[i] for i in range(6))
    message.probB.extend(source.probB[i] for i in range(6))
    for row in range(3):
        message.coefficients.add().alpha.extend(source.sv_coef[row][i] for i in range(source.l))
    for vector in source.get_SV():
        nodes = message.sparseSupportVectors.vectors.add().nodes
        for index, value in vector.items():
            if index > 0:
                nodes.add(index=index, value=value)
    got = [list(result["p"].values()) for result in predict(model, tmp_path, data)]
    np.testing.assert_allclose(got, expected, rtol=0, atol=TIGHT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda svc: svc.rho.append(0), "2 rho"),
        (lambda svc: svc.numberOfSupportVectorsPerClass.append(1), "classes for 2 labels"),
        (lambda svc: svc.coefficients[0].alpha.append(0), r"coefficients \[1, "),
        (lambda svc: svc.kernel.Clear(), "no kernel"),
        (lambda svc: svc.denseSupportVectors.vectors[0].values.append(1), "support vectors of 4 and of 5"),
        (lambda svc: svc.numberOfSupportVectorsPerClass.__setitem__(0, -1), "support vectors; the classes"),
    ],
)
def test_numbers_that_do_not_fit(tmp_path: Path, change: Any, message: str) -> None:
    data, target = blobs(2)
    model = as_classifier(svm.SVC(kernel="rbf", gamma=0.1).fit(data, target), ["a", "b"])
    change(model.supportVectorClassifier)
    with pytest.raises(ModelFormatError, match=message):
        load(model, tmp_path)


def test_a_small_file_does_not_ask_for_many_vectors(tmp_path: Path) -> None:
    model = regressor({"x": (1 << 23,)})
    message = model.supportVectorRegressor
    message.kernel.linearKernel.SetInParent()
    for _ in range(3):
        message.sparseSupportVectors.vectors.add()
    message.coefficients.alpha.extend([1, 1, 1])
    with pytest.raises(ModelFormatError, match="3 support vectors of 8388608 numbers are too many"):
        load(model, tmp_path)
