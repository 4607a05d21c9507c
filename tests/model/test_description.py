"""Descriptions: features of every kind, targets, labels."""

from pathlib import Path
from typing import Any

import pytest

from coremlops.errors import ModelFormatError
from coremlops.model import ArrayFeature, ImageFeature, ModelAsset
from coremlops.model.description import DictionaryFeature, ScalarFeature, SequenceFeature, read_description
from coremlops.model.proto import message_class


def network(version: int = 4) -> Any:
    spec = message_class("Model")(specificationVersion=version)
    spec.neuralNetworkClassifier.SetInParent()
    return spec


def test_a_converted_classifier(tiny_classifier: Path) -> None:
    description = ModelAsset.open(tiny_classifier).description
    assert description.inputs == (ImageFeature("image", 16, 16, "RGB"),)
    assert description.outputs == (
        ScalarFeature("classLabel", "string"),
        DictionaryFeature("classLabel_probs", "string"),
    )
    assert description.labels == ("ada", "bob")
    assert (description.predicted_label, description.predicted_probabilities) == (
        "classLabel",
        "classLabel_probs",
    )
    assert description.minimum_targets["iOS"] == "16"
    assert description.metadata["user_defined"] == dict(description.user_defined)
    assert set(description.metadata) == {"author", "license", "version", "about", "user_defined"}
    assert '"centerCrop"' in description.user_defined["com.coremlops.preparation"]


def test_features_of_every_kind() -> None:
    spec = network()
    features = spec.description.input
    image = features.add(name="image").type.imageType
    image.width, image.height, image.colorSpace = 8, 4, 30
    image.enumeratedSizes.sizes.add(width=16, height=8)
    wide = features.add(name="wide").type.imageType
    wide.width, wide.height, wide.colorSpace = 8, 8, 10
    wide.imageSizeRange.widthRange.lowerBound, wide.imageSizeRange.widthRange.upperBound = 4, -1
    array = features.add(name="array").type
    array.isOptional = True
    array.multiArrayType.shape.extend((1, 3))
    array.multiArrayType.dataType = 131104
    array.multiArrayType.intDefaultValue = 7
    features.add(name="number").type.int64Type.SetInParent()
    features.add(name="words").type.sequenceType.stringType.SetInParent()
    features.add(name="table").type.dictionaryType.int64KeyType.SetInParent()
    found = read_description(spec, where="test").inputs
    assert [(entry.name, entry.type, entry.shape, entry.dtype) for entry in found] == [
        ("image", "image", (4, 8, 3), "uint8"),
        ("wide", "image", (8, 8), "uint8"),
        ("array", "array", (1, 3), "int32"),
        ("number", "scalar", (), "int64"),
        ("words", "sequence", (), "string"),
        ("table", "dictionary", (), "double"),
    ]
    assert ImageFeature("deep", 8, 4, "GRAYSCALE_FLOAT16").dtype == "float16"
    assert found == (
        ImageFeature("image", 8, 4, "BGR", sizes=((16, 8),)),
        ImageFeature("wide", 8, 8, "GRAYSCALE", width_range=(4, None), height_range=(0, 0)),
        ArrayFeature("array", "int32", (1, 3), optional=True, default=7),
        ScalarFeature("number", "int64"),
        SequenceFeature("words", "string"),
        DictionaryFeature("table", "int64"),
    )


def test_labels_of_other_kinds_of_classifier() -> None:
    spec = network()
    spec.neuralNetworkClassifier.int64ClassLabels.vector.extend((3, 1, 2))
    assert read_description(spec, where="test").labels == (3, 1, 2)
    tree = message_class("Model")(specificationVersion=1)
    tree.treeEnsembleClassifier.stringClassLabels.vector.extend(("a", "b"))
    assert read_description(tree, where="test").labels == ("a", "b")
    plain = message_class("Model")(specificationVersion=1)
    plain.neuralNetwork.SetInParent()
    assert read_description(plain, where="test").labels == ()


@pytest.mark.parametrize(
    ("version", "ios"), [(1, "11"), (6, "15"), (7, "16"), (8, "17"), (9, "18"), (10, "26")]
)
def test_minimum_targets(version: int, ios: str) -> None:
    assert read_description(network(version), where="test").minimum_targets["iOS"] == ios


def test_a_version_from_the_future_has_no_known_target() -> None:
    assert read_description(network(99), where="test").minimum_targets == {}


def test_a_multifunction_model_shows_its_default_function() -> None:
    spec = network(9)
    for name in ("one", "two"):
        function = spec.description.functions.add(name=name)
        function.input.add(name=f"input of {name}").type.doubleType.SetInParent()
    spec.description.defaultFunctionName = "two"
    description = read_description(spec, where="test")
    assert [function.name for function in description.functions] == ["one", "two"]
    assert description.inputs == (ScalarFeature("input of two", "double"),)
    spec.description.defaultFunctionName = "three"
    with pytest.raises(ModelFormatError, match="default function 'three'"):
        read_description(spec, where="test")


def test_features_that_cannot_be() -> None:
    spec = network()
    spec.description.input.add(name="nothing")
    with pytest.raises(ModelFormatError, match="'nothing' has the type None"):
        read_description(spec, where="test")
    spec = network()
    spec.description.input.add().type.int64Type.SetInParent()
    with pytest.raises(ModelFormatError, match="a feature without a name"):
        read_description(spec, where="test")
    spec = network()
    for _ in range(2):
        spec.description.input.add(name="twice").type.int64Type.SetInParent()
    with pytest.raises(ModelFormatError, match="two features have one name"):
        read_description(spec, where="test")
    spec = network()
    spec.description.input.add(name="picture").type.imageType.width = -1
    with pytest.raises(ModelFormatError, match="'picture' is -1 x 0"):
        read_description(spec, where="test")
    spec = network()
    spec.description.input.add(name="array").type.multiArrayType.dataType = 5
    with pytest.raises(ModelFormatError, match="unknown data type"):
        read_description(spec, where="test")
