"""ONNX files: what they hold, that others read them, and what cannot be written."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import onnxruntime
import pytest

import coremlops
from coremlops.cli import main
from coremlops.errors import ModelError, UnsupportedOpsError, UsageError
from coremlops.lower import onnx_file
from coremlops.model import model_digest
from coremlops.runtime import export
from tests.handmade import add_blob_const, add_operation, blob_bytes, program_spec, write_package


def big_adder(path: Path, *, dynamic: bool = False, half: bool = False) -> Path:
    """y = x + w over [2, 300]; `dynamic`: the first axis of x and y is of any size; `half`: w is of fp16."""
    array = np.arange(600, dtype=np.float16 if half else np.float32).reshape(2, 300)
    weights, offsets = blob_bytes([array])
    spec, block = program_spec()
    spec.description.metadata.author = "ada"
    spec.description.metadata.shortDescription = "adds"
    spec.description.metadata.userDefined["colour"] = "red"
    for feature in (spec.description.input[0], spec.description.output[0]):
        feature.type.multiArrayType.shape[:] = (2, 300)
        feature.shortDescription = f"the {feature.name}"
    entry = spec.mlProgram.functions["main"].inputs[0]
    entry.type.tensorType.dimensions[1].constant.size = 300
    add_blob_const(block, "w", (2, 300), offsets[0], "fp16" if half else "fp32")
    operation = add_operation(block, "add", "y", (2, 300), {"x": "x", "y": "w"})
    if dynamic:
        for type_ in (entry.type, operation.outputs[0].type):
            type_.tensorType.dimensions[0].unknown.variadic = False
        ranges = spec.description.input[0].type.multiArrayType.shapeRange.sizeRanges
        ranges.add(lowerBound=1, upperBound=2)
        ranges.add(lowerBound=300, upperBound=300)
    return write_package(path, spec, weights)


def test_a_file_that_others_read_with_its_metadata(tmp_path: Path) -> None:
    model = coremlops.load(big_adder(tmp_path / "a.mlpackage"))
    found = export.export_onnx(model, tmp_path / "a.onnx")
    assert found.files == (tmp_path / "a.onnx",)
    assert found.bytes == (tmp_path / "a.onnx").stat().st_size > 2400
    assert (found.inputs, found.outputs) == ({"x": ["float", 2, 300]}, {"y": ["float", 2, 300]})
    whole = onnx.load(tmp_path / "a.onnx")
    onnx.checker.check_model(whole, full_check=True)
    props = {entry.key: entry.value for entry in whole.metadata_props}
    assert props == {
        "author": "ada",
        "colour": "red",
        "com.coremlops.digest": model_digest(tmp_path / "a.mlpackage"),
        "com.coremlops.function": "main",
        "com.coremlops.precision": "typed",
    }
    assert (whole.doc_string, whole.producer_name) == ("adds", "coremlops")
    assert [entry.doc_string for entry in whole.graph.input] == ["the x"]
    x = np.ones((2, 300), np.float32)
    (y,) = onnx.reference.ReferenceEvaluator(whole).run(None, {"x": x})
    np.testing.assert_array_equal(y, x + np.arange(600).reshape(2, 300))


@pytest.mark.parametrize("half", [False, True])
def test_weights_beside_the_file_when_asked_or_when_they_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: bool
) -> None:
    model = coremlops.load(big_adder(tmp_path / "a.mlpackage", half=half))
    asked = export.export_onnx(model, tmp_path / "a.onnx", external_data=True)
    assert [file.name for file in asked.files] == ["a.onnx", "a.onnx.data"]
    monkeypatch.setattr(export, "MAX_EMBEDDED_BYTES", 2400)
    assert len(export.export_onnx(model, tmp_path / "many.onnx").files) == 2
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith(".")]
    # self-contained: the two files work elsewhere, too
    other = tmp_path / "other"
    other.mkdir()
    for file in asked.files:
        file.rename(other / file.name)
    x = np.ones((2, 300), np.float32)
    session = onnxruntime.InferenceSession(str(other / "a.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(None, {"x": x})[0], x + np.arange(600).reshape(2, 300))


def test_axes_of_any_size_keep_a_name(tmp_path: Path) -> None:
    model = coremlops.load(big_adder(tmp_path / "a.mlpackage", dynamic=True))
    found = export.export_onnx(model, tmp_path / "a.onnx")
    assert found.inputs == {"x": ["float", "x_0", 300]}
    assert found.outputs == {"y": ["float", "y_0", 300]}


def test_a_classifier_s_labels_and_pictures_stand_in_the_metadata(
    tiny_classifier: Path, tmp_path: Path
) -> None:
    model = coremlops.load(tiny_classifier, precision="float32")
    export.export_onnx(model, tmp_path / "tiny.onnx")
    whole = onnx.load(tmp_path / "tiny.onnx")
    props = {entry.key: entry.value for entry in whole.metadata_props}
    classifier = json.loads(props["com.coremlops.classifier"])
    assert classifier["labels"] == ["ada", "bob"]
    assert json.loads(props["com.coremlops.images"]) == {"image": {"color": "RGB", "height": 16, "width": 16}}
    session = onnxruntime.InferenceSession(str(tmp_path / "tiny.onnx"), providers=["CPUExecutionProvider"])
    red = np.zeros((1, 3, 16, 16), np.float32)
    red[:, 0] = 255
    (values,) = session.run([classifier["tensor"]], {"image": red})
    assert classifier["labels"][int(np.argmax(values))] == "ada"


def test_typed_and_float32_are_different_graphs(tiny_classifier: Path, tmp_path: Path) -> None:
    casts = {}
    for precision in ("typed", "float32"):
        model = coremlops.load(tiny_classifier, precision=precision)
        export.export_onnx(model, tmp_path / "tiny.onnx")  # replaces the older one
        graph = onnx.load(tmp_path / "tiny.onnx").graph
        casts[precision] = sum(node.op_type == "Cast" for node in graph.node)
    assert casts["typed"] > 5 > casts["float32"]


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = coremlops.load(big_adder(tmp_path / "a.mlpackage"))
    for path in (tmp_path, tmp_path / "nowhere" / "a.onnx"):
        with pytest.raises(UsageError, match="expected a file to write, in a folder that is there"):
            export.export_onnx(model, path)
    monkeypatch.setattr(model, "_part", object())
    with pytest.raises(UnsupportedOpsError, match="no single ONNX graph"):
        export.export_onnx(model, tmp_path / "a.onnx")


def test_a_graph_that_the_checker_refuses_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = coremlops.load(big_adder(tmp_path / "a.mlpackage"))
    write = onnx_file.write_onnx

    def broken(whole: object, *args: object, **options: object) -> object:
        whole.graph.node[0].op_type = "Mystery"  # type: ignore[attr-defined]
        return write(whole, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "write_onnx", broken)
    with pytest.raises(ModelError, match=r"checker refuses what this model became: .*Mystery"):
        export.export_onnx(model, tmp_path / "a.onnx")
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.mlpackage"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    package = big_adder(tmp_path / "a.mlpackage")
    assert main(["export-onnx", str(package), "-o", str(tmp_path / "a.onnx")]) == 0
    shown = capsys.readouterr().out
    assert "input   x  float [2, 300]" in shown
    assert "a.onnx" in shown
    assert (
        main(["export-onnx", str(package), "-o", str(tmp_path / "a.onnx"), "--external-data", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert [Path(file).name for file in found["files"]] == ["a.onnx", "a.onnx.data"]
    assert found["opset"] == 18
    assert main(["export-onnx", str(package), "-o", str(tmp_path)]) == 2
