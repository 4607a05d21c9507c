"""`describe`: what a model is, without running it."""

import json
from pathlib import Path

import numpy as np
import pytest

from coremlops.errors import WeightsError
from coremlops.model import model_digest
from coremlops.model.proto import message_class
from coremlops.runtime import describe
from tests.handmade import adder
from tests.networks import add_layer, model, write


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


def test_a_neural_network(tmp_path: Path) -> None:
    spec, net = model()
    add_layer(net, "loadConstantND", [], ["c"], shape=[3], data=np.array([1.0, 2, 3]))
    add_layer(net, "multiply", ["x"], ["a"], alpha=2.0)
    loop = add_layer(net, "loop", [], [], maxLoopIterations=2)
    inner = add_layer(loop.bodyNetwork, "innerProduct", ["a"], ["a"], inputChannels=8, outputChannels=1)
    inner.weights.rawValue, inner.weights.quantization.numberOfBits = b"abcd", 4
    inner.weights.quantization.linearQuantization.scale.append(1)
    add_layer(net, "multiply", ["a"], ["b"], alpha=2.0)
    found = describe(write(tmp_path / "a.mlmodel", spec))
    assert found["ops"] == {"multiply": 2, "innerProduct": 1, "loadConstantND": 1, "loop": 1}
    assert found["weights"] == {"bytes": 16, "dtypes": {"fp32": 12, "uint4": 4}}
    assert found["members"] == []


def test_truncated_weights(tmp_path: Path) -> None:
    path = adder(tmp_path / "a.mlpackage")
    file = path / "Data/com.apple.CoreML/weights/weight.bin"
    file.write_bytes(file.read_bytes()[:130])
    with pytest.raises(WeightsError, match="truncated"):
        describe(path)
