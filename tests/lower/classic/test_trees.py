"""Tree ensembles against scikit-learn, and against a walk in Python."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import ModelError, ModelFormatError, UnsupportedOpsError
from tests.classic_models import classifier, load, predict, regressor

# Comparisons are exact; sums of doubles may be taken in another order.
TIGHT = 1e-12


def add_tree(parameters: Any, number: int, tree: Any, value: Any) -> None:
    """A scikit-learn tree, with `value(node)` the values of a leaf."""
    for place in range(tree.node_count):
        node = parameters.nodes.add(treeId=number, nodeId=place, nodeBehavior=6)
        if tree.children_left[place] < 0:
            for index, number_ in enumerate(value(tree.value[place][0])):
                node.evaluationInfo.add(evaluationIndex=index, evaluationValue=number_)
            continue
        node.nodeBehavior = 0
        node.branchFeatureIndex = tree.feature[place]
        node.branchFeatureValue = tree.threshold[place]
        node.trueChildNodeId = tree.children_left[place]
        node.falseChildNodeId = tree.children_right[place]


def grow(parameters: Any, rng: np.random.Generator, trees: int, features: int, dimensions: int) -> None:
    """Random trees over all behaviours, thresholds that the inputs hit, and leaves of several values."""
    for number in range(trees):
        waiting, count = [(0, 4)], 1
        while waiting:
            place, depth = waiting.pop()
            node = parameters.nodes.add(treeId=10 + number, nodeId=place, nodeBehavior=6)
            if depth == 0 or rng.random() < 0.2:
                for dimension in rng.permutation(dimensions)[: rng.integers(1, dimensions + 1)]:
                    node.evaluationInfo.add(evaluationIndex=dimension, evaluationValue=rng.normal())
                continue
            node.nodeBehavior = rng.integers(6)
            node.branchFeatureIndex = rng.integers(features)
            node.branchFeatureValue = rng.choice([0.0, 1.0, 2.0, 0.1])
            node.trueChildNodeId, node.falseChildNodeId = count, count + 1
            node.missingValueTracksTrueChild = rng.random() < 0.5
            waiting += [(count, depth - 1), (count + 1, depth - 1)]
            count += 2
    parameters.numPredictionDimensions = dimensions
    parameters.basePredictionValue.extend(rng.normal(size=dimensions))


def walk(parameters: Any, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The scores of one input, node by node, as the format's words say."""
    nodes = {(node.treeId, node.nodeId): node for node in parameters.nodes}
    scores = np.array(parameters.basePredictionValue)
    for tree in {node.treeId for node in parameters.nodes}:
        node = nodes[tree, 0]
        while node.nodeBehavior != 6:
            value, limit = x[node.branchFeatureIndex], node.branchFeatureValue
            answers = (
                value <= limit,
                value < limit,
                value >= limit,
                value > limit,
                value == limit,
                value != limit,
            )
            goes = node.missingValueTracksTrueChild if np.isnan(value) else answers[node.nodeBehavior]
            node = nodes[tree, node.trueChildNodeId if goes else node.falseChildNodeId]
        for entry in node.evaluationInfo:
            scores[entry.evaluationIndex] += entry.evaluationValue
    return scores


@pytest.mark.parametrize("dimensions", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_all_behaviours_and_missing_values(tmp_path: Path, seed: int, dimensions: int) -> None:
    rng = np.random.default_rng(seed)
    model = regressor({"x": (3,)}, (dimensions,))
    grow(model.treeEnsembleRegressor.treeEnsemble, rng, 5, 3, dimensions)
    # The double after 0.1 is beyond it, and no float32 can tell.
    rows = rng.choice([0.0, 1.0, 2.0, 0.1, np.nextafter(0.1, 1), np.nan], (60, 3))
    for row, result in zip(rows, predict(model, tmp_path, rows), strict=True):
        expected = walk(model.treeEnsembleRegressor.treeEnsemble, row)
        np.testing.assert_allclose(result["y"], expected, rtol=0, atol=TIGHT)


@pytest.mark.parametrize("trees", [1, 20])
def test_a_forest_regressor(tmp_path: Path, trees: int) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(0)
    data, target = rng.normal(size=(200, 4)), rng.normal(size=200)
    source = ensemble.RandomForestRegressor(trees, random_state=0).fit(data, target)
    model = regressor({"x": (4,)})
    parameters = model.treeEnsembleRegressor.treeEnsemble
    parameters.numPredictionDimensions = 1
    for number, tree in enumerate(source.estimators_):
        add_tree(parameters, number, tree.tree_, lambda value: value / trees)
    rows = data[:20].astype(np.float32).astype(np.float64)  # scikit-learn takes float32
    results = [result["y"] for result in predict(model, tmp_path, rows)]
    assert all(isinstance(result, float) for result in results)
    np.testing.assert_allclose(results, source.predict(rows), rtol=TIGHT)


@pytest.mark.parametrize("labels", [["a", "b", "c"], [3, 1, 2]])
def test_a_forest_classifier(tmp_path: Path, labels: list[Any]) -> None:
    ensemble = pytest.importorskip("sklearn.ensemble")
    rng = np.random.default_rng(0)
    data, target = rng.normal(size=(90, 4)), np.arange(90) % 3
    source = ensemble.RandomForestClassifier(8, random_state=0).fit(data, target)
    model = classifier({"x": (4,)}, labels, "treeEnsembleClassifier")
    parameters = model.treeEnsembleClassifier.treeEnsemble
    parameters.numPredictionDimensions = 3
    for number, tree in enumerate(source.estimators_):
        add_tree(parameters, number, tree.tree_, lambda value: value / value.sum() / 8)
    rows = data[:20].astype(np.float32).astype(np.float64)
    for result, expected in zip(predict(model, tmp_path, rows), source.predict_proba(rows), strict=True):
        assert list(result["p"]) == labels
        np.testing.assert_allclose(list(result["p"].values()), expected, rtol=TIGHT, atol=TIGHT)
        assert result["label"] == labels[int(np.argmax(expected))]


def scored(transform: int, *scores: float, message: str = "treeEnsembleClassifier") -> Any:
    """A classifier of lone leaves, whose scores do not depend on the input."""
    labels = ["a", "b"] if len(scores) == 1 else [str(number) for number in range(len(scores))]
    model = classifier({"x": (1,)}, labels, message)
    parameters = getattr(model, message).treeEnsemble
    parameters.numPredictionDimensions = len(scores)
    node = parameters.nodes.add(nodeBehavior=6)
    for index, score in enumerate(scores):
        node.evaluationInfo.add(evaluationIndex=index, evaluationValue=score)
    getattr(model, message).postEvaluationTransform = transform
    return model


def softmax(*scores: float) -> list[float]:
    powers = np.exp(np.array(scores))
    return list(powers / powers.sum())


@pytest.mark.parametrize(
    ("transform", "scores", "probabilities"),
    [
        (0, (0.75,), [0.25, 0.75]),
        (2, (0.3,), softmax(0, 0.3)),
        (3, (0.3,), softmax(0, 0.3)),
        (0, (0.25, 0.5, 0.25), [0.25, 0.5, 0.25]),
        (1, (1, 2, -1), softmax(1, 2, -1)),
        (2, (1, -1), [1 / (1 + np.exp(-1)), 1 / (1 + np.exp(1))]),
    ],
)
def test_transforms(
    tmp_path: Path, transform: int, scores: tuple[float, ...], probabilities: list[float]
) -> None:
    result = load(scored(transform, *scores), tmp_path).predict({"x": [0.0]})
    np.testing.assert_allclose(list(result["p"].values()), probabilities, rtol=TIGHT)


@pytest.mark.parametrize(("score", "label"), [(0.5, "b"), (np.nextafter(0.5, 0), "a")])
def test_a_tie_of_two_is_the_second(tmp_path: Path, score: float, label: str) -> None:
    assert load(scored(0, score), tmp_path).predict({"x": [0.0]})["label"] == label


@pytest.mark.parametrize(("transform", "scores"), [(1, (0.5,)), (3, (0.5, 0.5))])
def test_a_transform_without_a_meaning(tmp_path: Path, transform: int, scores: tuple[float, ...]) -> None:
    with pytest.raises(UnsupportedOpsError, match="score"):
        load(scored(transform, *scores), tmp_path)


def test_a_regression_through_the_logistic_function(tmp_path: Path) -> None:
    model = regressor({"a": "double", "b": "int64"})
    parameters = model.treeEnsembleRegressor.treeEnsemble
    parameters.numPredictionDimensions = 1
    parameters.nodes.add(
        nodeBehavior=3, branchFeatureIndex=1, branchFeatureValue=2, trueChildNodeId=1, falseChildNodeId=2
    )
    for place, value in ((1, 4.0), (2, -1.0)):
        parameters.nodes.add(nodeId=place, nodeBehavior=6).evaluationInfo.add(evaluationValue=value)
    model.treeEnsembleRegressor.postEvaluationTransform = 2
    loaded = load(model, tmp_path)
    assert loaded.predict({"a": 0.5, "b": 3})["y"] == pytest.approx(1 / (1 + np.exp(-4)), rel=TIGHT)
    assert loaded.predict({"a": 0.5, "b": np.int64(2)})["y"] == pytest.approx(1 / (1 + np.exp(1)), rel=TIGHT)


def test_an_optional_feature_that_is_not_given_is_missing(tmp_path: Path) -> None:
    model = regressor({"a": "double"})
    model.description.input[0].type.isOptional = True
    parameters = model.treeEnsembleRegressor.treeEnsemble
    parameters.numPredictionDimensions = 1
    parameters.nodes.add(
        nodeBehavior=1, trueChildNodeId=1, falseChildNodeId=2, missingValueTracksTrueChild=True
    )
    for place in (1, 2):
        parameters.nodes.add(nodeId=place, nodeBehavior=6).evaluationInfo.add(evaluationValue=place)
    loaded = load(model, tmp_path)
    assert [loaded.predict(given)["y"] for given in ({}, {"a": 1.0}, {"a": -1.0})] == [1, 2, 1]


def test_a_feature_past_the_last_one(tmp_path: Path) -> None:
    model = scored(0, 0.5)
    model.treeEnsembleClassifier.treeEnsemble.nodes[0].nodeId = 1
    model.treeEnsembleClassifier.treeEnsemble.nodes.add(nodeId=2, nodeBehavior=6)
    model.treeEnsembleClassifier.treeEnsemble.nodes.add(
        nodeId=0, branchFeatureIndex=1, trueChildNodeId=1, falseChildNodeId=2
    )
    with pytest.raises(ModelFormatError, match="compares feature 1; the inputs have 1"):
        load(model, tmp_path)


def test_an_input_of_another_size_is_refused_and_not_read_past(tmp_path: Path) -> None:
    model = regressor({"x": (3,)}, (1,))
    grow(model.treeEnsembleRegressor.treeEnsemble, np.random.default_rng(0), 2, 3, 1)
    size = model.description.input[0].type.multiArrayType.shapeRange.sizeRanges.add(
        lowerBound=1, upperBound=-1
    )
    assert size.upperBound == -1
    with pytest.raises(ModelError):
        load(model, tmp_path).predict({"x": np.zeros(2)})


def test_a_small_file_does_not_ask_for_a_large_table(tmp_path: Path) -> None:
    model = regressor({"x": (1,)}, (1_000_000,))
    parameters = model.treeEnsembleRegressor.treeEnsemble
    parameters.numPredictionDimensions = 1_000_000
    for tree in range(20):
        parameters.nodes.add(treeId=tree, nodeBehavior=6).evaluationInfo.add(evaluationValue=1)
    with pytest.raises(ModelFormatError, match="20 leaves of 1000000 values are too many"):
        load(model, tmp_path)
