"""References: each kind answers as the model itself, by names in and out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from coremlops.errors import InputError, UsageError
from coremlops.source import Tensor, open_reference
from tests.verify.fixtures import SIDE, card, save, tiny_net

torch = pytest.importorskip("torch")

NET = """
import torch

class Two(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(3, 2)

    def forward(self, x, mask):
        return {"y": self.linear(x) * mask, "n": mask.sum()}

def make():
    return Two(), {"mask": torch.ones(1, 2), "x": torch.randn(1, 3)}

def wrong():
    return Two()

def needs(size):
    return Two(), torch.ones(1)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "two_net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "two_net", raising=False)
    return tmp_path


def test_a_factory_is_asked_by_the_names_of_forward(home: Path) -> None:
    reference = open_reference("two_net:make")
    assert reference.inputs == (Tensor("x", (1, 3)), Tensor("mask", (1, 2)))
    x, mask = np.ones((1, 3), np.float32), np.array([[1, 0]], np.float32)
    found = reference({"mask": mask, "x": x})
    weight, bias = (value.detach().numpy() for value in reference.raw.parameters())
    np.testing.assert_allclose(found["y"], (x @ weight.T + bias) * mask, rtol=1e-5)
    assert found["n"] == 1
    assert open_reference("two_net:make").digest == reference.digest  # seeded: the same net


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_of_a_factory_come_from_a_file(home: Path, suffix: str) -> None:
    state = {"linear.weight": torch.zeros(2, 3), "linear.bias": torch.tensor([1.0, 2.0])}
    path = home / f"best{suffix}"
    if suffix == ".pt":
        torch.save({"state_dict": state}, path)
    else:
        from safetensors.torch import save_file

        save_file(state, path)
    found = open_reference("two_net:make", weights=path)(
        {"x": np.ones((1, 3), np.float32), "mask": np.ones((1, 2), np.float32)}
    )
    np.testing.assert_array_equal(found["y"], [[1, 2]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("two_net:wrong", "expected \\(torch.nn.Module, example inputs\\)"),
        ("two_net:needs", "missing a required argument"),
        ("two_net:nothing", "has no attribute"),
        ("no_such_module:make", "No module named"),
    ],
)
def test_a_factory_that_gives_no_module_is_a_usage_error(home: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_reference(text)


def test_weights_of_another_net_are_refused(home: Path) -> None:
    torch.save({"other": torch.zeros(1)}, home / "w.pt")
    with pytest.raises(InputError, match="weights of this module expected"):
        open_reference("two_net:make", weights=home / "w.pt")


@pytest.mark.parametrize("script", [False, True])
def test_a_program_with_a_card_knows_its_input(tmp_path: Path, script: bool) -> None:
    net = tiny_net()
    folder = save(net, tmp_path / "m", card(SIDE, SIDE, 1 / 255, 0.0, ["a", "b"]), script=script)
    reference = open_reference(folder)
    assert [item.shape for item in reference.inputs] == [(1, 3, SIDE, SIDE)]
    batch = np.random.default_rng(0).random((1, 3, SIDE, SIDE), np.float32)
    found = reference({reference.inputs[0].name: batch})
    with torch.no_grad():
        np.testing.assert_allclose(found["output_0"], net(torch.from_numpy(batch)).numpy(), atol=1e-6)
    assert bool(reference.layers({reference.inputs[0].name: batch})) is not script
    with pytest.raises(InputError, match="expected, got other"):
        reference({"other": batch})


def test_an_exported_program_keeps_named_and_flexible_inputs(tmp_path: Path) -> None:
    class Add(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def forward(self, x: Any, *, extra: Any) -> Any:
            return x + extra, x - extra

    rows = torch.export.Dim("rows", max=8)
    program = torch.export.export(
        Add(),
        (torch.ones(2, 3),),
        {"extra": torch.ones(2, 3)},
        dynamic_shapes={"x": {0: rows}, "extra": {0: rows}},
    )
    torch.export.save(program, tmp_path / "model.pt2")
    reference = open_reference(tmp_path / "model.pt2")
    assert reference.inputs == (Tensor("x", (None, 3)), Tensor("extra", (None, 3)))
    value = np.ones((5, 3), np.float32)
    found = reference({"extra": 2 * value, "x": value})
    np.testing.assert_array_equal(found["output_0"], 3 * value)
    np.testing.assert_array_equal(found["output_1"], -value)
    with pytest.raises(InputError, match=r"does not take \[5, 3\], \[4, 3\]"):
        reference({"extra": value[:4], "x": value})


def test_an_onnx_file_answers_by_its_names(tmp_path: Path) -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
    )
    model = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)])
    onnx.save(model, tmp_path / "n.onnx")
    reference = open_reference(tmp_path / "n.onnx")
    assert reference.inputs == (Tensor("x", (None, 2)),)
    np.testing.assert_array_equal(reference({"x": np.ones((3, 2), np.float32)})["y"], -np.ones((3, 2)))
    with pytest.raises(InputError, match="does not take them"):
        reference({"x": np.ones((3, 5), np.float32)})


def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match="an ONNX model expected"):
        open_reference(tmp_path / "n.onnx")


def test_a_factory_in_a_file_that_may_be_called_as_a_module_is(home: Path) -> None:
    (home / "sub").mkdir()
    (home / "two_net.py").rename(home / "sub" / "two_net.py")
    here = open_reference("sub/two_net.py:make")
    assert [item.name for item in here.inputs] == ["x", "mask"]
    (home / "json.py").write_text(NET)  # a name that a module has already
    assert open_reference("json.py:make").digest == here.digest
    with pytest.raises(UsageError, match=r"no\.py.*No such file"):
        open_reference("no.py:make")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def make():\n    return {}['gone']", r"raised KeyError: 'gone' \(bad_net\.py:2\)"),
        ("def make():\n    return 1 + 'a'", r"raised TypeError: .*\(bad_net\.py:2\)"),
        ("1 / 0", r"raised ZeroDivisionError: division by zero \(bad_net\.py:1\)"),
        ("def (", r"raised SyntaxError: .*\(bad_net\.py:1\)"),
    ],
)
def test_what_the_users_own_code_raises_is_told_with_its_place(home: Path, code: str, message: str) -> None:
    (home / "bad_net.py").write_text(code)
    with pytest.raises(UsageError, match=rf"bad_net\.py:make: {message}"):
        open_reference("bad_net.py:make")
    sys.modules.pop("bad_net", None)
