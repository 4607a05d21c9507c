"""Pipelines, and links to other models."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.errors import ModelFormatError, UnsupportedOpsError, UsageError
from coremlops.runtime import describe
from tests.classic_models import DTYPES, classifier, load, regressor, save, spec
from tests.handmade import add_operation, adder, program_spec, tensor_type
from tests.lower.classic.test_suppression import suppression


def scaler(source: str, target: str, shift: float, size: int = 2) -> Any:
    model = spec({source: (size,)}, {target: (size,)})
    model.scaler.shiftValue.append(shift)
    return model


def linear(source: str, weights: list[float]) -> Any:
    model = regressor({source: (len(weights),)})
    model.glmRegressor.weights.add().value.extend(weights)
    model.glmRegressor.offset.append(0)
    return model


def pipeline(
    members: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], kind: str = "pipeline"
) -> Any:
    model = spec(inputs, outputs)
    message = getattr(model, kind)
    (message if kind == "pipeline" else message.pipeline).models.extend(members)
    return model


@pytest.mark.parametrize("kind", ["pipeline", "pipelineRegressor"])
def test_one_after_another(tmp_path: Path, kind: str) -> None:
    members = [scaler("x", "z", 1), linear("z", [2, 3])]
    loaded = load(pipeline(members, {"x": (2,)}, {"y": "double"}, kind), tmp_path)
    assert loaded.predict({"x": [10, 20]}) == {"y": 2 * 11 + 3 * 21}


def test_the_features_between_the_members(tmp_path: Path) -> None:
    members = [scaler("x", "z", 1), scaler("z", "w", 1), linear("w", [2, 3])]
    loaded = load(pipeline(members, {"x": (2,)}, {"y": "double"}), tmp_path)
    assert loaded.inner_names == ("x", "z", "w", "y")
    found = loaded.predict({"x": [10, 20]}, intermediates=["w", "z"])
    assert found.keys() == {"y", "w", "z"}
    assert (list(found["z"]), list(found["w"])) == ([11, 21], [12, 22])
    with pytest.raises(UsageError, match="no feature 'q' between the members") as caught:
        loaded.predict({"x": [10, 20]}, intermediates=["q"])
    assert "x, z, w, y" in caught.value.hint


def test_a_name_may_be_used_again(tmp_path: Path) -> None:
    # scikit-learn pipelines of coremltools name a step's output as its input
    members = [scaler("x", "x", 1), scaler("x", "x", 10), linear("x", [1, 1])]
    loaded = load(pipeline(members, {"x": (2,)}, {"x": (2,), "y": "double"}), tmp_path)
    result = loaded.predict({"x": [1, 2]})
    assert list(result["x"]) == [12, 13]
    assert result["y"] == 25


def test_strings_into_a_classifier(tmp_path: Path) -> None:
    encoder = spec({"colour": "string"}, {"code": "dict:int64"})
    encoder.oneHotEncoder.stringCategories.vector.extend(["red", "green"])
    encoder.oneHotEncoder.outputSparse = True
    vector = spec({"code": "dict:int64", "weight": "double"}, {"all": (3,)})
    for name, size in (("code", 2), ("weight", 1)):
        vector.featureVectorizer.inputList.add(inputColumn=name, inputDimensions=size)
    last = classifier({"all": (3,)}, ["ripe", "raw"], "glmClassifier")
    last.glmClassifier.weights.add().value.extend([-1, 1, 0.5])
    last.glmClassifier.offset.append(0)
    model = pipeline(
        [encoder, vector, last],
        {"colour": "string", "weight": "double"},
        {"label": "string", "p": "dict:string"},
        "pipelineClassifier",
    )
    loaded = load(model, tmp_path)
    assert loaded.description.labels == ("ripe", "raw")
    assert loaded.predict({"colour": "red", "weight": 0})["label"] == "ripe"
    result = loaded.predict({"colour": "green", "weight": 1})
    assert result["label"] == "raw"
    assert result["p"]["raw"] == pytest.approx(1 / (1 + np.exp(-1.5)))


def fruit(kind: str) -> Any:
    """Two numbers, scaled, then a label of two."""
    last = classifier({"z": (2,)}, ["ripe", "raw"], "glmClassifier")
    last.glmClassifier.weights.add().value.extend([-1, 1])
    last.glmClassifier.offset.append(0)
    last.description.predictedFeatureName, last.description.predictedProbabilitiesName = "label", "p"
    outputs = {"label": "string", "p": "dict:string"}
    return pipeline([scaler("x", "z", 1), last], {"x": (2,)}, outputs, kind)


@pytest.mark.parametrize("kind", ["pipeline", "pipelineClassifier"])
def test_a_pipeline_has_the_labels_of_its_classifier(tmp_path: Path, kind: str) -> None:
    nested = pipeline([fruit(kind)], {"x": (2,)}, {"label": "string", "p": "dict:string"})
    for number, message in enumerate((fruit(kind), nested)):
        folder = tmp_path / str(number)
        folder.mkdir()
        about = load(message, folder).description
        assert about.labels == ("ripe", "raw")
        assert (about.predicted_label, about.predicted_probabilities) == ("label", "p")
    # a pipeline that does not hand the label on is no classifier
    quiet = fruit("pipeline")
    del quiet.description.output[0]
    about = load(quiet, tmp_path).description
    assert (about.labels, about.predicted_label, about.predicted_probabilities) == ((), "", "")


def test_the_members_are_described(tmp_path: Path) -> None:
    program, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    inner = pipeline([linear("y", [1, 2, 3, 4, 5, 6])], {"y": ("float32", 2, 3)}, {"y": "double"})
    path = save(pipeline([program, inner], {"x": ("float32", 2, 3)}, {"y": "double"}), tmp_path)
    found = describe(path)
    assert (found["ops"], found["weights"]) == ({}, {"bytes": 0, "dtypes": {}})
    first, second = found["members"]
    assert (first["kind"], first["ops"], first["members"]) == ("mlProgram", {"relu": 1}, [])
    assert [entry["name"] for entry in first["inputs"]] == ["x"]
    assert [entry["kind"] for entry in second["members"]] == ["glmRegressor"]
    assert describe(save(fruit("pipeline"), tmp_path))["members"][1]["labels"] == ["ripe", "raw"]


def test_a_program_and_a_classic_model(tmp_path: Path) -> None:
    program, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    model = pipeline([program, linear("y", [1, 2, 3, 4, 5, 6])], {"x": ("float32", 2, 3)}, {"y": "double"})
    # the program gives [2, 3], the linear model takes the same six numbers as [6]
    assert load(model, tmp_path).predict({"x": [[1, -2, 3], [-4, 5, 6]]}) == {"y": 1 + 9 + 25 + 36}


def test_no_cache_is_filled_for_a_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # the process that fills it opens the file, which is the pipeline's and no program
    monkeypatch.setattr("coremlops.runtime.cache.fill_later", lambda *_, **__: pytest.fail("filled"))
    monkeypatch.setattr("coremlops.runtime.cache._worth_it", lambda _: True)
    program, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    load(pipeline([program], {"x": ("float32", 2, 3)}, {"y": ("float32", 2, 3)}), tmp_path)


def test_pipelines_in_pipelines(tmp_path: Path) -> None:
    inner = pipeline([scaler("x", "z", 1), scaler("z", "w", 1)], {"x": (2,)}, {"w": (2,)})
    loaded = load(pipeline([inner, linear("w", [1, 1])], {"x": (2,)}, {"y": "double"}), tmp_path)
    assert loaded.predict({"x": [0, 0]}) == {"y": 4}


@pytest.mark.parametrize(
    ("members", "outputs", "message"),
    [
        ([scaler("other", "z", 1)], {"z": (2,)}, "nothing before member 0 gives its input 'other'"),
        ([scaler("x", "z", 1)], {"w": (2,)}, "no member gives the output 'w'"),
        ([], {"x": (2,)}, "a pipeline of 0 models"),
        ([scaler("x", "x", 1, 2)] * 1001, {"x": (2,)}, "a pipeline of 1001 models"),
        ([spec({"x": (2,)}, {"z": (2,)})], {"z": (2,)}, "of no kind"),
    ],
)
def test_members_that_do_not_fit(
    tmp_path: Path, members: list[Any], outputs: dict[str, Any], message: str
) -> None:
    path = save(pipeline(members, {"x": (2,)}, outputs), tmp_path)
    with pytest.raises(ModelFormatError, match=message):
        coremlops.load(path)


def test_all_that_cannot_run_is_named_at_once(tmp_path: Path) -> None:
    vision, tagger = spec({"x": (2,)}, {"z": (2,)}), spec({"z": (2,)}, {"y": "double"})
    vision.visionFeaturePrint.scene.version = 1
    tagger.wordTagger.SetInParent()
    path = save(pipeline([vision, tagger], {"x": (2,)}, {"y": "double"}), tmp_path)
    assert describe(path)["kind"] == "pipeline"
    with pytest.raises(UnsupportedOpsError, match="VisionFeaturePrint") as caught:
        coremlops.load(path)
    assert caught.value.unsupported == ("visionFeaturePrint", "wordTagger")


def link(name: str, search: str = "") -> Any:
    model = spec({"x": ("float32", 2, 3)}, {"y": ("float32", 2, 3)})
    model.linkedModel.linkedModelFile.linkedModelFileName.defaultValue = name
    model.linkedModel.linkedModelFile.linkedModelSearchPath.defaultValue = search
    return model


@pytest.mark.parametrize(
    ("name", "search"),
    [
        ("adder.mlpackage", ""),
        ("adder.mlmodelc", "."),
        ("adder.mlmodelc", "nowhere:."),
        ("adder.mlpackage", "./"),
    ],
)
def test_a_link(tmp_path: Path, name: str, search: str) -> None:
    adder(tmp_path / "adder.mlpackage")
    result = load(link(name, search), tmp_path).predict({"x": np.zeros((2, 3))})
    np.testing.assert_array_equal(result["y"].ravel(), np.arange(6))


@pytest.mark.parametrize(
    ("name", "search", "message"),
    [
        ("adder.mlpackage", "..", "leads out"),
        ("../adder.mlpackage", "", "leads out"),
        ("adder.mlpackage", "a/../..", "leads out"),
        ("/etc/passwd", "", "leads out"),
        ("adder.mlpackage", "/etc", "leads out"),
        ("..\\adder.mlpackage", "", "leads out"),
        ("adder\0.mlpackage", "", "leads out"),
        ("", "", "leads out"),
        ("missing.mlmodelc", "", "is not there"),
        ("m" * 5000, "", "no plain path"),
    ],
)
def test_a_link_that_leads_nowhere_good(tmp_path: Path, name: str, search: str, message: str) -> None:
    adder(tmp_path / "adder.mlpackage")
    (tmp_path / "home").mkdir()
    with pytest.raises(ModelFormatError, match=message):
        load(link(name, search), tmp_path / "home")


def test_a_link_through_a_symbolic_link(tmp_path: Path) -> None:
    adder(tmp_path / "adder.mlpackage")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "adder.mlpackage").symlink_to(tmp_path / "adder.mlpackage")
    with pytest.raises(ModelFormatError, match="lies elsewhere"):
        load(link("adder.mlpackage"), tmp_path / "home")


def test_a_link_into_a_bundle(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOpsError, match="in an app's bundle"):
        load(link("adder.mlmodelc", "$BUNDLE_MAIN"), tmp_path)


def test_a_circle_of_links(tmp_path: Path) -> None:
    path = save(link("b.mlmodel"), tmp_path, "a.mlmodel")
    shutil.copy(save(link("a.mlmodel"), tmp_path, "b.mlmodel"), tmp_path / "b.mlmodel.copy")
    with pytest.raises(ModelFormatError, match="more than 8 links"):
        coremlops.load(path)


def run_onnx(model: coremlops.Model, **inputs: Any) -> dict[str, Any]:
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    whole = model.to_onnx()
    onnx.checker.check_model(whole, full_check=True)
    session = runtime.InferenceSession(whole.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def test_as_one_onnx_graph(tmp_path: Path) -> None:
    imputer = spec({"x": (2,)}, {"x": (2,)})
    imputer.imputer.imputedDoubleArray.vector.extend([5, 6])
    last = classifier({"x": (2,)}, ["a", "b", "c"], "glmClassifier")
    for weights in ([1, 0], [0, 1], [1, 1]):
        last.glmClassifier.weights.add().value.extend(weights)
        last.glmClassifier.offset.append(0)
    last.glmClassifier.classEncoding = 1
    outputs = {"label": "string", "p": "dict:string", "x": (2,)}
    loaded = load(pipeline([imputer, scaler("x", "x", 0.1), last], {"x": (2,)}, outputs), tmp_path)
    expected, got = loaded.predict({"x": [np.nan, 1]}), run_onnx(loaded, x=np.array([np.nan, 1]))
    assert set(got) == {"x.2", "probabilities", "chosen"}
    np.testing.assert_array_equal(got["x.2"], expected["x"])
    np.testing.assert_array_equal(got["probabilities"], list(expected["p"].values()))
    assert ["a", "b", "c"][got["chosen"].item()] == expected["label"]


def test_a_program_and_a_classic_model_as_one_onnx_graph(tmp_path: Path) -> None:
    program, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    members = [program, linear("y", [1, 2, 3, 4, 5, 6])]
    loaded = load(pipeline(members, {"x": ("float32", 2, 3)}, {"y": "double"}), tmp_path)
    given = np.array([[1, -2, 3], [-4, 5, 6]], np.float32)
    assert run_onnx(loaded, x=given)["y"] == loaded.predict({"x": given})["y"] == 71


def test_a_member_that_onnx_cannot_hold(tmp_path: Path) -> None:
    encoder = spec({"x": "int64"}, {"z": (2,)})
    encoder.oneHotEncoder.int64Categories.vector.extend([1, 2])
    loaded = load(pipeline([encoder, linear("z", [1, 2])], {"x": "int64"}, {"y": "double"}), tmp_path)
    assert loaded.predict({"x": 2}) == {"y": 2}
    with pytest.raises(UnsupportedOpsError, match="member 0 of the pipeline runs in Python"):
        loaded.to_onnx()


def picture(message: Any, name: str, colour: str) -> None:
    """Make the feature of that name a picture of 2 by 2 pixels."""
    image = next(entry for entry in message if entry.name == name).type.imageType
    image.width = image.height = 2
    image.colorSpace = image.DESCRIPTOR.enum_types_by_name["ColorSpace"].values_by_name[colour].number


@pytest.mark.parametrize(("between", "colours"), [(True, "RGB"), (False, "BGR")])
def test_pictures_between_members_are_in_no_onnx_graph(tmp_path: Path, between: bool, colours: str) -> None:
    """They are rounded and clipped there, and their channels may change places."""
    shape = (1, 3, 2, 2)
    first, second = program_spec(), program_spec()
    for (program, block), source, target in ((first, "x", "z"), (second, "z" if between else "x", "y")):
        program.description.input[0].name = source
        program.description.output[0].name = target
        for entry in (*program.description.input, *program.description.output):
            entry.type.multiArrayType.shape[:] = shape
        value = program.mlProgram.functions["main"].inputs[0]
        value.name = source
        value.type.Clear()
        tensor_type(value.type, "fp32", shape)
        add_operation(block, "relu", target, shape, {"x": source})
        block.outputs[:] = [target]
        picture(program.description.input, source, colours if program is second[0] else "RGB")
    if between:
        picture(first[0].description.output, "z", "RGB")
    members = [first[0], second[0]]
    whole = pipeline(members, {"x": ("float32", *shape)}, {"y": ("float32", *shape)})
    picture(whole.description.input, "x", "RGB")
    loaded = load(whole, tmp_path)
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    found = loaded.predict({"x": pixels})["y"]
    expected = pixels if colours == "RGB" else pixels[..., ::-1]
    np.testing.assert_array_equal(found[0], expected.transpose(2, 0, 1))
    with pytest.raises(UnsupportedOpsError, match="the picture"):
        loaded.to_onnx()


def test_a_detector_as_one_onnx_graph(tmp_path: Path) -> None:
    program, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    nms = suppression(iou=0.5, confidence=0.25)
    for feature in (*nms.description.input, *nms.description.output):
        feature.type.multiArrayType.dataType = DTYPES["float32"]
    nms.description.input[0].name = nms.nonMaximumSuppression.confidenceInputFeatureName = "y"
    inputs = {"x": ("float32", 2, 3), "boxes": ("float32", 2, 4)}
    outputs = {"confidence": ("float32",), "coordinates": ("float32",)}
    loaded = load(pipeline([program, nms], inputs, outputs), tmp_path)
    given = {
        "x": np.array([[0.3, -1, 0.1], [0.2, 0.9, 0]], np.float32),
        "boxes": np.array([[0, 0, 1, 1], [0.1, 0, 1, 1]], np.float32),
    }
    expected, got = loaded.predict(given), run_onnx(loaded, **given)
    np.testing.assert_array_equal(expected["coordinates"], given["boxes"][1:])
    assert expected["confidence"].dtype == np.float32
    for name, values in expected.items():
        np.testing.assert_array_equal(got[name], values)
