"""What needs which version: against coremltools' own registry and what it writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from coremlops.dialects.neuralnetwork.reader import layer_kinds
from coremlops.lint import LintOptions, lint
from coremlops.lint.needs import _LAYERS, layer_needs, needs
from coremlops.lint.subject import parts_of
from coremlops.model import ModelAsset
from tests.lint.notation import make
from tests.networks import add_layer, model, network, read, write

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_table_is_what_the_installed_coremltools_says() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/make_opsets.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def newest(text: str, path: Path) -> dict[str, int]:
    """What each op of an example needs."""
    example = make(text, path)
    part = parts_of(ModelAsset.open(example.path))[0]
    return {need.at.name: need.specification for need in needs(part) if not isinstance(need.at, str)}


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("y: fp16[2, 8] = relu(x=x)", 6),
        ("y: fp16[2, 8] = leaky_relu(x=x, alpha=fp16(0.1))", 6),
        ("y: fp16[2, 8] = leaky_relu(x=x, alpha=fp32(0.1))", 8),  # types that differ: iOS 17
        ("y: fp16[2, 3] = gather(x=x, indices=int32[3], axis=1)", 6),
        ("y: fp16[2, 3] = gather(x=x, indices=int16[3], axis=1)", 7),
        ("y: fp16[2, 3] = gather(x=x, indices=int8[3], axis=1)", 8),
        ("y: fp16[2, 3] = gather(x=x, indices=int32[3], axis=1, batch_dims=0)", 6),  # as without it
        ("y: fp16[2, 3] = gather(x=x, indices=int32[2, 3], axis=1, batch_dims=1)", 7),
        ("y: int32[2, 8] = cast(x=x, dtype='int32')", 6),
        ("y: int16[2, 8] = cast(x=x, dtype='int16')", 8),
        ("y: fp16[2, 8] = fill_like(ref_tensor=x, value=fp16(1.0))", 7),
    ],
)
def test_an_op_needs_what_its_inputs_need(line: str, version: int, tmp_path: Path) -> None:
    text = f'program("iOS18")\nx: fp16[2, 8] = input()\n{line}\noutput(y)'
    assert newest(text, tmp_path) == {"y": version}


def test_the_layers_are_those_of_the_format() -> None:
    assert set(_LAYERS) <= set(layer_kinds())
    assert len(_LAYERS) == 47


@pytest.mark.parametrize(
    ("kind", "fields", "version"),
    [
        ("activation", {}, 1),
        ("custom", {"className": "Swish"}, 2),
        ("cropResize", {}, 3),
        ("softmaxND", {"axis": -1}, 4),
        ("argSort", {}, 5),
        ("upsample", {"scalingFactor": [2, 2]}, 1),
        ("upsample", {"scalingFactor": [2, 2], "linearUpsampleMode": "ALIGN_CORNERS_TRUE"}, 5),
        ("upsample", {"fractionalScalingFactor": [1.5, 1.5]}, 5),
        ("reorganizeData", {"mode": "PIXEL_SHUFFLE", "blockSize": 2}, 5),
        ("reorganizeData", {"mode": "SPACE_TO_DEPTH", "blockSize": 2}, 1),
        ("innerProduct", {"int8DynamicQuantize": True}, 5),
        ("concatND", {"interleave": True}, 5),
    ],
)
def test_a_layer_needs_what_its_fields_need(kind: str, fields: dict[str, object], version: int) -> None:
    message = network()
    add_layer(message, kind, ["x"], ["y"], **fields)
    assert layer_needs(read(message).layers[0])[0] == version


def test_stored_weights_count() -> None:
    message = network()
    params = add_layer(message, "innerProduct", ["x"], ["y"], inputChannels=1, outputChannels=1)
    params.weights.float16Value = b"\0\0"
    assert layer_needs(read(message).layers[0]) == (2, "weights in fp16")
    params.weights.Clear()
    params.weights.rawValue = b"\0"
    params.weights.quantization.numberOfBits = 8
    params.weights.quantization.linearQuantization.scale.append(1.0)
    assert layer_needs(read(message).layers[0]) == (3, "quantized weights")


@pytest.mark.slow
def test_new_layers_are_those_that_coremltools_refuses_for_ios13(tmp_path: Path) -> None:
    code = """
import sys
from coremltools.converters.mil._deployment_compatibility import iOS14Features
from coremltools.proto import Model_pb2
descriptor = Model_pb2.Model().neuralNetwork.layers.add().DESCRIPTOR
for kind in [field.name for field in descriptor.oneofs_by_name["layer"].fields]:
    model = Model_pb2.Model()
    getattr(model.neuralNetwork.layers.add(), kind).SetInParent()
    if iOS14Features(model):
        print(kind)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    theirs = set(done.stdout.split())
    ours = {kind for kind, version in _LAYERS.items() if version == 5}
    assert theirs <= ours
    assert ours - theirs == {"sliceBySize"}  # only its C++ half (Utils.cpp) knows that one


def test_a_target_too_old_names_the_ops_and_the_lowest_target(tmp_path: Path) -> None:
    text = """
program("iOS18")
x: fp16[1, 4, 8, 16] = input()
a: fp16[1, 4, 8, 16] = scaled_dot_product_attention(query=x, key=x, value=x)
y: fp16[1, 4, 8, 16] = relu(x=a)
output(y)
"""
    found = lint(make(text, tmp_path).path, LintOptions(target="iOS17.4"))
    errors = [finding for finding in found if finding.level == "error"]
    assert [(finding.rule, finding.op, finding.kind) for finding in errors] == [
        ("os-target-too-old", "a", "scaled_dot_product_attention"),
        ("os-target-too-old", "", ""),
    ]
    assert "needs iOS 18, macOS 15" in errors[0].message
    assert "the target is iOS17.4" in errors[0].message
    assert "iOS17.4 reads 8 at most" in errors[1].message


def test_a_network_says_what_forces_it(tmp_path: Path) -> None:
    spec, net = model(version=5)
    feature = spec.description.input.add(name="x")
    feature.type.multiArrayType.shape.append(4)
    feature.type.multiArrayType.dataType = 65568
    add_layer(net, "argSort", ["x"], ["y"])
    found = lint(write(tmp_path / "m.mlmodel", spec), LintOptions(target="iOS13"))
    assert [(entry.rule, entry.op) for entry in found if entry.rule.startswith("os-")] == [
        ("os-target-too-old", "argSort to y"),
        ("os-target-too-old", ""),
        ("os-forced-by", "argSort to y"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["iOS15", "iOS16", "iOS17", "iOS18"])
def test_what_coremltools_writes_for_a_target_is_fine_for_it(target: str, tmp_path: Path) -> None:
    code = f"""
import sys, torch, coremltools as ct
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.lin = nn.Conv2d(3, 8, 3, padding=1), nn.LayerNorm(16), nn.Linear(16, 4)
        self.lstm = nn.LSTM(16, 8, batch_first=True)
    def forward(self, x):
        h = nn.functional.interpolate(nn.functional.leaky_relu(self.conv(x)), scale_factor=2)
        h = nn.functional.max_pool2d(h, 2).flatten(1, 2)
        h, _ = self.lstm(self.norm(h))
        values, places = torch.topk(h[:, -1], 4)
        return torch.softmax(values, -1) + torch.gather(h[:, 0], 1, places).clamp(0, 1)
net = Net().eval()
x = torch.rand(1, 3, 16, 16)
made = ct.convert(torch.jit.trace(net, x), inputs=[ct.TensorType(name="x", shape=x.shape)],
                  minimum_deployment_target=ct.target.{target}, skip_model_load=True)
made.save(sys.argv[1])
"""
    path = tmp_path / "net.mlpackage"
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [entry for entry in lint(path, LintOptions(target=target)) if entry.level == "error"] == []
