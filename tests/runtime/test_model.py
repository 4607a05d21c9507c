"""Models that run: values against an independent calculation, and everything that can be given wrong."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.reference
import pytest
from PIL import Image

import coremlops
from coremlops.dialects.mil.graph import TensorType
from coremlops.errors import (
    InputError,
    ModelError,
    ModelFormatError,
    UnsupportedOpsError,
    UsageError,
    WeightsError,
)
from coremlops.model import ArrayFeature, ImageFeature, ModelAsset, model_digest
from coremlops.model.proto import message_class
from coremlops.runtime.inputs import array_tensor, image_tensor
from tests.handmade import add_operation, adder, array_feature, program_spec, tensor_type, write_package

RED = np.zeros((16, 16, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
BLUE = RED[:, :, ::-1].copy()
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"


@pytest.mark.parametrize("precision", ["typed", "float32", "float16"])
def test_a_classifier(tiny_classifier: Path, precision: str) -> None:
    model = coremlops.load(tiny_classifier, precision=precision)
    for picture, label in ((RED, "ada"), (BLUE, "bob")):
        found = model.predict({"image": picture})
        assert list(found) == ["classLabel", "classLabel_probs"]
        assert found["classLabel"] == label
        assert set(found["classLabel_probs"]) == {"ada", "bob"}
        assert sum(found["classLabel_probs"].values()) == pytest.approx(1, abs=1e-3)
    assert (model.precision, model.digest) == (precision, model_digest(tiny_classifier))
    assert model.description.labels == ("ada", "bob")


def test_the_onnx_model_says_the_same_in_onnx_s_own_reference(tiny_classifier: Path) -> None:
    # Another engine altogether: NumPy, in onnx.reference. Tolerance: float32 sums in another order.
    model = coremlops.load(tiny_classifier, precision="float32")
    whole = model.to_onnx()
    onnx.checker.check_model(whole, full_check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    tensor = pixels.transpose(2, 0, 1)[None].astype(np.float32)
    (expected,) = onnx.reference.ReferenceEvaluator(whole).run(None, {"image": tensor})
    found = model.predict({"image": pixels})["classLabel_probs"]
    np.testing.assert_allclose([found["ada"], found["bob"]], np.ravel(expected), atol=1e-5)


def test_arrays_and_pictures_are_the_same(tiny_classifier: Path) -> None:
    model = coremlops.load(tiny_classifier)
    assert model.predict({"image": RED}) == model.predict({"image": Image.fromarray(RED)})


def test_a_picture_of_a_wrong_size_is_refused_unless_it_is_to_be_prepared(tiny_classifier: Path) -> None:
    model = coremlops.load(tiny_classifier)
    # a broad picture: blue at both ends and red in the middle
    wide = np.concatenate([np.tile(BLUE, (1, 3, 1)), RED, np.tile(BLUE, (1, 3, 1))], axis=1)
    with pytest.raises(InputError, match="expected a picture of 16 x 16 pixels, got 112 x 16") as caught:
        model.predict({"image": wide})
    assert "image_option" in caught.value.hint
    assert model.predict({"image": wide}, image_option="centerCrop")["classLabel"] == "ada"
    assert model.predict({"image": wide}, image_option="scaleFill")["classLabel"] == "bob"
    # the model's own metadata asks for centerCrop
    assert model.predict({"image": wide}, image_option="metadata")["classLabel"] == "ada"
    with pytest.raises(UsageError, match="unknown image option 'crop'"):
        model.predict({"image": wide}, image_option="crop")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("photo.jpg", "expected a PIL image or a uint8 array, got str"),
        (None, "got NoneType"),
        (np.zeros((16, 16, 3), np.float32), "an array of float32, shape"),
        (np.zeros((3, 16, 16), np.uint8), "expected uint8 pixels"),
    ],
)
def test_what_is_no_picture(tiny_classifier: Path, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        coremlops.load(tiny_classifier).predict({"image": value})


def test_missing_and_unknown_inputs(tiny_classifier: Path) -> None:
    model = coremlops.load(tiny_classifier)
    with pytest.raises(InputError, match="input 'image' is missing; the model takes 'image'"):
        model.predict({})
    with pytest.raises(InputError, match="unknown input 'picture'; the model takes 'image'"):
        model.predict({"image": RED, "picture": RED})


def test_a_picture_whose_data_ends_early(tiny_classifier: Path, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-400])
    model = coremlops.load(tiny_classifier)
    for option in (None, "scaleFit"):
        with Image.open(path) as image, pytest.raises(InputError, match="cannot be decoded"):
            model.predict({"image": image}, image_option=option)


def test_one_model_in_several_threads(tiny_classifier: Path) -> None:
    model = coremlops.load(tiny_classifier)
    found: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: found.extend(model.predict({"image": RED})["classLabel"] for _ in range(20))
        )
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["ada"] * 80


def test_a_model_of_arrays(tmp_path: Path) -> None:
    model = coremlops.load(adder(tmp_path / "adder.mlpackage"))
    x = np.arange(6).reshape(2, 3)
    expected = (x + x).astype(np.float32)
    every_second = np.zeros((4, 6), np.float32)
    every_second[::2, ::2] = x
    layouts = (x.astype("f4"), np.asfortranarray(x, "f4"), x.astype(">f4"), every_second[::2, ::2])
    for given in (x, x.astype(np.float64), x.tolist(), *layouts):
        np.testing.assert_array_equal(model.predict({"x": given})["y"], expected)
    for value, message in (
        (np.zeros((3, 2)), r"expected the shape \[2, 3\], got \[3, 2\]"),
        (["a"], "expected numbers, got <U1"),
        ([[1], [2, 3]], "not an array of numbers"),
    ):
        with pytest.raises(InputError, match=message):
            model.predict({"x": value})


def test_a_missing_weight_file(tmp_path: Path) -> None:
    path = adder(tmp_path / "adder.mlpackage")
    (path / WEIGHTS).unlink()
    (path / "Data/com.apple.CoreML/weights/.keep").touch()
    with pytest.raises(WeightsError, match=r"the weights 'Data/.*/weight\.bin' are missing") as caught:
        coremlops.load(path)
    assert caught.value.hint
    shutil.rmtree(path / "Data/com.apple.CoreML/weights")
    with pytest.raises(ModelFormatError, match=r"there is no Data/com\.apple\.CoreML/weights"):
        coremlops.load(path)


@pytest.mark.parametrize("length", [0, 10, 64, 100, 130, 151])
def test_a_truncated_weight_file(tmp_path: Path, length: int) -> None:
    path = adder(tmp_path / "adder.mlpackage")
    data = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(data[:length])
    with pytest.raises(WeightsError, match=r"weight\.bin"):
        coremlops.load(path)


def test_a_garbled_protobuf(tmp_path: Path) -> None:
    path = adder(tmp_path / "adder.mlpackage")
    (path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"\xff" * 100)
    with pytest.raises(ModelFormatError, match="not a Core ML model"):
        coremlops.load(path)


def test_ops_that_are_not_supported_are_all_listed(tmp_path: Path) -> None:
    spec, block = program_spec()
    add_operation(block, "mystery", "a", (2, 3), {"x": "x"})
    add_operation(block, "relu", "b", (2, 3), {"x": "a"})
    add_operation(block, "riddle", "y", (2, 3), {"x": "b"})
    with pytest.raises(UnsupportedOpsError) as caught:
        coremlops.load(write_package(tmp_path / "a.mlpackage", spec))
    assert caught.value.unsupported == ("mystery (a)", "riddle (y)")
    assert "mystery (a)" in caught.value.message


def test_another_kind_of_model(tmp_path: Path) -> None:
    spec = message_class("Model")(specificationVersion=1)
    spec.serializedModel.SetInParent()
    path = tmp_path / "net.mlmodel"
    path.write_bytes(spec.SerializeToString())
    with pytest.raises(UnsupportedOpsError, match="it cannot run here"):
        coremlops.load(path)


def test_inputs_and_outputs_of_kinds_that_do_not_run_yet(tmp_path: Path) -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    del spec.description.output[:]
    spec.description.output.add(name="y").type.dictionaryType.stringKeyType.SetInParent()
    with pytest.raises(UnsupportedOpsError, match=r"output \(y\): DictionaryFeature"):
        coremlops.load(write_package(tmp_path / "a.mlpackage", spec))


def test_a_description_and_a_program_that_disagree(tmp_path: Path) -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    spec.description.input[0].name = "other"
    with pytest.raises(ModelFormatError, match="the description has an input 'other'; the program has x"):
        coremlops.load(write_package(tmp_path / "a.mlpackage", spec))


def test_functions_by_name(tmp_path: Path) -> None:
    spec, block = program_spec(9)
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    other = spec.mlProgram.functions["negative"]
    other.CopyFrom(spec.mlProgram.functions["main"])
    other.block_specializations["CoreML6"].operations[0].type = "tanh"
    for name in ("main", "negative"):
        function = spec.description.functions.add(name=name)
        function.input.add().CopyFrom(spec.description.input[0])
        function.output.add().CopyFrom(spec.description.output[0])
    spec.description.defaultFunctionName = "main"
    path = write_package(tmp_path / "a.mlpackage", spec)
    x = np.full((2, 3), -1.0)
    assert (coremlops.load(path).predict({"x": x})["y"] == 0).all()
    other_model = coremlops.load(path, function_name="negative")
    np.testing.assert_allclose(other_model.predict({"x": x})["y"], np.tanh(x), atol=1e-6)
    with pytest.raises(UsageError, match="no function 'negativ'") as caught:
        coremlops.load(path, function_name="negativ")
    assert caught.value.hint == "did you mean 'negative'?"


def test_an_output_that_is_the_input_and_one_that_is_described_twice(tmp_path: Path) -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    block.outputs[:] = ["y", "x", "y"]
    spec.description.output.add().CopyFrom(spec.description.input[0])
    spec.description.output.add().CopyFrom(spec.description.output[0])
    model = coremlops.load(write_package(tmp_path / "a.mlpackage", spec))
    x = np.full((2, 3), -1.0)
    found = model.predict({"x": x})
    assert sorted(found) == ["x", "y"]
    assert (found["x"] == x).all()
    assert (found["y"] == 0).all()


def test_an_optional_input_has_its_default(tmp_path: Path) -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    spec.description.input[0].type.isOptional = True
    spec.description.input[0].type.multiArrayType.floatDefaultValue = 4
    model = coremlops.load(write_package(tmp_path / "a.mlpackage", spec))
    assert (model.predict({})["y"] == 4).all()


def test_a_scalar_result_has_one_element(tmp_path: Path) -> None:
    spec, block = program_spec()
    add_operation(block, "reduce_sum", "y", (), {"x": "x"})
    model = coremlops.load(write_package(tmp_path / "a.mlpackage", spec))
    found = model.predict({"x": np.ones((2, 3))})["y"]
    assert (found.shape, found[0]) == ((1,), 6)


def test_unknown_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown precision 'fp16'; expected one of typed, float32, float16"):
        coremlops.load(tmp_path, precision="fp16")
    with pytest.raises(UsageError, match="unknown engine 'ane'"):
        coremlops.load(tmp_path, engine="ane")


@pytest.mark.parametrize(
    ("text", "message"),
    [("{", "is no JSON object"), ("[]", "is no JSON object"), ('{"image_option": "zoom"}', "'zoom'")],
)
def test_metadata_that_makes_no_sense(tmp_path: Path, text: str, message: str) -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    spec.description.metadata.userDefined["com.coremlops.preparation"] = text
    model = coremlops.load(write_package(tmp_path / "a.mlpackage", spec))
    with pytest.raises(InputError, match=message):
        model.predict({"x": np.ones((2, 3))}, image_option="metadata")


@pytest.mark.parametrize(("colour", "channels"), [(30, 3), (10, 1)])
def test_channels_come_in_the_model_s_order(tmp_path: Path, colour: int, channels: int) -> None:
    spec, block = program_spec()
    del spec.description.input[:]
    image = spec.description.input.add(name="x").type.imageType
    image.width, image.height, image.colorSpace = 2, 2, colour
    shape = (1, channels, 2, 2)
    entry = spec.mlProgram.functions["main"].inputs[0]
    entry.type.Clear()
    tensor_type(entry.type, "fp32", shape)
    add_operation(block, "relu", "y", shape, {"x": "x"})
    model = coremlops.load(write_package(tmp_path / "a.mlpackage", spec))
    found = model.predict({"x": Image.new("RGB", (2, 2), (10, 20, 30))})["y"]
    assert found[0, :, 0, 0].tolist() == ([30, 20, 10] if channels == 3 else [18])


def test_the_preparation_of_the_fixture_is_what_the_test_says(tiny_classifier: Path) -> None:
    text = coremlops.load(tiny_classifier).description.user_defined["com.coremlops.preparation"]
    assert json.loads(text)["image_option"] == "centerCrop"


def test_an_output_that_the_program_does_not_have(tmp_path: Path) -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    array_feature(spec.description.output.add(), "z", (2, 3))
    with pytest.raises(ModelFormatError, match="the description has an output 'z'; the program has y"):
        coremlops.load(write_package(tmp_path / "a.mlpackage", spec))


@pytest.mark.parametrize("field", ["predictedFeatureName", "predictedProbabilitiesName"])
def test_a_classifier_s_results_under_other_names(tiny_classifier: Path, tmp_path: Path, field: str) -> None:
    spec = ModelAsset.open(tiny_classifier).spec
    setattr(spec.description, field, "other")
    weights = tiny_classifier / WEIGHTS
    with pytest.raises(ModelFormatError, match="the description calls 'other' what the program calls"):
        coremlops.load(write_package(tmp_path / "a.mlpackage", spec, weights.read_bytes()))


def test_a_label_twice(tiny_classifier: Path, tmp_path: Path) -> None:
    spec = ModelAsset.open(tiny_classifier).spec
    block = spec.mlProgram.functions["main"]
    classify = block.block_specializations[block.opset].operations[-1]
    for entry in classify.inputs["classes"].arguments[0].value.immediateValue.list.values:
        entry.immediateValue.tensor.strings.values[0] = "ada"
    weights = tiny_classifier / WEIGHTS
    with pytest.raises(ModelFormatError, match="2 labels, and one of them twice"):
        coremlops.load(write_package(tmp_path / "a.mlpackage", spec, weights.read_bytes()))


@pytest.mark.parametrize("shape", [(-1,), (1 << 40, 1 << 40)])
def test_an_optional_input_of_impossible_size(tmp_path: Path, shape: tuple[int, ...]) -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    spec.description.input[0].type.isOptional = True
    spec.description.input[0].type.multiArrayType.shape[:] = shape
    model = coremlops.load(write_package(tmp_path / "a.mlpackage", spec))
    with pytest.raises(ModelFormatError, match="the optional input 'x' has the shape"):
        model.predict({})


def test_an_optional_picture_that_is_not_given(tiny_classifier: Path, tmp_path: Path) -> None:
    spec = ModelAsset.open(tiny_classifier).spec
    spec.description.input[0].type.isOptional = True
    weights = tiny_classifier / WEIGHTS
    model = coremlops.load(write_package(tmp_path / "a.mlpackage", spec, weights.read_bytes()))
    with pytest.raises(InputError, match="a picture has no default"):
        model.predict({})


def test_a_result_of_another_shape_than_the_program_declares(tmp_path: Path) -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "y", (3, 2), {"x": "x"})
    model = coremlops.load(write_package(tmp_path / "a.mlpackage", spec))
    with pytest.raises(
        ModelFormatError, match=r"declares 'y' as fp32\[3, 2\]; its ops give the shape \[2, 3\]"
    ):
        model.predict({"x": np.ones((2, 3))})


def test_the_engine_s_failure_is_an_error_of_ours_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    spec, block = program_spec()
    shape = add_operation(block, "const", "s", (1,), {}, "int32").attributes["val"]
    tensor_type(shape.type, "int32", (1,))
    shape.immediateValue.tensor.ints.values.append(7)
    add_operation(block, "reshape", "y", (7,), {"x": "x", "shape": "s"})
    model = coremlops.load(write_package(tmp_path / "a.mlpackage", spec))
    with pytest.raises(ModelError, match="the engine failed"):
        model.predict({"x": np.ones((2, 3))})
    assert capfd.readouterr().err == ""


def test_an_array_that_fits_is_not_copied() -> None:
    for dtype, name in (("float32", "fp32"), ("float32", "fp16"), ("int32", "int32")):
        feature, type_ = ArrayFeature("x", dtype, (2, 3)), TensorType(name, (2, 3))
        given = np.ones((2, 3), dtype)
        assert array_tensor(feature, given, type_) is given


def test_integers_that_the_declared_type_cannot_hold() -> None:
    """A cast would wrap them around, and make any number of NaN."""
    feature, type_ = ArrayFeature("i", "int32", (2,)), TensorType("int32", (2,))
    wrong: tuple[Any, ...] = ([2**31, 0], [-(2.0**31) - 1, 0], [np.nan, 0], [np.inf, 0])
    right: tuple[Any, ...] = ([2**31 - 1, -(2**31)], [1.9, -1.9], [True, False], np.array([255, 0], np.uint8))
    for value in wrong:
        with pytest.raises(InputError, match="a value that int32 cannot hold"):
            array_tensor(feature, value, type_)
    for value in right:
        found = array_tensor(feature, value, type_)
        np.testing.assert_array_equal(found, np.trunc(value).astype(np.int32))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({}, "8 x 4"),
        ({"sizes": ((16, 8),)}, "8 x 4 or 16 x 8"),
        ({"width_range": (4, None), "height_range": (4, 4)}, r"4\.\. x 4"),
        ({"width_range": (4, 9), "height_range": (1, 64)}, r"4\.\.9 x 1\.\.64"),
    ],
)
def test_a_picture_of_another_size_hears_which_are_allowed(sizes: dict[str, Any], words: str) -> None:
    feature = ImageFeature("x", 8, 4, "RGB", **sizes)
    with pytest.raises(InputError, match=f"expected a picture of {words} pixels, got 99 x 99"):
        image_tensor(feature, Image.new("RGB", (99, 99)))
