"""Nearest neighbours against scikit-learn."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import ModelFormatError
from tests.classic_models import classifier, load, predict

TIGHT = 1e-12


def neighbours(labels: list[Any], samples: Any, k: int, *, tree: bool = False, inverse: bool = False) -> Any:
    samples = np.asarray(samples, np.float32)
    model = classifier({"x": (samples.shape[1],)}, labels or [0], "kNearestNeighborsClassifier")
    message = model.kNearestNeighborsClassifier
    if not labels:
        message.int64ClassLabels.Clear()
    index = message.nearestNeighborsIndex
    index.numberOfDimensions = samples.shape[1]
    for row in samples:
        index.floatSamples.add().vector.extend(row)
    if tree:
        index.singleKdTreeIndex.leafSize = 3
    else:
        index.linearIndex.SetInParent()
    index.squaredEuclideanDistance.SetInParent()
    message.numberOfNeighbors.defaultValue = k
    (message.inverseDistanceWeighting if inverse else message.uniformWeighting).SetInParent()
    return model


@pytest.mark.parametrize("tree", [False, True])
@pytest.mark.parametrize("weights", ["uniform", "inverse"])
@pytest.mark.parametrize("names", [["b", "a", "c"], [30, 10, 20]])
def test_against_scikit_learn(tmp_path: Path, names: list[Any], weights: str, tree: bool) -> None:
    sklearn = pytest.importorskip("sklearn.neighbors")
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(50, 3)).astype(np.float32)
    labels = [names[number] for number in rng.integers(0, 3, 50)]
    inverse = weights == "inverse"
    # Core ML's distance is the squared one, so that is what a vote is divided by.
    source = sklearn.KNeighborsClassifier(5, weights=(lambda apart: 1 / apart**2) if inverse else "uniform")
    source.fit(samples.astype(np.float64), labels)
    rows = rng.normal(size=(20, 3))
    results = predict(neighbours(labels, samples, 5, tree=tree, inverse=inverse), tmp_path, rows)
    assert list(results[0]["p"]) == sorted(names)
    got = [list(result["p"].values()) for result in results]
    np.testing.assert_allclose(got, source.predict_proba(rows), rtol=1e-9, atol=TIGHT)
    assert [result["label"] for result in results] == list(source.predict(rows))


def test_a_sample_itself_votes_alone(tmp_path: Path) -> None:
    model = neighbours(["far", "far", "here"], [[1], [1.01], [0]], 3, inverse=True)
    result = load(model, tmp_path).predict({"x": [0.0]})
    assert result == {"label": "here", "p": {"far": 0.0, "here": 1.0}}


def test_more_neighbours_than_samples(tmp_path: Path) -> None:
    result = load(neighbours([1, 1, 2], [[0], [1], [2]], 100), tmp_path).predict({"x": [2.0]})
    assert result["p"] == {1: pytest.approx(2 / 3), 2: pytest.approx(1 / 3)}


def test_without_samples_the_default_answers(tmp_path: Path) -> None:
    model = neighbours([], np.zeros((0, 2)), 3)
    model.kNearestNeighborsClassifier.defaultInt64Label = 42
    loaded = load(model, tmp_path)
    assert loaded.predict({"x": [1.0, 2.0]}) == {"label": 42, "p": {42: 1.0}}
    assert loaded.description.labels == (42,)


def test_the_classes_are_named_once(tmp_path: Path) -> None:
    assert load(neighbours(["b", "a", "b"], [[0], [1], [2]], 1), tmp_path).description.labels == ("a", "b")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.int64ClassLabels.vector.append(1), "4 labels for 3 samples"),
        (lambda model: model.nearestNeighborsIndex.floatSamples[1].vector.append(1), "in 1 dimensions"),
        (lambda model: setattr(model.numberOfNeighbors, "defaultValue", 0), "0 neighbours"),
        (lambda model: setattr(model.nearestNeighborsIndex, "numberOfDimensions", -1), "in -1 dimensions"),
    ],
)
def test_numbers_that_do_not_fit(tmp_path: Path, change: Any, message: str) -> None:
    model = neighbours([1, 1, 2], [[0], [1], [2]], 2)
    change(model.kNearestNeighborsClassifier)
    with pytest.raises(ModelFormatError, match=message):
        load(model, tmp_path)


def test_neither_samples_nor_a_default(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="neither samples nor a default label"):
        load(neighbours([], np.zeros((0, 2)), 3), tmp_path)
