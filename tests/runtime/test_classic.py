"""Transforms of strings and dictionaries, recommenders, and what cannot run here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import InputError, ModelFormatError, UnsupportedOpsError, UsageError
from coremlops.model.proto import message_class
from coremlops.runtime import describe
from coremlops.runtime import load as load_path
from tests.classic_models import load, save, spec


def one_hot(kind: str, output: Any, categories: list[Any], *, sparse: bool, ignore: bool) -> Any:
    model = spec({"x": kind}, {"y": output})
    getattr(model.oneHotEncoder, f"{kind}Categories").vector.extend(categories)
    model.oneHotEncoder.outputSparse, model.oneHotEncoder.handleUnknown = sparse, int(ignore)
    return model


@pytest.mark.parametrize(
    ("kind", "output", "categories", "given", "expected"),
    [
        ("string", (3,), ["b", "a", "c"], "a", [0, 1, 0]),
        ("int64", ("float32", 3), [7, 5, -1], -1.0, [0, 0, 1]),
        ("int64", "dict:int64", [7, 5, -1], np.int64(5), {1: 1.0}),
        ("string", "dict:string", ["b", "a"], "a", {"a": 1.0}),
        ("string", "dict:int64", ["b", "a"], "a", {1: 1.0}),
    ],
)
def test_one_hot(
    tmp_path: Path, kind: str, output: Any, categories: list[Any], given: Any, expected: Any
) -> None:
    sparse = isinstance(expected, dict)
    loaded = load(one_hot(kind, output, categories, sparse=sparse, ignore=True), tmp_path)
    unknown = "zebra" if kind == "string" else 99
    for value, wanted in ((given, expected), (unknown, {} if sparse else [0] * len(categories))):
        result = loaded.predict({"x": value})["y"]
        assert result == wanted if sparse else list(result) == wanted


def test_an_unknown_category_is_an_error_where_the_model_says_so(tmp_path: Path) -> None:
    loaded = load(one_hot("string", (2,), ["a", "b"], sparse=False, ignore=False), tmp_path)
    with pytest.raises(InputError, match="'c' is none of the model's categories"):
        loaded.predict({"x": "c"})


@pytest.mark.parametrize("given", [1, None, ["a"], b"a"])
def test_a_string_is_a_string(tmp_path: Path, given: Any) -> None:
    loaded = load(one_hot("string", (2,), ["a", "b"], sparse=False, ignore=True), tmp_path)
    with pytest.raises(InputError, match="'x'"):
        loaded.predict({"x": given})


@pytest.mark.parametrize("given", ["1", 1.5, np.nan, [1, 2], 1 << 60, 10**400, None])
def test_an_integer_is_an_integer(tmp_path: Path, given: Any) -> None:
    loaded = load(one_hot("int64", (2,), [1, 2], sparse=False, ignore=True), tmp_path)
    with pytest.raises(InputError, match="'x'"):
        loaded.predict({"x": given})


def test_a_categorical_mapping(tmp_path: Path) -> None:
    model = spec({"x": "string"}, {"y": "int64"})
    model.categoricalMapping.stringToInt64Map.map.update({"a": 3, "b": 1})
    loaded = load(model, tmp_path)
    assert loaded.predict({"x": "b"}) == {"y": 1}
    with pytest.raises(InputError, match="the model maps 'c' to nothing"):
        loaded.predict({"x": "c"})
    model.categoricalMapping.int64Value = -1
    assert load(model, tmp_path).predict({"x": "c"}) == {"y": -1}


def test_a_categorical_mapping_back(tmp_path: Path) -> None:
    model = spec({"x": "int64"}, {"y": "string"})
    model.categoricalMapping.int64ToStringMap.map.update({3: "a"})
    model.categoricalMapping.strValue = "none"
    loaded = load(model, tmp_path)
    assert [loaded.predict({"x": value})["y"] for value in (3, 4)] == ["a", "none"]
    model.categoricalMapping.int64Value = 1
    with pytest.raises(ModelFormatError, match="a default of the other type"):
        load(model, tmp_path)


@pytest.mark.parametrize(("key", "keys"), [("string", ["a", "c", "b", "z"]), ("int64", [10, 30, 20, 0])])
def test_a_dictionary_vectorizer(tmp_path: Path, key: str, keys: list[Any]) -> None:
    model = spec({"x": f"dict:{key}"}, {"y": (4,)})
    getattr(model.dictVectorizer, f"{key}ToIndex").vector.extend(keys)
    loaded = load(model, tmp_path)
    np.testing.assert_array_equal(loaded.predict({"x": {keys[0]: 4, keys[2]: 8.5}})["y"], [4, 0, 8.5, 0])
    # Unknown keys are left out: so want coremltools' tests of scikit-learn's vectorizer.
    np.testing.assert_array_equal(
        loaded.predict({"x": {"unknown" if key == "string" else 99: 1}})["y"], [0] * 4
    )
    for wrong in ([1], {keys[0]: "much"}):
        with pytest.raises(InputError, match="'x'"):
            loaded.predict({"x": wrong})


def test_a_dictionary_vectorizer_that_gives_places(tmp_path: Path) -> None:
    model = spec({"x": "dict:string"}, {"y": "dict:int64"})
    model.dictVectorizer.stringToIndex.vector.extend(["a", "b", "c"])
    assert load(model, tmp_path).predict({"x": {"c": 2, "zebra": 1}}) == {"y": {2: 2.0}}


def test_a_feature_vectorizer_with_a_dictionary(tmp_path: Path) -> None:
    model = spec({"a": "dict:int64", "b": (2,), "c": "double"}, {"y": ("float32", 6)})
    for name, size in (("b", 2), ("a", 3), ("c", 1)):
        model.featureVectorizer.inputList.add(inputColumn=name, inputDimensions=size)
    loaded = load(model, tmp_path)
    result = loaded.predict({"a": {1: 5.0}, "b": [1, 2], "c": 0.5})["y"]
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, [1, 2, 0, 5, 0, 0.5])
    with pytest.raises(InputError, match="the key 3 is no place below 3"):
        loaded.predict({"a": {3: 1.0}, "b": [1, 2], "c": 0})
    with pytest.raises(InputError, match="expected 2 numbers, got 3"):
        loaded.predict({"a": {}, "b": [1, 2, 3], "c": 0})


def test_imputers_of_strings_and_dictionaries(tmp_path: Path) -> None:
    model = spec({"x": "string"}, {"y": "string"})
    model.description.input[0].type.isOptional = True
    model.imputer.imputedStringValue, model.imputer.replaceStringValue = "unknown", "?"
    loaded = load(model, tmp_path)
    assert [loaded.predict(given)["y"] for given in ({}, {"x": "?"}, {"x": "a"})] == [
        "unknown",
        "unknown",
        "a",
    ]
    model = spec({"x": "dict:string"}, {"y": "dict:string"})
    model.imputer.imputedStringDictionary.map.update({"a": 1.0, "b": 2.0})
    given = {"b": 5, "a": np.nan, "c": 3}
    assert load(model, tmp_path).predict({"x": given}) == {"y": {"a": 1.0, "b": 5.0, "c": 3.0}}


def test_a_scaled_integer_must_be_one(tmp_path: Path) -> None:
    model = spec({"x": "int64"}, {"y": "int64"})
    model.scaler.scaleValue.append(0.5)
    loaded = load(model, tmp_path)
    assert loaded.predict({"x": 6}) == {"y": 3}
    for wrong in (5, 1e300, np.inf):
        with pytest.raises(InputError, match="integer"):
            loaded.predict({"x": wrong})


def test_an_identity(tmp_path: Path) -> None:
    model = spec({"a": "string", "b": (2,)}, {"b": (2,), "other": "string"})
    model.identity.SetInParent()
    result = load(model, tmp_path).predict({"a": "text", "b": [1, 2]})
    assert list(result["b"]) == [1, 2]


def recommender() -> Any:
    outputs = {"items": "list:string", "scores": "dict:string"}
    model = spec(
        {"seen": "dict:string", "k": "int64", "among": "list:string", "without": "list:string"}, outputs
    )
    for feature in model.description.input[1:]:
        feature.type.isOptional = True
    message = model.itemSimilarityRecommender
    message.itemStringIds.vector.extend(["a", "b", "c", "d"])
    for item, alike, shift in ((0, {1: 0.5, 2: 0.25}, 0.0), (3, {1: 1.0, 2: 0.5}, 0.0), (2, {}, 1.0)):
        entry = message.itemItemSimilarities.add(itemId=item, itemScoreAdjustment=shift)
        for other, similarity in alike.items():
            entry.similarItemList.add(itemId=other, similarityScore=similarity)
    message.itemInputFeatureName = "seen"
    message.numRecommendationsInputFeatureName = "k"
    message.itemRestrictionInputFeatureName = "among"
    message.itemExclusionInputFeatureName = "without"
    message.recommendedItemListOutputFeatureName = "items"
    message.recommendedItemScoreOutputFeatureName = "scores"
    return model


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        # sim(k, i) * (score_i - shift_k), and c's shift is 1
        ({"seen": {"a": 2.0, "d": 3.0}}, {"b": 2 * 0.5 + 3, "c": 0.25 * (2 - 1) + 0.5 * (3 - 1)}),
        ({"seen": {"a": 2.0, "d": 3.0}, "k": 1}, {"b": 4.0}),
        ({"seen": {"a": 2.0}, "among": ["c", "d"]}, {"c": 0.25, "d": 0.0}),
        ({"seen": {"a": 2.0}, "without": ["b"]}, {"c": 0.25, "a": 0.0, "d": 0.0}),
        ({"seen": ["a", "stranger"]}, {"b": 0.5, "c": 0.0, "d": 0.0}),
        ({"seen": {}}, {"a": 0.0, "b": 0.0, "c": 0.0, "d": 0.0}),
    ],
)
def test_a_recommender(tmp_path: Path, given: Any, expected: dict[str, float]) -> None:
    result = load(recommender(), tmp_path).predict(given)
    assert result == {"items": list(expected), "scores": expected}


@pytest.mark.parametrize("given", [{"seen": 5}, {"seen": "a"}, {"seen": {"a": "much"}}, {"seen": [["a"]]}])
def test_a_recommender_of_nonsense(tmp_path: Path, given: Any) -> None:
    with pytest.raises(InputError, match="'seen'"):
        load(recommender(), tmp_path).predict(given)


def test_a_recommender_of_too_many_items(tmp_path: Path) -> None:
    model = recommender()
    model.itemSimilarityRecommender.itemItemSimilarities.add(itemId=1 << 63)
    with pytest.raises(ModelFormatError, match="of 4 names"):
        load(model, tmp_path)
    model.itemSimilarityRecommender.itemStringIds.Clear()
    with pytest.raises(ModelFormatError, match="at most 1000000 items"):
        load(model, tmp_path)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("visionFeaturePrint", "VisionFeaturePrint"),
        ("audioFeaturePrint", "AudioFeaturePrint"),
        ("wordTagger", "a word tagger of Apple's NaturalLanguage framework"),
        ("textClassifier", "a text classifier"),
        ("gazetteer", "a gazetteer"),
        ("wordEmbedding", "a word embedding"),
        ("soundAnalysisPreprocessing", "SoundAnalysisPreprocessing"),
        ("bayesianProbitRegressor", "Bayesian probit"),
        ("classConfidenceThresholding", "confidence thresholds"),
        ("customModel", "the class 'MyModel' of an app"),
        ("serializedModel", "a serialized model ('secret')"),
    ],
)
def test_what_cannot_run_here_is_named(tmp_path: Path, kind: str, words: str) -> None:
    model = spec({"x": (3,)}, {"y": (3,)})
    getattr(model, kind).SetInParent()
    if kind == "customModel":
        model.customModel.className = "MyModel"
    if kind == "serializedModel":
        model.serializedModel.identifier = "secret"
    path = save(model, tmp_path)
    assert describe(path)["kind"] == kind
    with pytest.raises(UnsupportedOpsError) as caught:
        load_path(path)
    assert words in caught.value.message
    assert caught.value.unsupported == (kind,)


def test_a_classic_model_has_no_functions(tmp_path: Path) -> None:
    model = spec({"x": (3,)}, {"y": (3,)})
    model.normalizer.SetInParent()
    with pytest.raises(UsageError, match="no function 'other'"):
        load_path(save(model, tmp_path), function_name="other")


def test_an_engine_without_doubles_is_refused(tmp_path: Path) -> None:
    model = spec({"x": (3,)}, {"y": (3,)})
    model.normalizer.SetInParent()
    with pytest.raises(UsageError, match="computes in double, and OpenVINO does not"):
        load_path(save(model, tmp_path), engine="openvino")


def test_every_kind_of_model_is_run_or_named(tmp_path: Path) -> None:
    kinds = [field.name for field in message_class("Model").DESCRIPTOR.oneofs_by_name["Type"].fields]
    assert len(kinds) > 30
    for kind in kinds:
        model = spec({"x": (3,)}, {"y": (3,)})
        getattr(model, kind).SetInParent()
        # An empty model of a kind is refused as what it is, or runs; nothing else comes out.
        try:
            load(model, tmp_path)
        except (ModelFormatError, UnsupportedOpsError):
            continue
