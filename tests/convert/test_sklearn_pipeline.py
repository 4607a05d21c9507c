"""scikit-learn's pipelines, support vectors and neighbours against their own predict and predict_proba."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.convert.classic import convert_table
from coremlops.errors import ConversionError, InputError, UsageError
from coremlops.improve.prove import convert_and_prove
from coremlops.source import open_reference
from coremlops.source.sklearn import sklearn_reference

pytest.importorskip("sklearn")
from sklearn import ensemble, linear_model, neighbors, preprocessing, svm
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 3)) * [1, 20, 0.5] + [0, 3, 8]
X[:, 0] = X[:, 0].round()  # so that one value is the most frequent
HOLES = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
VALUE = X[:, 0] * 2 + X[:, 1] / 10 + X[:, 2]
TWO, THREE = np.where(VALUE > 8, "yes", "no"), np.digitize(VALUE, [7, 9])
CLASSES = {"two": TWO, "three": THREE}
UNSEEN = RNG.normal(size=(25, 3)) * [1, 20, 0.5] + [0, 3, 8]


def answers(estimator: Any, rows: Any, out: Path, probability: float = 1e-9) -> list[Any]:
    """Of Core ML, each held against scikit-learn's own."""
    reference = convert_table(sklearn_reference(estimator, "m"), out)
    model, found = coremlops.load(out), []
    for row in rows:
        asked = {item.name: row[i] for i, item in enumerate(reference.inputs)}
        if len(asked) == 1:
            asked = {reference.inputs[0].name: np.asarray(row) if reference.inputs[0].shape else row[0]}
        got = model.predict(asked)
        said = reference(asked)
        if reference.labels is None:
            expected = estimator.predict([row])[0]
            assert [got["prediction"], said["prediction"]] == pytest.approx(
                [expected] * 2, abs=1e-9, rel=1e-9
            )
        else:
            assert str(got["classLabel"]) == str(said["classLabel"])
            if reference.probable:
                expected = list(estimator.predict_proba([row])[0])
                assert list(got["classLabel_probs"].values()) == pytest.approx(expected, abs=probability)
                assert list(said["classLabel_probs"]) == expected
            else:
                assert list(got) == ["classLabel"]
                assert str(got["classLabel"]) == str(estimator.predict([row])[0])
        found.append(got)
    return found


STEPS = {
    "standard": preprocessing.StandardScaler(),
    "standard, mean alone": preprocessing.StandardScaler(with_std=False),
    "standard, deviation alone": preprocessing.StandardScaler(with_mean=False),
    "min-max": preprocessing.MinMaxScaler((-1, 3)),
    "l1": preprocessing.Normalizer("l1"),
    "l2": preprocessing.Normalizer("l2"),
    "max": preprocessing.Normalizer("max"),
    "mean": SimpleImputer(),
    "median": SimpleImputer(strategy="median"),
    "most frequent": SimpleImputer(strategy="most_frequent"),
    "constant": SimpleImputer(strategy="constant", fill_value=-2.5),
    "a number is missing": SimpleImputer(missing_values=1),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_transform(name: str, tmp_path: Path) -> None:
    """Seen by a linear model, which lets nothing through unnoticed; rows of zeros and below zero too."""
    rows, data = [*UNSEEN, np.zeros(3), -abs(UNSEEN[0]), np.array([1.0, 1, 2])], X
    if name in ("mean", "median", "most frequent", "constant"):
        rows, data = [*rows, *HOLES[:30]], HOLES
    answers(make_pipeline(STEPS[name], linear_model.Ridge()).fit(data, VALUE), rows, tmp_path / "a.mlmodel")


def last_ones() -> dict[str, Any]:
    return {
        "logistic": linear_model.LogisticRegression(),
        "trees": ensemble.RandomForestClassifier(5, max_depth=4, random_state=0),
        "svc": svm.SVC(),
        "neighbours": neighbors.KNeighborsClassifier(),
    }


@pytest.mark.parametrize("labels", CLASSES)
@pytest.mark.parametrize("name", last_ones())
def test_a_pipeline(name: str, labels: str, tmp_path: Path) -> None:
    inner = make_pipeline(SimpleImputer(), "passthrough", preprocessing.StandardScaler())
    model = make_pipeline(inner, None, last_ones()[name]).fit(HOLES, CLASSES[labels])
    answers(model, [*UNSEEN, *HOLES[:20]], tmp_path / "a.mlmodel")
    (one,) = coremlops.load(tmp_path / "a.mlmodel").description.inputs
    assert (one.name, one.shape) == ("input", (3,))


@pytest.mark.filterwarnings("ignore:Skipping features without any observed")
def test_a_column_without_values_is_dropped(tmp_path: Path) -> None:
    empty = np.column_stack([HOLES, np.full(len(X), np.nan)])
    model = make_pipeline(SimpleImputer(), linear_model.Ridge()).fit(empty, VALUE)
    answers(model, empty[:5], tmp_path / "a.mlmodel")


@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
@pytest.mark.parametrize("labels", CLASSES)
@pytest.mark.parametrize("make", [svm.SVC, svm.NuSVC])
def test_support_vectors_vote(make: Any, kernel: str, labels: str, tmp_path: Path) -> None:
    scaled = preprocessing.scale(X)
    more = {"nu": 0.2} if make is svm.NuSVC else {}
    model = make(kernel=kernel, coef0=0.5, degree=2, **more).fit(scaled, CLASSES[labels])
    answers(model, scaled, tmp_path / "a.mlmodel")


@pytest.mark.parametrize("kernel", ["linear", "rbf", "poly", "sigmoid"])
@pytest.mark.parametrize("make", [svm.SVR, svm.NuSVR])
def test_support_vectors_regress(make: Any, kernel: str, tmp_path: Path) -> None:
    scaled = preprocessing.scale(X)
    answers(make(kernel=kernel, coef0=0.5).fit(scaled, VALUE), scaled[:30], tmp_path / "a.mlmodel")


@pytest.mark.filterwarnings("ignore:.*probability:FutureWarning")
@pytest.mark.parametrize("labels", CLASSES)
def test_support_vectors_with_platts_numbers(labels: str, tmp_path: Path) -> None:
    scaled = preprocessing.scale(X)
    model = svm.SVC(probability=True, random_state=0).fit(scaled, CLASSES[labels])
    # Of two classes scikit-learn's libsvm iterates, and stops at 0.0025, where newer ones compute.
    found = answers(model, scaled, tmp_path / "a.mlmodel", 5e-3 if labels == "two" else 1e-9)
    if labels == "two":
        exact = 1 / (1 + np.exp(model._probA * -model.decision_function(scaled) + model._probB))
        assert [one["classLabel_probs"]["no"] for one in found] == pytest.approx(list(exact), abs=1e-7)


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree", "ball_tree"])
@pytest.mark.parametrize("labels", CLASSES)
def test_neighbours(algorithm: str, labels: str, tmp_path: Path) -> None:
    """An even number of them, so that votes tie."""
    model = neighbors.KNeighborsClassifier(4, algorithm=algorithm).fit(X, CLASSES[labels])
    answers(model, UNSEEN, tmp_path / "a.mlmodel")


def test_neighbours_take_labels_in_order(tmp_path: Path) -> None:
    model = sklearn_reference(neighbors.KNeighborsClassifier().fit(X, TWO), "m")
    with pytest.raises(UsageError, match="rising order"):
        convert_table(model, tmp_path / "a.mlmodel", labels=("b", "a"))
    convert_table(model, tmp_path / "a.mlmodel", labels=("a", "b"))
    assert coremlops.load(tmp_path / "a.mlmodel").description.labels == ("a", "b")


@pytest.mark.parametrize("categories", [("red", "green", "blue"), (3, 7, 11)])
def test_one_feature_of_categories(categories: Any, tmp_path: Path) -> None:
    column = np.array([[categories[i % 3]] for i in range(60)], object if categories[0] == "red" else int)
    encoder = preprocessing.OneHotEncoder(handle_unknown="ignore")
    model = make_pipeline(encoder, linear_model.Ridge()).fit(column, (np.arange(60) % 3) ** 2)
    unknown = "pink" if categories[0] == "red" else 5
    found = answers(model, [[one] for one in (*categories, unknown)], tmp_path / "a.mlmodel")
    assert len({round(one["prediction"], 6) for one in found}) == 4
    model = make_pipeline(preprocessing.OneHotEncoder(), linear_model.Ridge()).fit(column, np.arange(60))
    reference = convert_table(sklearn_reference(model, "m"), tmp_path / "a.mlmodel")
    with pytest.raises(InputError, match="unknown categories"):
        reference({"input": unknown})


def refused() -> dict[str, Any]:
    ridge, two = linear_model.Ridge(), preprocessing.OneHotEncoder()
    three = svm.SVC(break_ties=True, decision_function_shape="ovr")
    return {
        "PolynomialFeatures does not convert within a Pipeline": make_pipeline(
            preprocessing.PolynomialFeatures(), ridge
        ),
        r"MinMaxScaler\(clip=True\) does not": make_pipeline(preprocessing.MinMaxScaler(clip=True), ridge),
        "SimpleImputer add_indicator=True does not": make_pipeline(SimpleImputer(add_indicator=True), ridge),
        "OneHotEncoder of 3 features does not": make_pipeline(two, ridge),
        "OneHotEncoder as step 2 does not": make_pipeline(preprocessing.StandardScaler(), two, ridge),
        "ends in StandardScaler does not": make_pipeline(preprocessing.StandardScaler()),
        "LinearSVC does not": make_pipeline(svm.LinearSVC()),
        "the kernel <function": svm.SVC(kernel=lambda a, b: a @ b.T),
        "break_ties=True does not": three,
        r"KNeighborsClassifier\(weights='distance'\)": neighbors.KNeighborsClassifier(weights="distance"),
        r"KNeighborsClassifier\(metric='manhattan'\)": neighbors.KNeighborsClassifier(metric="manhattan"),
    }


@pytest.mark.parametrize("message", refused())
def test_what_does_not_convert(message: str) -> None:
    model = refused()[message].fit(X, THREE)
    with pytest.raises(ConversionError, match=message) as caught:
        sklearn_reference(model, "m")
    assert caught.value.hint


FACTORY = """
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

def make():
    rows = [[0, 1], [1, 5], [2, 0], [3, 4]]
    return make_pipeline(StandardScaler(), SVC()).fit(rows, ["low", "low", "high", "high"])

def new():
    return SVC()
"""


def test_a_factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the proof of a classifier that has labels alone."""
    (tmp_path / "sklearn_factory.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(tmp_path)
    made, proof = convert_and_prove("sklearn_factory:make", tmp_path / "a.mlmodel")
    assert proof.ok
    assert proof.outputs["classLabel"]["agreement"] == 1
    assert made.labels == ("high", "low")
    assert coremlops.load(made.path).predict({"input": np.array([0.0, 1])}) == {"classLabel": "low"}
    assert open_reference("sklearn_factory:make").digest == made.source
    with pytest.raises(InputError, match="a fitted estimator"):
        open_reference("sklearn_factory:new")
    with pytest.raises(UsageError, match="has its own weights"):
        open_reference("sklearn_factory:make", weights=tmp_path / "w.pt")


def test_a_skops_file(tmp_path: Path) -> None:
    """Neighbours as a plain list: what the k-d tree in C makes of a hostile file is not checked by anyone."""
    skops_io = pytest.importorskip("skops.io")
    for place, model in enumerate((neighbors.KNeighborsClassifier(algorithm="brute"), svm.SVC(), svm.SVR())):
        target = VALUE if isinstance(model, svm.SVR) else TWO
        fitted = make_pipeline(SimpleImputer(), preprocessing.StandardScaler(), model).fit(HOLES, target)
        skops_io.dump(fitted, tmp_path / f"{place}.skops")
        reference = convert_table(tmp_path / f"{place}.skops", tmp_path / "a.mlmodel")
        answer = next(iter(reference({"input": HOLES[0]}).values()))
        assert str(answer) == str(fitted.predict(HOLES[:1])[0])
    skops_io.dump(neighbors.KNeighborsClassifier(algorithm="kd_tree").fit(X, TWO), tmp_path / "k.skops")
    with pytest.raises(InputError, match="KDTree") as caught:
        open_reference(tmp_path / "k.skops")
    assert "brute" in str(caught.value.hint)


def test_support_vectors_that_do_not_fit() -> None:
    model = svm.SVC().fit(X, TWO)
    model._dual_coef_ = model._dual_coef_[:, :-1]
    with pytest.raises(InputError, match="do not fit each other"):
        sklearn_reference(model, "m")
