"""A golden set for every kind of model that runs here: made, read back, passed, and failed when it lies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops import golden
from coremlops.errors import DataError, ModelError
from tests import classic_models as classic
from tests.golden.test_golden import change
from tests.handmade import (
    add_blob_const,
    add_operation,
    adder,
    array_feature,
    blob_bytes,
    program_spec,
    write_package,
)
from tests.networks import add_layer, model, write
from tests.runtime.test_parts import add_cast, chain, counter
from tests.runtime.test_shape_sets import adder as shapes_adder

RNG = np.random.default_rng(7)
X = RNG.standard_normal((3, 2, 3)).astype(np.float32)


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "inputs.npz", **arrays)
    return folder / "inputs.npz"


def judged(path: Path, inputs: Any, folder: Path, **options: Any) -> tuple[golden.Made, Any]:
    """The set, after it was checked, and its JSON."""
    made = golden.make(path, inputs, folder / "golden", **options)
    for mode in ("typed", "float32"):
        found = golden.check(path, folder / "golden", precision=mode)
        assert found.ok, found.reason
    assert golden.read_golden(folder / "golden") == made.golden
    return made, json.loads((folder / "golden" / "golden.json").read_text())


def lies(path: Path, folder: Path, output: str, key: str, value: Any) -> str:
    """The reason why a set with another promise in its last call is not met."""
    change(
        folder / "golden",
        lambda whole: whole["examples"][-1]["calls"][-1]["outputs"][output].update({key: value}),
    )
    found = golden.check(path, folder / "golden")
    assert not found.ok
    assert [each.name for each in found.outputs if not each.ok] == [output]
    return found.reason


def test_a_tensor(tmp_path: Path) -> None:
    path = adder(tmp_path / "a.mlpackage")
    made, whole = judged(path, npz(tmp_path, x=X), tmp_path)
    assert len(made.golden.examples) == 3
    assert whole["examples"][0]["calls"][0]["inputs"]["x"] == {
        "type": "tensor", "file": "0001.bin", "dtype": "float32", "shape": [2, 3],
        "sha256": made.golden.examples[0][0].inputs["x"].sha256,
    }  # fmt: skip
    assert (tmp_path / "golden" / "0001.bin").read_bytes() == X[0].astype("<f4").tobytes()
    reason = lies(path, tmp_path, "y", "values", [0, 0, 0, 0, 0, 0])
    assert reason.startswith("example 3: y: a relative error of at most 0.03 expected, got ")


def test_a_state_makes_the_inputs_the_calls_of_one_example(tmp_path: Path) -> None:
    path = counter(tmp_path / "a.mlpackage", "fp16")
    made, whole = judged(path, npz(tmp_path, x=X), tmp_path)
    assert [len(calls) for calls in made.golden.examples] == [3]
    total = np.zeros((2, 3), np.float16)
    for x in X:
        total += x.astype(np.float16)
    last = whole["examples"][0]["calls"][2]["outputs"]
    np.testing.assert_allclose(np.reshape(last["z"]["values"], (2, 3)), total, rtol=1e-6)
    reason = lies(path, tmp_path, "z", "values", last["y"]["values"])
    assert reason.startswith("example 1, call 3: z: ")


def test_flexible_shapes_and_a_folder_of_npz(tmp_path: Path) -> None:
    path = shapes_adder(tmp_path / "a.mlpackage")
    (tmp_path / "inputs").mkdir()
    np.savez(tmp_path / "inputs" / "0.npz", x=np.ones((1, 2)), other=np.ones((4, 2)))
    np.savez(tmp_path / "inputs" / "1.npz", x=np.ones((1, 3)), other=np.ones((4, 5)))
    with pytest.raises(ModelError):
        golden.make(path, tmp_path / "inputs", tmp_path / "golden")  # [1, 3] + [4, 5] is nothing
    assert not (tmp_path / "golden").exists()
    np.savez(tmp_path / "inputs" / "1.npz", x=np.ones((1, 3)), other=np.ones((4, 3)))
    _, whole = judged(path, tmp_path / "inputs", tmp_path)
    shapes = [example["calls"][0]["outputs"]["y"]["shape"] for example in whole["examples"]]
    assert shapes == [[4, 2], [4, 3]]


def test_a_large_output_is_sampled(tmp_path: Path) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (3, 40, 50))
    array_feature(spec.description.output.add(), "y", ())
    add_layer(net, "multiply", ["x"], ["y"], alpha=2.0)
    path = write(tmp_path / "net.mlmodel", spec)
    x = RNG.standard_normal((2, 3, 40, 50)).astype(np.float32)
    made, whole = judged(path, npz(tmp_path, x=x), tmp_path)
    entry = whole["examples"][1]["calls"][0]["outputs"]["y"]
    assert len(entry["values"]) == len(entry["positions"]) == 256
    np.testing.assert_allclose(entry["values"], 2 * x[1].ravel()[entry["positions"]], rtol=1e-6)
    assert entry["rms"] == pytest.approx(float(np.sqrt(np.mean((2 * x[1]) ** 2))), rel=1e-5)
    assert np.diff(entry["positions"]).max() < 2 * 6000 / 256  # everywhere, not here and there
    assert made.bytes < 2 * (6000 * 4 + 8000)
    assert "rms" not in lies(path, tmp_path, "y", "rms", entry["rms"] * 1.5)


def test_many_numbers_in_and_a_regressor(tmp_path: Path) -> None:
    spec = classic.regressor({"rooms": "double", "floor": "int64"})
    spec.glmRegressor.weights.add().value.extend([2.0, -0.5])
    spec.glmRegressor.offset.append(1.0)
    path = classic.save(spec, tmp_path)
    made, whole = judged(path, npz(tmp_path, rooms=[1.5, 4.0], floor=[3, 0]), tmp_path)
    assert whole["examples"][0]["calls"][0]["inputs"] == {
        "rooms": {"type": "number", "value": 1.5},
        "floor": {"type": "integer", "value": 3},
    }
    assert whole["examples"][0]["calls"][0]["outputs"] == {"y": {"type": "number", "value": 2.5}}
    assert made.golden.files == {}
    assert "y: a relative error of at most" in lies(path, tmp_path, "y", "value", 9.2)


def a_dictionary_and_text() -> list[Any]:
    return [{"x": {"c": 2.0, "a": 1.5}}, {"x": {"b": 1.0}}]


def test_a_dictionary_in_and_out(tmp_path: Path) -> None:
    spec = classic.spec({"x": "dict:string"}, {"y": "dict:int64"})
    spec.dictVectorizer.stringToIndex.vector.extend(["a", "b", "c"])
    path = classic.save(spec, tmp_path)
    _, whole = judged(path, f"{__name__}:a_dictionary_and_text", tmp_path)
    call = whole["examples"][0]["calls"][0]
    assert call["inputs"]["x"] == {"type": "dictionary", "keys": ["c", "a"], "values": [2.0, 1.5]}
    assert dict(zip(call["outputs"]["y"]["keys"], call["outputs"]["y"]["values"], strict=True)) == {
        0: 1.5, 2: 2.0,
    }  # fmt: skip
    reason = lies(path, tmp_path, "y", "keys", [7])
    assert reason == "example 2: y: a number for 7 expected, the model has no such key"


def test_text_in_and_text_out(tmp_path: Path) -> None:
    spec = classic.spec({"x": "string"}, {"y": "string"})
    spec.description.input[0].type.isOptional = True
    spec.imputer.imputedStringValue, spec.imputer.replaceStringValue = "unknown", "?"
    path = classic.save(spec, tmp_path)
    _, whole = judged(path, npz(tmp_path, x=np.array(["?", "known"])), tmp_path)
    outputs = [example["calls"][0]["outputs"]["y"] for example in whole["examples"]]
    assert [entry["value"] for entry in outputs] == ["unknown", "known"]
    assert lies(path, tmp_path, "y", "value", "other") == "example 2: y: expected 'other', got 'known'"


@pytest.mark.parametrize("probable", [True, False])
def test_a_classifier_with_and_without_probabilities(tmp_path: Path, probable: bool) -> None:
    spec = classic.classifier({"x": (2,)}, [10, 20], "glmClassifier", probable=probable)
    spec.glmClassifier.weights.add().value.extend([3.0, -3.0])
    spec.glmClassifier.offset.append(0.0)
    path = classic.save(spec, tmp_path)
    rows = np.array([[2.0, 0], [0, 2], [0, 1e-4]])
    made, _ = judged(path, npz(tmp_path, x=rows), tmp_path)
    calls = [example[0].outputs["label"] for example in made.golden.examples]
    assert [call.values[0] for call in calls[:2]] == [20, 10]
    assert [call.decided for call in calls] == [True, True, not probable]  # 0.50015 to 0.49985 is a tie
    assert golden.check(path, tmp_path / "golden").agreement == 1.0
    change(tmp_path / "golden", lambda whole: _label(whole, 2, 20 if calls[2].values[0] == 10 else 10))
    assert golden.check(path, tmp_path / "golden").ok == probable
    change(tmp_path / "golden", lambda whole: _label(whole, 0, 10))
    found = golden.check(path, tmp_path / "golden")
    assert (found.ok, found.reason) == (False, "example 1: label: expected 10, got 20")


def _label(whole: Any, example: int, label: int) -> None:
    whole["examples"][example]["calls"][0]["outputs"]["label"]["value"] = label


def test_one_of_several_functions(tmp_path: Path) -> None:
    spec, block = program_spec(9)
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    spec.mlProgram.functions["other"].CopyFrom(spec.mlProgram.functions["main"])
    other = spec.mlProgram.functions["other"].block_specializations["CoreML6"]
    other.operations[0].type = "tanh"
    for name in ("main", "other"):
        function = spec.description.functions.add(name=name)
        function.input.add().CopyFrom(spec.description.input[0])
        function.output.add().CopyFrom(spec.description.output[0])
    spec.description.defaultFunctionName = "main"
    path = write_package(tmp_path / "a.mlpackage", spec)
    _, whole = judged(path, npz(tmp_path, x=X), tmp_path, function="other")
    assert whole["function"] == "other"
    values = whole["examples"][0]["calls"][0]["outputs"]["y"]["values"]
    np.testing.assert_allclose(values, np.tanh(X[0]).ravel(), rtol=1e-3)


def test_a_tolerance_follows_the_rounding_of_the_file(tmp_path: Path) -> None:
    """Eight times the spread between numeric modes, and never below the floor."""
    path = chain(tmp_path / "a.mlpackage")
    made, _ = judged(path, npz(tmp_path, x=X * 100), tmp_path)
    limit = made.golden.limits[0]
    assert 0 < limit.spread < 1e-3
    peak = float(np.square(X * 100).max()) / limit.scale
    assert limit.tolerance == 0.03
    assert limit.largest == pytest.approx(0.05 * peak, rel=1e-3)


def cancelling(path: Path, shift: float) -> Path:
    """y = (x + shift) - shift in fp16: what is lost of x grows with the shift."""
    weights, offsets = blob_bytes([np.full((2, 3), shift, np.float16)])
    spec, block = program_spec()
    add_blob_const(block, "shift", (2, 3), offsets[0], "fp16")
    add_cast(block, "a", "x", "fp16")
    add_operation(block, "add", "b", (2, 3), {"x": "a", "y": "shift"}, "fp16")
    add_operation(block, "sub", "c", (2, 3), {"x": "b", "y": "shift"}, "fp16")
    add_cast(block, "y", "c", "fp32")
    return write_package(path, spec, weights)


@pytest.mark.parametrize(("shift", "tolerance"), [(1, 0.03), (100, 8), (300, 0.25), (2000, None)])
def test_a_tolerance_is_eight_spreads_between_floor_and_ceiling(
    tmp_path: Path, shift: float, tolerance: float | None
) -> None:
    path = cancelling(tmp_path / "a.mlpackage", shift)
    x = np.random.default_rng(0).standard_normal((8, 2, 3)).astype(np.float32)
    if tolerance is None:
        with pytest.raises(
            DataError, match=r"y: it varies by \d+% between modes, so that it is not compared"
        ):
            golden.make(path, npz(tmp_path, x=x), tmp_path / "golden")
        return
    limit = golden.make(path, npz(tmp_path, x=x), tmp_path / "golden").golden.limits[0]
    assert limit.tolerance == (pytest.approx(8 * limit.spread, rel=1e-3) if tolerance == 8 else tolerance)
    for mode in ("typed", "float32", "float16"):
        assert golden.check(path, tmp_path / "golden", precision=mode).ok


def test_what_overflows_in_float16_is_judged_as_declared(tmp_path: Path) -> None:
    path = adder(tmp_path / "a.mlpackage")
    made, _ = judged(path, npz(tmp_path, x=X * 1e6), tmp_path)
    assert made.notes == ("y: it is not finite in float16; a device must compute it as the file declares",)


def test_a_model_without_any_stable_output_makes_no_set(tmp_path: Path) -> None:
    path = chain(tmp_path / "a.mlpackage")  # squares in fp16: past 65504 there is no number
    with pytest.raises(DataError, match="no output can be judged: y: it is not finite in every mode"):
        golden.make(path, npz(tmp_path, x=X * 1e4), tmp_path / "golden")
    assert not (tmp_path / "golden").exists()


def test_nan_in_the_inputs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="numbers expected, got 1 NaN"):
        golden.make(
            adder(tmp_path / "a.mlpackage"),
            npz(tmp_path, x=np.where(X[0, 0, 0] == X, np.nan, X)),
            tmp_path / "golden",
        )
