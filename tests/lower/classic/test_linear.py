"""Linear models against scikit-learn and NumPy."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import InputError, ModelFormatError
from tests.classic_models import classifier, load, predict, regressor

TIGHT = 1e-12


def fill(message: Any, weights: Any, offsets: Any) -> None:
    for row in np.atleast_2d(weights):
        message.weights.add().value.extend(row)
    message.offset.extend(np.atleast_1d(offsets))


def data(classes: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(1)
    target = np.arange(60) % classes
    return rng.normal(size=(60, 3)) + target[:, None], target


def test_a_regressor_of_single_features(tmp_path: Path) -> None:
    model = regressor({"a": "double", "b": "int64", "c": ("float32", 2)})
    fill(model.glmRegressor, [0.1, 2, 3, 4], 0.5)
    result = load(model, tmp_path).predict({"a": 0.3, "b": 7, "c": [1, -1]})
    assert result == {"y": pytest.approx(0.1 * 0.3 + 14 + 3 - 4 + 0.5, rel=TIGHT)}
    assert type(result["y"]) is float


def test_a_regressor_of_several_targets(tmp_path: Path) -> None:
    model = regressor({"x": (3,)}, (2,))
    fill(model.glmRegressor, np.arange(6).reshape(2, 3), [1, -1])
    result = load(model, tmp_path).predict({"x": [1, 2, 3]})["y"]
    np.testing.assert_array_equal(result, [0 + 2 + 6 + 1, 3 + 8 + 15 - 1])
    assert result.dtype == np.float64


def test_a_row_is_as_good_as_a_vector(tmp_path: Path) -> None:
    model = regressor({"x": (3,)})
    fill(model.glmRegressor, [1, 2, 3], 0)
    loaded = load(model, tmp_path)
    assert loaded.predict({"x": [[1, 1, 2]]}) == loaded.predict({"x": [1, 1, 2]}) == {"y": 9}
    with pytest.raises(InputError, match=r"expected the shape \[3\], got \[1, 4\]"):
        loaded.predict({"x": [[1, 1, 2, 2]]})


def normal(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


@pytest.mark.parametrize("x", [0.0, 1e-9, 0.7, -0.7, 3.0, -3.0, 6.0, -8.0, 20.0, -300.0])
def test_probit_and_logit(tmp_path: Path, x: float) -> None:
    expected = {1: 1 / (1 + math.exp(-x)), 2: normal(x)}
    for transform, value in expected.items():
        model = regressor({"x": "double"})
        fill(model.glmRegressor, 1, 0)
        model.glmRegressor.postEvaluationTransform = transform
        # Absolute: the probability of a far tail is a difference from one half.
        assert load(model, tmp_path).predict({"x": x})["y"] == pytest.approx(value, rel=0, abs=1e-14)


@pytest.mark.parametrize("labels", [["Foo", "Bar"], [4, 2, 9]])
def test_one_against_the_rest(tmp_path: Path, labels: list[Any]) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    multiclass = pytest.importorskip("sklearn.multiclass")
    rows, target = data(len(labels))
    source = linear.LogisticRegression()
    if len(labels) > 2:
        source = multiclass.OneVsRestClassifier(source)
    source.fit(rows, target)
    model = classifier({"x": (3,)}, labels, "glmClassifier")
    each = source.estimators_ if len(labels) > 2 else [source]
    fill(model.glmClassifier, [one.coef_[0] for one in each], [one.intercept_[0] for one in each])
    model.glmClassifier.classEncoding = 1
    results = predict(model, tmp_path, rows)
    got = [list(result["p"].values()) for result in results]
    np.testing.assert_allclose(got, source.predict_proba(rows), rtol=TIGHT, atol=TIGHT)
    assert [result["label"] for result in results] == [labels[number] for number in source.predict(rows)]


def test_far_from_the_border_the_scores_decide(tmp_path: Path) -> None:
    model = classifier({"x": (1,)}, ["a", "b", "c"], "glmClassifier")
    fill(model.glmClassifier, [[1], [2], [-1]], [0, 0, 0])
    model.glmClassifier.classEncoding = 1
    result = load(model, tmp_path).predict({"x": [50.0]})
    assert result["p"]["a"] == result["p"]["b"] == 0.5
    assert result["label"] == "b"


def test_a_reference_class(tmp_path: Path) -> None:
    model = classifier({"x": (2,)}, ["zero", "one", "two"], "glmClassifier")
    fill(model.glmClassifier, [[1, 0], [0, 1]], [0.5, 0])
    result = load(model, tmp_path).predict({"x": [0.25, 2]})
    powers = np.exp([0, 0.75, 2])
    np.testing.assert_allclose(list(result["p"].values()), powers / powers.sum(), rtol=TIGHT)
    assert result["label"] == "two"


def test_a_probit_classifier(tmp_path: Path) -> None:
    model = classifier({"x": (1,)}, [0, 1], "glmClassifier")
    fill(model.glmClassifier, [[2]], [-1])
    model.glmClassifier.postEvaluationTransform = 1
    result = load(model, tmp_path).predict({"x": [1.0]})
    assert result["p"] == {0: pytest.approx(normal(-1), abs=1e-14), 1: pytest.approx(normal(1), abs=1e-14)}
    assert result["label"] == 1
    assert load(model, tmp_path).predict({"x": [0.5]})["label"] == 0, "a tie is the first's"


@pytest.mark.parametrize(
    ("labels", "rows", "encoding", "transform", "message"),
    [
        (["a", "b", "c"], 3, 0, 0, "3 rows of weights for 3 classes, ReferenceClass"),
        (["a", "b", "c"], 2, 1, 0, "2 rows of weights for 3 classes, OneVsRest"),
        (["a", "b", "c"], 2, 0, 1, "a probit of 3 classes"),
        (["a", "b"], 0, 0, 0, "0 rows"),
        (["a", "b"], 1, 7, 0, "classEncoding 7 is unknown"),
    ],
)
def test_numbers_that_do_not_fit(
    tmp_path: Path, labels: list[str], rows: int, encoding: int, transform: int, message: str
) -> None:
    model = classifier({"x": (1,)}, labels, "glmClassifier")
    for _ in range(rows):
        fill(model.glmClassifier, [1], 0)
    model.glmClassifier.classEncoding = encoding
    model.glmClassifier.postEvaluationTransform = transform
    with pytest.raises(ModelFormatError, match=message):
        load(model, tmp_path)


def test_more_weights_than_inputs(tmp_path: Path) -> None:
    model = regressor({"x": (3,)})
    fill(model.glmRegressor, [1, 2, 3, 4], 0)
    with pytest.raises(ModelFormatError, match="4 weights for 3 inputs"):
        load(model, tmp_path)
