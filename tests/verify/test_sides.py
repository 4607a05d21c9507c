"""What a model takes and gives besides one array: inputs, dictionaries, states, functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import InputError, UsageError
from coremlops.model import ModelAsset
from coremlops.source import Reference, Tensor
from coremlops.verify import VerifyOptions, verify
from coremlops.verify.pairing import arrays_of
from tests.compress.fixtures import network, weights
from tests.handmade import add_operation, array_feature, program_spec, tensor_type, write_package
from tests.verify.fixtures import valid


def difference(path: Path) -> Path:
    """y = x - z and, beside it, twice = y + y."""
    spec, block = program_spec()
    array_feature(spec.description.input.add(), "z", (2, 3))
    tensor_type(spec.mlProgram.functions["main"].inputs.add(name="z").type, "fp32", (2, 3))
    array_feature(spec.description.output.add(), "twice", (2, 3))
    block.outputs.append("twice")
    add_operation(block, "sub", "y", (2, 3), {"x": "x", "y": "z"})
    add_operation(block, "add", "twice", (2, 3), {"x": "y", "y": "y"})
    return write_package(path, spec)


class Less(Reference):
    """Its outputs stand in another order than the model's."""

    def __call__(self, inputs: Any) -> dict[str, Any]:
        y = inputs["x"] - inputs["z"]
        return {"twice": 2 * y, "y": y}


def test_inputs_and_outputs_go_by_name_and_not_by_place(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    z, x = rng.normal(0, 1, (2, 4, 2, 3)).astype(np.float32)
    np.savez(tmp_path / "d.npz", z=z, x=x)
    other = Less("numpy", "less", "0" * 64, (Tensor("z", (2, 3)), Tensor("x", (2, 3))), None)
    report = verify(difference(tmp_path / "m.mlpackage"), other, tmp_path / "d.npz")
    assert set(valid(report)["outputs"]) == {"y", "twice"}
    assert report.snr_db == 200.0


def test_an_input_that_the_data_lacks_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((4, 2, 3), np.float32))
    other = Less("numpy", "less", "0" * 64, (Tensor("x", (2, 3)), Tensor("z", (2, 3))), None)
    with pytest.raises(InputError, match="the input z expected, got x"):
        verify(difference(tmp_path / "m.mlpackage"), other, tmp_path / "d.npz")


def test_dictionaries_are_compared_by_key() -> None:
    found = arrays_of({"b": 2.0, "a": 1.0}, {"a": 1.5, "b": 2.0}, "p")
    assert found is not None
    np.testing.assert_array_equal(np.stack(found), [[2, 1], [2, 1.5]])
    found = arrays_of(np.array([[0.2, 0.8]]), {"no": 0.2, "yes": 0.8}, "p")
    assert found is not None
    np.testing.assert_array_equal(*found)
    assert arrays_of("ada", "bob", "label") is None
    with pytest.raises(InputError, match="p: the keys of the other side expected; not in both: b, c"):
        arrays_of({"a": 1, "b": 2}, {"a": 1, "c": 2}, "p")


@pytest.mark.slow
def test_a_dictionary_of_probabilities(tmp_path: Path) -> None:
    """Trees answer with a dictionary here, with an array there."""
    pytest.importorskip("xgboost", minversion="3.1")  # older ones read another base score, silently
    from coremlops.convert import ConvertOptions, convert

    source = "tests/convert/trees/xgboost-two.json"
    made = convert(source, tmp_path / "m.mlmodel", ConvertOptions(labels=("no", "yes")))
    report = verify(made.path, source, None)
    value = valid(report)
    assert value["top1_agreement"] == 1.0
    assert {"source", "model"} <= set(value["examples"][0])
    assert report.snr_db > 100
    assert verify(made.path, made.path, None).snr_db == 200.0


@pytest.mark.slow
def test_states_are_fresh_for_each_question_on_both_sides(tmp_path: Path) -> None:
    """The net adds up what it is given: a side that went on adding would leave the other behind."""
    pytest.importorskip("torch")
    pytest.importorskip("coremltools")
    from coremlops.convert import ConvertOptions, convert

    source = "tests.convert.nets:total"
    options = ConvertOptions(target="iOS18", states=("total",))
    made = convert(source, tmp_path / "m.mlpackage", options)
    report = verify(made.path, source, None, VerifyOptions(count=6))
    assert valid(report)["data"]["examples"] == 6
    assert 50 < report.snr_db < 100
    assert verify(made.path, made.path, None).snr_db == 200.0


class Tanh(Reference):
    def __call__(self, inputs: Any) -> dict[str, Any]:
        held = {name: value.astype(np.float64) for name, value in weights().items()}
        hidden = held["first"] @ np.asarray(inputs["x"], np.float64)[0] + held["bias"]
        return {"y": (held["second"] @ np.tanh(hidden))[None]}


def test_one_function_of_several_is_asked(tmp_path: Path) -> None:
    """`other` has a tanh where `main` has a relu."""
    model = network(tmp_path / "m.mlpackage", functions=2)
    spec = ModelAsset.open(model).spec
    function = spec.mlProgram.functions["other"]
    for operation in function.block_specializations[function.opset].operations:
        operation.type = "tanh" if operation.type == "relu" else operation.type
    (model / "Data" / "com.apple.CoreML" / "model.mlmodel").write_bytes(spec.SerializeToString())
    tanh = Tanh("numpy", "tanh", "0" * 64, (Tensor("x", (1, 48)),), None)
    assert valid(verify(model, tanh, None, VerifyOptions(function="other")))["ok"]
    assert not verify(model, tanh, None, VerifyOptions(function="main")).ok
    assert not verify(model, tanh, None).ok
    with pytest.raises(UsageError, match="thirds"):
        verify(model, tanh, None, VerifyOptions(function="thirds"))
