"""`describe`: what a model is, without running it."""

import json
from pathlib import Path

import pytest

from coremlops.errors import WeightsError
from coremlops.model import model_digest
from coremlops.model.proto import message_class
from coremlops.runtime import describe
from tests.handmade import adder


def test_a_classifier(tiny_classifier: Path) -> None:
    found = describe(tiny_classifier)
    assert json.loads(json.dumps(found)) == found
    assert found["digest"] == model_digest(tiny_classifier)
    assert found["bytes"] == sum(file.stat().st_size for file in tiny_classifier.rglob("*") if file.is_file())
    assert found["inputs"] == [{"name": "image", "type": "image", "width": 16, "height": 16, "color": "RGB"}]
    assert found["outputs"] == [
        {"name": "classLabel", "type": "scalar", "dtype": "string"},
        {"name": "classLabel_probs", "type": "dictionary", "key": "string"},
    ]
    assert found["labels"] == ["ada", "bob"]
    assert found["classifier"] == {"label": "classLabel", "probabilities": "classLabel_probs"}
    assert (found["kind"], found["specification_version"]) == ("mlProgram", 7)
    assert found["minimum_targets"]["iOS"] == "16"
    assert found["ops"]["conv"] == 2
    assert list(found["weights"]["dtypes"]) == ["fp16"]


def test_a_model_of_arrays(tmp_path: Path) -> None:
    found = describe(adder(tmp_path / "a.mlpackage"))
    assert found["inputs"] == [{"name": "x", "type": "array", "dtype": "float32", "shape": (2, 3)}]
    assert found["weights"] == {"bytes": 24, "dtypes": {"fp32": 24}}
    assert found["classifier"] is None


def test_a_kind_that_does_not_run_here_is_described_all_the_same(tmp_path: Path) -> None:
    spec = message_class("Model")(specificationVersion=1)
    spec.neuralNetworkClassifier.stringClassLabels.vector.extend(("a", "b"))
    path = tmp_path / "net.mlmodel"
    path.write_bytes(spec.SerializeToString())
    found = describe(path)
    assert (found["kind"], found["format"], found["labels"]) == (
        "neuralNetworkClassifier",
        "mlmodel",
        ["a", "b"],
    )
    assert (found["ops"], found["minimum_targets"]["iOS"]) == ({}, "11")


def test_truncated_weights(tmp_path: Path) -> None:
    path = adder(tmp_path / "a.mlpackage")
    file = path / "Data/com.apple.CoreML/weights/weight.bin"
    file.write_bytes(file.read_bytes()[:130])
    with pytest.raises(WeightsError, match="truncated"):
        describe(path)
