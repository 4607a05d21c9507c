"""Small classic models and networks of every kind, whole, to be damaged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.classic_models import classifier, regressor, spec
from tests.handmade import adder, array_feature
from tests.lower.classic.test_linear import fill as fill_linear
from tests.lower.classic.test_neighbors import neighbours
from tests.lower.classic.test_suppression import suppression
from tests.lower.classic.test_trees import grow
from tests.networks import add_layer
from tests.networks import model as network_model
from tests.runtime.test_classic import one_hot, recommender
from tests.runtime.test_parts import counter
from tests.runtime.test_pipeline import fruit, linear, link, pipeline, scaler

KERNELS = ("linearKernel", "rbfKernel", "polyKernel", "sigmoidKernel")
EXTRACTORS = ("textClassifier", "wordTagger", "gazetteer", "wordEmbedding", "visionFeaturePrint")


def trees(kind: str) -> Any:
    """Three random trees; kind: `treeEnsembleRegressor` or `treeEnsembleClassifier`."""
    if kind == "treeEnsembleRegressor":
        model = regressor({"x": (3,)})
        grow(model.treeEnsembleRegressor.treeEnsemble, np.random.default_rng(1), 3, 3, 1)
    else:
        model = classifier({"x": (3,)}, ["a", "b", "c"], kind)
        grow(model.treeEnsembleClassifier.treeEnsemble, np.random.default_rng(0), 3, 3, 3)
    return model


def vectors(kernel: str, *, labels: Any = None, sparse: bool = False, probable: bool = True) -> Any:
    """A support vector machine over two numbers: a regressor, or a classifier of labels."""
    if labels is None:
        model = regressor({"x": (2,)})
        message = model.supportVectorRegressor
        message.coefficients.alpha.extend([0.5, -1, 2])
        message.rho = 0.25
        count = 3
    else:
        model = classifier(
            {"a": "double", "b": "int64"}, labels, "supportVectorClassifier", probable=probable
        )
        message, count = model.supportVectorClassifier, len(labels)
        message.numberOfSupportVectorsPerClass.extend([1] * count)
        for _ in range(count - 1):
            message.coefficients.add().alpha.extend(np.linspace(-1, 1, count))
        pairs = count * (count - 1) // 2
        message.rho.extend(np.linspace(0.1, 0.3, pairs))
        if probable:
            message.probA.extend([-0.2] * pairs)
            message.probB.extend([0.1] * pairs)
    chosen = getattr(message.kernel, kernel)
    chosen.SetInParent()
    for name, value in (("gamma", 0.5), ("degree", 2), ("c", 1)):
        if hasattr(chosen, name):
            setattr(chosen, name, value)
    for number in range(count):
        if sparse:
            message.sparseSupportVectors.vectors.add().nodes.add(index=1 + number % 2, value=number)
        else:
            message.denseSupportVectors.vectors.add().values.extend([number, 1 - number])
    return model


def glm(classes: int) -> Any:
    if classes == 0:
        model = regressor({"a": "double", "b": "int64", "c": ("float32", 2)})
        fill_linear(model.glmRegressor, [0.1, 2, 3, 4], 0.5)
        return model
    model = classifier({"x": ("float32", 2)}, list(range(classes)), "glmClassifier")
    rows = [[1, -1], [0.5, 2]][: classes - 1]
    fill_linear(model.glmClassifier, rows, [0.5] * len(rows))
    return model


def imputer(kind: str) -> Any:
    types = {"Int64": ("int32", 3), "Double": (3,)}
    model = spec({"x": types[kind]}, {"y": types[kind]})
    getattr(model.imputer, f"imputed{kind}Array").vector.extend([1, 2, 3])
    setattr(model.imputer, f"replace{kind}Value", -1)
    return model


def strings_imputer() -> Any:
    model = spec({"x": "string"}, {"y": "string"})
    model.imputer.imputedStringValue, model.imputer.replaceStringValue = "a", "?"
    return model


def normalizer(norm: int) -> Any:
    model = spec({"x": (3,)}, {"y": (3,)})
    model.normalizer.normType = norm
    return model


def scaled() -> Any:
    model = spec({"x": (2,)}, {"y": (2,)})
    model.scaler.shiftValue.extend([1, 2])
    model.scaler.scaleValue.extend([0.5, 3])
    return model


def dictionary_vectorizer(kind: str) -> Any:
    model = spec({"x": f"dict:{kind}"}, {"y": (3,)})
    field = {"string": "stringToIndex", "int64": "int64ToIndex"}[kind]
    getattr(model.dictVectorizer, field).vector.extend(["a", "b", "c"] if kind == "string" else [5, 6, 7])
    return model


def feature_vectorizer() -> Any:
    model = spec({"a": "double", "b": (2,), "c": "int64"}, {"y": (4,)})
    for name, size in (("a", 1), ("b", 2), ("c", 1)):
        model.featureVectorizer.inputList.add(inputColumn=name, inputDimensions=size)
    return model


def extractor() -> Any:
    model = spec({"x": (4,)}, {"y": (2,)})
    model.arrayFeatureExtractor.extractIndex.extend([2, 0])
    return model


def mapping(backwards: bool) -> Any:
    if backwards:
        model = spec({"x": "int64"}, {"y": "string"})
        model.categoricalMapping.int64ToStringMap.map.update({1: "a", 2: "b"})
        model.categoricalMapping.strValue = "?"
        return model
    model = spec({"x": "string"}, {"y": "int64"})
    model.categoricalMapping.stringToInt64Map.map.update({"x": 1, "b": 2})
    return model


def identity() -> Any:
    model = spec({"x": ("float32", 2, 3)}, {"x": ("float32", 2, 3)})
    model.identity.SetInParent()
    return model


def thresholds() -> Any:
    model = spec({"x": (2,)}, {"y": (2,)})
    model.specificationVersion = 6
    curve = model.classConfidenceThresholding.precisionRecallCurves.add()
    for name in ("precisionValues", "recallValues", "precisionConfidenceThresholds"):
        getattr(curve, name).vector.extend([0.5, 0.9])
    return model


def probit() -> Any:
    model = regressor({"x": (2,)})
    model.bayesianProbitRegressor.numberOfFeatures = 2
    return model


def apple(kind: str) -> Any:
    """A model of Apple's own, which is described and not run."""
    model = spec({"text": "string"}, {"label": "string"})
    message = getattr(model, kind)
    message.SetInParent()
    if hasattr(message, "revision"):
        message.revision = 1
    if hasattr(message, "language"):
        message.language = "en"
    if hasattr(message, "modelParameterData"):
        message.modelParameterData = bytes(range(40))
    if hasattr(message, "stringClassLabels"):
        message.stringClassLabels.vector.extend(["a", "b"])
    return model


def flexible_network(ways: str) -> Any:
    """A convolution over pictures of ranged or listed sizes."""
    made, net = network_model()
    array_feature(made.description.input.add(), "x", (1, 2, 6, 6))
    array_feature(made.description.output.add(), "y", (1, 3, 4, 4))
    array = made.description.input[0].type.multiArrayType
    if ways == "ranges":
        for least, most in ((1, 4), (2, 2), (3, -1), (3, 12)):
            array.shapeRange.sizeRanges.add(lowerBound=least, upperBound=most)
    else:
        for size in (6, 8):
            array.enumeratedShapes.shapes.add().shape.extend((1, 2, size, size))
    weights = np.arange(54, dtype=np.float32)
    add_layer(
        net,
        "convolution",
        ["x"],
        ["y"],
        outputChannels=3,
        kernelChannels=2,
        kernelSize=[3, 3],
        stride=[1, 1],
        dilationFactor=[1, 1],
        weights=weights,
    )
    net.layers[0].convolution.valid.SetInParent()
    return made


def updatable_network() -> Any:
    """A layer that a device may train, with its loss, its optimizer and its input."""
    made, net = network_model("neuralNetworkClassifier")
    made.isUpdatable = True
    array_feature(made.description.input.add(), "x", (4,))
    made.description.predictedFeatureName = "label"
    made.description.predictedProbabilitiesName = "p"
    label = made.description.output.add(name="label")
    label.type.stringType.SetInParent()
    chances = made.description.output.add(name="p")
    chances.type.dictionaryType.stringKeyType.SetInParent()
    net.stringClassLabels.vector.extend(["a", "b"])
    add_layer(
        net,
        "innerProduct",
        ["x"],
        ["logits"],
        inputChannels=4,
        outputChannels=2,
        hasBias=True,
        weights=np.arange(8, dtype=np.float32),
        bias=np.ones(2, np.float32),
    )
    net.layers[0].isUpdatable = net.layers[0].innerProduct.weights.isUpdatable = True
    add_layer(net, "softmaxND", ["logits"], ["p"], axis=-1)
    loss = net.updateParams.lossLayers.add(name="loss")
    loss.categoricalCrossEntropyLossLayer.input = "p"
    loss.categoricalCrossEntropyLossLayer.target = "label_true"
    net.updateParams.optimizer.sgdOptimizer.learningRate.defaultValue = 0.1
    net.updateParams.epochs.defaultValue = 3
    array_feature(made.description.trainingInput.add(), "x", (4,))
    made.description.trainingInput.add(name="label_true").type.stringType.SetInParent()
    return made


def quantized_network() -> Any:
    """Weights of two bits in a table."""
    made, net = network_model()
    array_feature(made.description.input.add(), "x", (4,))
    array_feature(made.description.output.add(), "y", (2,))
    add_layer(net, "innerProduct", ["x"], ["y"], inputChannels=4, outputChannels=2)
    weights = net.layers[0].innerProduct.weights
    weights.rawValue = bytes([0b00011011, 0b11100100])
    weights.quantization.numberOfBits = 2
    weights.quantization.lookupTableQuantization.floatValue.extend([0, 1, 2, 4])
    return made


def _classic() -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = {
        kind: partial(trees, kind) for kind in ("treeEnsembleRegressor", "treeEnsembleClassifier")
    }
    for kernel in KERNELS:
        found[f"svr-{kernel}"] = partial(vectors, kernel)
        found[f"svc-{kernel}"] = partial(vectors, kernel, labels=[1, 2, 3], sparse=True)
    return found | {
        "svc-votes": lambda: vectors("rbfKernel", labels=["a", "b"], probable=False),
        "glm": lambda: glm(0),
        "glm-two": lambda: glm(2),
        "glm-three": lambda: glm(3),
        "neighbours": lambda: neighbours(["a", "b", "a"], [[0, 1], [1, 0], [2, 2]], 2, inverse=True),
        "neighbours-tree": lambda: neighbours([3, 5, 3, 5], [[0, 1], [1, 0], [2, 2], [0, 0]], 3, tree=True),
        "imputer-doubles": lambda: imputer("Double"),
        "imputer-integers": lambda: imputer("Int64"),
        "imputer-string": strings_imputer,
        "scaler": scaled,
        "normalizer": lambda: normalizer(2),
        "one-hot": lambda: one_hot("int64", (3,), [7, 5, 3], sparse=False, ignore=True),
        "one-hot-sparse": lambda: one_hot("string", "dict:int64", ["x", "b"], sparse=True, ignore=True),
        "dict-vectorizer-strings": lambda: dictionary_vectorizer("string"),
        "dict-vectorizer-integers": lambda: dictionary_vectorizer("int64"),
        "feature-vectorizer": feature_vectorizer,
        "extractor": extractor,
        "mapping": lambda: mapping(False),
        "mapping-back": lambda: mapping(True),
        "suppression": lambda: suppression(per_class=True, optional=True, boxes=[(2, 5)]),
        "identity": identity,
        "thresholds": thresholds,
        "probit": probit,
        "pipeline": lambda: pipeline(
            [scaler("x", "z", 1), linear("z", [1, 2])], {"x": (2,)}, {"y": "double"}, "pipelineRegressor"
        ),
        "pipeline-classifier": lambda: fruit("pipelineClassifier"),
        "link": lambda: link("case.mlmodel"),
        "recommender": recommender,
        "network-ranges": lambda: flexible_network("ranges"),
        "network-shapes": lambda: flexible_network("shapes"),
        "network-updatable": updatable_network,
        "network-quantized": quantized_network,
        **{f"apple-{kind}": partial(apple, kind) for kind in EXTRACTORS},
    }


CLASSIC = _classic()


def write_handmade(folder: Path) -> None:
    """The classic models and networks, and two ML Programs that need no coremltools."""
    for name, make in CLASSIC.items():
        (folder / f"made-{name}.mlmodel").write_bytes(make().SerializeToString())
    adder(folder / "made-adder.mlpackage")
    counter(folder / "made-counter.mlpackage", "fp16")
