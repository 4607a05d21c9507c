"""Transforms of numbers against NumPy, and scikit-learn where it has the same."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import ModelFormatError
from tests.classic_models import load, predict, spec

TIGHT = 1e-15


def test_a_scaler(tmp_path: Path) -> None:
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    rows = np.random.default_rng(0).normal(3, 2, (20, 4))
    source = preprocessing.StandardScaler().fit(rows)
    model = spec({"x": (4,)}, {"y": (4,)})
    model.scaler.shiftValue.extend(-source.mean_)
    model.scaler.scaleValue.extend(1 / source.scale_)
    got = [result["y"] for result in predict(model, tmp_path, rows)]
    np.testing.assert_allclose(got, source.transform(rows), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("shift", "scale", "expected"),
    [
        ([], [], [1, 2]),
        ([3], [], [4, 5]),
        ([], [2], [2, 4]),
        ([1, 2], [10], [20, 40]),
        ([1], [1, 0.5], [2, 1.5]),
    ],
)
def test_one_number_for_all(
    tmp_path: Path, shift: list[float], scale: list[float], expected: list[float]
) -> None:
    model = spec({"x": ("float32", 2)}, {"y": ("float32", 2)})
    model.scaler.shiftValue.extend(shift)
    model.scaler.scaleValue.extend(scale)
    result = load(model, tmp_path).predict({"x": [1, 2]})["y"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


def test_a_scalar_that_keeps_its_name(tmp_path: Path) -> None:
    model = spec({"x": "double"}, {"x": "double"})
    model.scaler.shiftValue.append(1)
    loaded = load(model, tmp_path)
    assert loaded.predict({"x": 0.5}) == {"x": 1.5}
    assert [value.name for value in loaded.to_onnx().graph.output] == ["x.2"]


@pytest.mark.parametrize(
    ("norm", "expected"),
    [
        (0, np.array([3, -4, 0]) / 3),
        (1, np.array([3, -4, 0]) / 7),
        (2, np.array([3, -4, 0]) / 5),
    ],
)
def test_a_normalizer(tmp_path: Path, norm: int, expected: np.ndarray[Any, Any]) -> None:
    model = spec({"x": (3,)}, {"y": (3,)})
    model.normalizer.normType = norm
    loaded = load(model, tmp_path)
    np.testing.assert_allclose(loaded.predict({"x": [3, -4, 0]})["y"], expected, rtol=TIGHT)
    np.testing.assert_array_equal(loaded.predict({"x": [0, 0, 0]})["y"], [0, 0, 0])


def test_an_imputer_of_an_array(tmp_path: Path) -> None:
    model = spec({"x": (3,)}, {"y": (3,)})
    model.imputer.imputedDoubleArray.vector.extend([10, 20, 30])
    model.imputer.replaceDoubleValue = np.nan
    result = load(model, tmp_path).predict({"x": [np.nan, 2, np.nan]})
    np.testing.assert_array_equal(result["y"], [10, 2, 30])


def test_an_imputer_that_replaces_a_number(tmp_path: Path) -> None:
    model = spec({"x": ("int32", 3)}, {"y": ("int32", 3)})
    model.imputer.imputedInt64Array.vector.extend([10, 20, 30])
    model.imputer.replaceInt64Value = -1
    result = load(model, tmp_path).predict({"x": [-1, 2, -1]})["y"]
    assert result.dtype == np.int32
    np.testing.assert_array_equal(result, [10, 2, 30])


@pytest.mark.parametrize("replace", [None, -1])
def test_an_imputer_of_what_is_not_given(tmp_path: Path, replace: int | None) -> None:
    model = spec({"x": "int64"}, {"y": "int64"})
    model.description.input[0].type.isOptional = True
    model.imputer.imputedInt64Value = 7
    if replace is not None:
        model.imputer.replaceInt64Value = replace
    loaded = load(model, tmp_path)
    assert loaded.predict({}) == {"y": 7}
    assert loaded.predict({"x": 3}) == {"y": 3}
    assert loaded.predict({"x": -1}) == {"y": -1 if replace is None else 7}


def test_a_feature_vectorizer(tmp_path: Path) -> None:
    model = spec({"a": "double", "b": ("float32", 2), "c": "int64"}, {"y": (4,)})
    for name, size in (("c", 1), ("b", 2), ("a", 1)):
        model.featureVectorizer.inputList.add(inputColumn=name, inputDimensions=size)
    result = load(model, tmp_path).predict({"a": 0.1, "b": [1, 2], "c": 9})
    np.testing.assert_array_equal(result["y"], [9, 1, 2, 0.1])


@pytest.mark.parametrize(
    ("indices", "output", "expected"),
    [([2], "double", 0.3), ([1], "int64", 5), ([2, 0], (2,), np.array([0.3, 7]))],
)
def test_an_array_feature_extractor(tmp_path: Path, indices: list[int], output: Any, expected: Any) -> None:
    model = spec({"x": (3,)}, {"y": output})
    model.arrayFeatureExtractor.extractIndex.extend(indices)
    result = load(model, tmp_path).predict({"x": [7, 5, 0.3]})["y"]
    np.testing.assert_array_equal(result, expected)
    assert type(result) is type(expected)


def scaler(model: Any) -> None:
    model.scaler.shiftValue.extend([1, 2])


def wide_imputer(model: Any) -> None:
    model.imputer.imputedDoubleArray.vector.extend([1, 2])


def vectorizer(model: Any) -> None:
    model.featureVectorizer.inputList.add(inputColumn="x", inputDimensions=2)


def stranger(model: Any) -> None:
    model.featureVectorizer.inputList.add(inputColumn="z", inputDimensions=1)


def endless(model: Any) -> None:
    model.featureVectorizer.inputList.add(inputColumn="x", inputDimensions=1 << 60)


def extractor(model: Any) -> None:
    model.arrayFeatureExtractor.extractIndex.append(3)


def uneven(model: Any) -> None:
    model.scaler.shiftValue.extend([1, 2])
    model.scaler.scaleValue.extend([1, 2, 3])


@pytest.mark.parametrize(
    ("fill", "message"),
    [
        (scaler, "2 shifts and 1 scales for 3 inputs"),
        (uneven, "2 shifts and 3 scales"),
        (wide_imputer, "2 values to impute for 3 inputs"),
        (lambda model: model.imputer.SetInParent(), "no value to impute"),
        (vectorizer, "2 elements of the input 'x'; it has 3"),
        (endless, "expected at least one a feature"),
        (extractor, "element 3 of an array of 3"),
        (lambda model: model.arrayFeatureExtractor.SetInParent(), "no index"),
        (stranger, "'z'"),
    ],
)
def test_numbers_that_do_not_fit(tmp_path: Path, fill: Any, message: str) -> None:
    model = spec({"x": (3,)}, {"y": (3,)})
    fill(model)
    with pytest.raises(ModelFormatError, match=message):
        load(model, tmp_path)


def test_an_input_of_absurd_size(tmp_path: Path) -> None:
    model = spec({"x": (1 << 40, 1 << 20)}, {"y": (3,)})
    model.normalizer.normType = 1
    with pytest.raises(ModelFormatError, match="has the shape"):
        load(model, tmp_path)
