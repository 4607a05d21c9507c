"""Methods that look at data: on a small module and a small model, against the same without data."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.compress import Recipe, Setting, compress
from coremlops.compress.activations import quantize_activations
from coremlops.compress.calibrated import compress_module
from coremlops.errors import ConversionError, DataError, UsageError
from coremlops.model import ModelAsset
from coremlops.source import Samples, open_reference, open_samples
from tests.compress.fixtures import network

pytest.importorskip("coremltools")
torch = pytest.importorskip("torch")

FACTORY = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Linear(48, 64), nn.ReLU(), nn.Linear(64, 32)), (torch.zeros(2, 48),)

class Apart(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(48, 64), nn.Linear(48, 64)
    def forward(self, x):
        return self.one(x) + self.two(x)

def apart():
    return Apart(), (torch.zeros(2, 48),)
"""


@pytest.fixture
def nets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"nets_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.fixture
def data(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    mixed = random.normal(0, 1, (8, 2, 6)) @ random.normal(0, 1, (6, 48))  # few directions, as real data has
    path = tmp_path / "data.npz"
    np.savez(path, input=mixed.astype(np.float32))
    return path


def calibrate(net: str, data: Path, out: Path, text: str) -> Any:
    reference = open_reference(net)
    return compress_module(reference, out, Setting.parse(text), open_samples(data, reference.inputs))


def test_gptq_loses_less_of_the_outputs_than_rounding(nets: str, data: Path, tmp_path: Path) -> None:
    made = calibrate(f"{nets}:small", data, tmp_path / "m.pt2", "gptq:4")
    assert made.layers == ("0", "2")
    module = open_reference(f"{nets}:small").raw
    samples = torch.from_numpy(np.load(data)["input"])
    with torch.no_grad():
        before = module(samples)
        for layer in (module[0], module[2]):
            scale = layer.weight.abs().amax(dim=1, keepdim=True) / 7
            layer.weight.copy_((layer.weight / scale).round().clamp(-7, 7) * scale)
        error = module(samples) - before
    rounded = 10 * math.log10(float(before.square().sum() / error.square().sum()))
    assert made.snr_db > rounded + 3


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ("gptq:4:block=16", "constexpr_blockwise_shift_scale"),
        ("sparse_gpt:0.5", "constexpr_sparse_to_dense"),
        ("sparse_gpt:0.5:bits=8", "constexpr_sparse_blockwise_shift_scale"),
        ("sensitive_kmeans:4:group=16", "constexpr_lut_to_dense"),
    ],
)
def test_a_converter_finds_how_it_was_compressed(
    nets: str, data: Path, tmp_path: Path, text: str, operation: str
) -> None:
    import coremltools as ct

    made = calibrate(f"{nets}:small", data, tmp_path / "m.pt2", text)
    assert made.snr_db > 3
    program = torch.export.load(made.path).run_decompositions({})
    model = ct.convert(program, minimum_deployment_target=ct.target.iOS18, skip_model_load=True)
    block = model.get_spec().mlProgram.functions["main"].block_specializations["CoreML8"]
    assert operation in {entry.type for entry in block.operations}


def test_the_same_data_gives_the_same_module(nets: str, data: Path, tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        path = calibrate(f"{nets}:small", data, tmp_path / f"{name}.pt2", "sensitive_kmeans:4").path
        found.append(torch.export.load(path).state_dict)
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][key], found[1][key]) for key in found[0])


def test_what_cannot_be_calibrated_is_said(nets: str, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "m.pt2"
    with pytest.raises(UsageError, match="no layer takes this setting"):
        calibrate(f"{nets}:small", data, out, "gptq:4:block=37")
    with pytest.raises(ConversionError, match="gptq:4 does not go") as caught:
        calibrate(f"{nets}:apart", data, out, "gptq:4")
    assert "must follow each other" in caught.value.hint
    with pytest.raises(UsageError, match="one of gptq, sparse_gpt, sensitive_kmeans expected, got palettize"):
        calibrate(f"{nets}:small", data, out, "palettize:4")
    reference = open_reference(f"{nets}:small")
    nothing = Samples("none", 0, lambda: iter(()))
    with pytest.raises(DataError, match="at least one sample expected, got none"):
        compress_module(reference, out, Setting.parse("gptq:4"), nothing)
    np.savez(tmp_path / "nan.npz", input=np.full((2, 2, 48), np.nan, np.float32))
    with pytest.raises(DataError, match="NaN"):
        calibrate(f"{nets}:small", tmp_path / "nan.npz", out, "gptq:4")
    np.savez(tmp_path / "narrow.npz", input=np.zeros((2, 2, 47), np.float32))
    with pytest.raises(DataError, match="does not take"):
        calibrate(f"{nets}:small", tmp_path / "narrow.npz", out, "gptq:4")
    assert not out.exists()


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.random.default_rng(1).normal(0, 1, (6, 1, 48)).astype(np.float32))
    return path


def test_activations_of_8_bits_answer_nearly_the_same(tmp_path: Path, questions: Path) -> None:
    model = network(tmp_path / "m.mlpackage", version=8)
    samples = open_samples(questions, ModelAsset.open(model).description.inputs)
    setting = Setting.parse("activations:8")
    made = quantize_activations(model, tmp_path / "a8.mlpackage", setting, samples)
    again = quantize_activations(model, tmp_path / "b8.mlpackage", setting, samples)
    assert made.digest == again.digest != made.source
    assert made.operations >= 2
    both = compress(made.path, tmp_path / "w8a8.mlpackage", Recipe(Setting.parse("quantize:8")))
    assert both.bytes < made.bytes
    description = ModelAsset.open(made.path).description
    assert description.user_defined["com.coremlops.data"] == "{}"
    held, others = coremlops.load(model), [coremlops.load(made.path), coremlops.load(both.path)]
    for x in np.load(questions)["x"]:
        expected = held.predict({"x": x})["y"]
        for other in others:
            error = np.square(other.predict({"x": x})["y"] - expected).sum()
            assert 0 < error < np.square(expected).sum() / 300  # 25 dB


@pytest.mark.parametrize("largest", [0, 1, 2])
def test_every_sample_counts_and_not_the_last_alone(tmp_path: Path, largest: int) -> None:
    """coremltools 9.0 forgets the range of all samples but one."""
    model = network(tmp_path / "m.mlpackage", version=8)
    x = np.zeros((3, 1, 48), np.float32)
    x[largest, 0, 0] = 12.7
    np.savez(tmp_path / "x.npz", x=x)
    samples = open_samples(tmp_path / "x.npz", ModelAsset.open(model).description.inputs)
    setting = Setting.parse("activations:8")
    made = quantize_activations(model, tmp_path / "out.mlpackage", setting, samples)
    block = ModelAsset.open(made.path).spec.mlProgram.functions["main"].block_specializations["CoreML7"]
    scales = {
        entry.outputs[0].name: np.frombuffer(
            entry.attributes["val"].immediateValue.tensor.bytes.values, np.float16
        )
        for entry in block.operations
        if entry.type == "const" and "scale" in entry.outputs[0].name
    }
    first = next(entry for entry in block.operations if entry.type == "quantize")
    assert scales[first.inputs["scale"].arguments[0].name] == pytest.approx(0.1, rel=2e-3)


def test_activations_need_ios17_and_data(tmp_path: Path, questions: Path) -> None:
    model = network(tmp_path / "m.mlpackage", version=7)
    samples = open_samples(questions, ModelAsset.open(model).description.inputs)
    setting = Setting.parse("activations:8")
    out = tmp_path / "out.mlpackage"
    with pytest.raises(UsageError, match=r"activations of 8 bits need iOS17 or newer, and .* iOS16"):
        quantize_activations(model, out, setting, samples)
    with pytest.raises(DataError, match="at least one sample expected, got none"):
        quantize_activations(model, out, setting, Samples("none", 0, lambda: iter(())), target="iOS17")
    assert not out.exists()
    assert quantize_activations(model, out, setting, samples, target="iOS17").target == "iOS17"
