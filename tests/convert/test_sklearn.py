"""scikit-learn's estimators against their own predict and predict_proba."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.convert.classic import convert_table
from coremlops.errors import ConversionError, InputError
from coremlops.source import open_reference
from coremlops.source.sklearn import sklearn_reference
from coremlops.source.trees import Branch

pytest.importorskip("sklearn")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(150, 4)).round(2)
VALUE = X[:, 0] * 2 + X[:, 1] * X[:, 2] + 5
CLASSES = {"two": np.where(VALUE > 5, "yes", "no"), "three": np.digitize(VALUE, [4, 6])}


def estimators() -> dict[str, Any]:
    from sklearn import ensemble, linear_model, tree

    found: dict[str, Any] = {}
    for model in (linear_model.LinearRegression(), linear_model.Ridge(), linear_model.Lasso(0.1)):
        found[type(model).__name__] = model.fit(X, VALUE)
    missing = X.copy()
    missing[RNG.random(X.shape) < 0.1] = np.nan
    for make, more in (
        (tree.DecisionTreeRegressor, {"max_depth": 4}),
        (ensemble.RandomForestRegressor, {"n_estimators": 5, "max_depth": 4}),
        (ensemble.GradientBoostingRegressor, {"n_estimators": 5}),
        (ensemble.HistGradientBoostingRegressor, {"max_iter": 5}),
    ):
        data = missing if "Hist" in make.__name__ or "Forest" in make.__name__ else X
        found[make.__name__] = make(random_state=0, **more).fit(data, VALUE)
    for name, classes in CLASSES.items():
        for make, more in (
            (linear_model.LogisticRegression, {}),
            (ensemble.ExtraTreesClassifier, {"n_estimators": 5, "max_depth": 4}),
            (ensemble.GradientBoostingClassifier, {"n_estimators": 5}),
            (ensemble.HistGradientBoostingClassifier, {"max_iter": 5}),
        ):
            data = missing if "Hist" in make.__name__ else X
            found[f"{make.__name__}, {name}"] = make(random_state=0, **more).fit(data, classes)
    return found


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    return estimators()


NAMES = [
    *("LinearRegression", "Ridge", "Lasso", "DecisionTreeRegressor", "RandomForestRegressor"),
    *("GradientBoostingRegressor", "HistGradientBoostingRegressor"),
    *(
        f"{name}, {count}"
        for name in (
            "LogisticRegression",
            "ExtraTreesClassifier",
            "GradientBoostingClassifier",
            "HistGradientBoostingClassifier",
        )
        for count in ("two", "three")
    ),
]


@pytest.mark.parametrize("name", NAMES)
def test_answers_as_scikit_learn_does(name: str, fitted: dict[str, Any], tmp_path: Path) -> None:
    """NaN where the estimator takes it, and values at and beside thresholds."""
    estimator = fitted[name]
    reference = sklearn_reference(estimator, name)
    convert_table(reference, tmp_path / "a.mlmodel")
    model = coremlops.load(tmp_path / "a.mlmodel")
    rows = [row.copy() for row in X[:15]]
    nodes = [node for tree in getattr(reference.raw, "trees", ())[:3] for node in tree]
    for place, node in enumerate(node for node in nodes if isinstance(node, Branch)):
        if abs(node.threshold) > 1e30:  # "anything but NaN": scikit-learn refuses infinity
            continue
        for value in (node.threshold, np.nextafter(node.threshold, 9), np.nextafter(node.threshold, -9)):
            rows.append(X[place % 20].copy())
            rows[-1][node.feature] = value
    if "Hist" in name or "Forest" in name:
        rows += [np.where(np.arange(4) == i, np.nan, X[i]) for i in range(4)]
    names = [item.name for item in reference.inputs]
    for row in rows:
        found = model.predict(dict(zip(names, row, strict=True)))
        if reference.labels is None:
            assert found["prediction"] == pytest.approx(estimator.predict([row])[0], abs=1e-9)
        else:
            expected = estimator.predict_proba([row])[0]
            assert list(found["classLabel_probs"].values()) == pytest.approx(list(expected), abs=1e-9)
            assert str(found["classLabel"]) == str(estimator.predict([row])[0])


@pytest.mark.parametrize(
    "name", ["LogisticRegression, two", "ExtraTreesClassifier, two", "HistGradientBoostingClassifier, two"]
)
def test_a_skops_file(name: str, fitted: dict[str, Any], tmp_path: Path) -> None:
    skops_io = pytest.importorskip("skops.io")
    path = tmp_path / "m.skops"
    skops_io.dump(fitted[name], path)
    reference = convert_table(path, tmp_path / "a.mlmodel")
    found = reference(dict(zip(("f0", "f1", "f2", "f3"), X[0], strict=True)))
    assert str(found["classLabel"]) == CLASSES["two"][0]
    skops_io.dump({"model": Path}, path)
    with pytest.raises(InputError, match=r"types that are not trusted: pathlib"):
        open_reference(path)
    path.write_bytes(b"no zip")
    with pytest.raises(InputError, match="a skops file expected"):
        open_reference(path)


def test_what_does_not_convert() -> None:
    from sklearn.linear_model import LinearRegression
    from sklearn.naive_bayes import GaussianNB

    with pytest.raises(ConversionError, match="GaussianNB does not convert"):
        sklearn_reference(GaussianNB().fit(X, CLASSES["two"]), "nb")
    with pytest.raises(InputError, match="a fitted estimator"):
        sklearn_reference(LinearRegression(), "new")
    with pytest.raises(ConversionError, match="one output expected, got 2"):
        sklearn_reference(LinearRegression().fit(X, X[:, :2]), "two")
