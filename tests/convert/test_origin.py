"""Where an op came from: of what converts, and of what does not."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from coremlops.convert.origin import Place, document, following
from tests.convert.repairs.nets import Block, Unknown
from tests.convert.repairs.proof import converted, program

NETS = "tests/convert/repairs/nets.py"


EXAMPLES = (torch.randn(1, 3, 8, 8),)


def line(of: Any, text: str) -> str:
    lines, start = inspect.getsourcelines(of)
    return f"{NETS}:{start + next(number for number, found in enumerate(lines) if text in found)}"


@pytest.fixture(autouse=True)
def _in_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])


@pytest.mark.parametrize("way", ["trace", "export", "script"])
def test_each_op_has_its_module_and_its_line(way: str) -> None:
    made, _, origins = converted(program(nn.Sequential(Block(), nn.ReLU()), EXAMPLES, way), EXAMPLES)
    by_kind = {}
    for op in made._mil_program.functions["main"].operations:
        if op.op_type in ("conv", "tanh", "relu"):
            by_kind[op.op_type] = origins[op.outputs[0].name]
    assert by_kind["tanh"] == Place("0", line(Block, "torch.tanh"))
    assert by_kind["conv"].module == "0.conv"
    assert by_kind["relu"].module == "1"
    if way != "script":  # TorchScript knows the line in torch.nn alone
        assert by_kind["conv"].source == line(Block, "self.conv(x)")


def test_names_are_those_of_the_saved_model(tmp_path: Path) -> None:
    from coremltools.proto import Model_pb2

    made, _, origins = converted(program(Block(), EXAMPLES, "export"), EXAMPLES)
    made.save(str(tmp_path / "m.mlpackage"))
    spec = Model_pb2.Model()
    spec.ParseFromString((tmp_path / "m.mlpackage/Data/com.apple.CoreML/model.mlmodel").read_bytes())
    (block,) = spec.mlProgram.functions["main"].block_specializations.values()
    names = {item.name for op in block.operations if op.type != "const" for item in op.outputs}
    assert set(origins) == names


def test_the_document() -> None:
    assert document({"b": Place("x.1", "net.py:2"), "a": Place()}) == {
        "format": 1,
        "ops": {"a": {"module": "", "source": ""}, "b": {"module": "x.1", "source": "net.py:2"}},
    }


@pytest.mark.parametrize("way", ["trace", "export", "script"])
def test_what_does_not_convert_says_where(way: str) -> None:
    import coremltools as ct

    raw = program(nn.Sequential(nn.ReLU(), Unknown()), EXAMPLES, way)
    raw = raw.run_decompositions({}) if way == "export" else raw
    with pytest.raises(NotImplementedError), following() as trail:
        ct.convert(raw, inputs=[ct.TensorType(name="x", shape=EXAMPLES[0].shape)], skip_model_load=True)
    assert trail.failed == Place("1", line(Unknown, "i0e"))
    assert "i0e" in trail.op


def test_what_captures_a_module_is_not_the_user_s(tmp_path: Path) -> None:
    from coremlops.convert.origin import _OURS, _source

    torchs = f"{tmp_path}/site-packages/torch/nn/modules/activation.py"
    trace = f"{torchs}(901): forward\n{_OURS}improve/prove.py(107): run\n/usr/bin/coremlops(8): <module>\n"
    assert _source(trace, innermost_last=False) == "torch/nn/modules/activation.py:901"
