"""A model is held against its source as it was converted: by the command, and by the pipeline's step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.cli import main
from coremlops.pipeline.components.verify.__main__ import main as step

pytest.importorskip("coremltools")
torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.slow


def _net() -> Any:
    torch.manual_seed(0)
    nn = torch.nn
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    ).eval()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_outputs_folded_into_a_classifier_with_a_model_json(tmp_path: Path, pictures: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "made" / "model.mlpackage"
    source.mkdir()
    torch.export.save(torch.export.export(_net(), (torch.zeros(1, 3, 32, 32),)), source / "model.pt2")
    image = {"name": "image", "width": 32, "height": 32, "color": "RGB", "scale": 1 / 255, "bias": [0, 0, 0]}
    card = {"format": 1, "input": image | {"image_option": "scaleFit"}, "labels": ["a", "b", "c", "d"]}
    (source / "model.json").write_text(json.dumps(card))
    asked = ["--output", "p=tensor,post=softmax", "--data", str(pictures)]
    assert main(["convert", str(source), "-o", str(out), *asked]) == 0
    proving = ["--against", str(source), "--data", str(pictures)]
    assert main(["verify", str(out), *proving, "--locate"]) == 0
    inputs = ["--model", str(out.parent), "--source", str(source), "--data", str(pictures)]
    assert step([*inputs, "--downstream", str(tmp_path / "report"), "--accuracy_drop", "1"]) == 0


def test_an_onnx_file_with_preparation_and_softmax_folded_in(tmp_path: Path, pictures: Path) -> None:
    onnx, out = tmp_path / "net.onnx", tmp_path / "net.mlpackage"
    torch.onnx.export(_net(), (torch.zeros(1, 3, 32, 32),), str(onnx), dynamo=False, input_names=["in.1"])
    image = "image=image:RGB,32x32,scale=1/255,mean=0.5,std=0.2,from=in.1"
    asked = ["--input", image, "--output", "p=tensor,post=softmax", "--data", str(pictures)]
    assert main(["convert", str(onnx), "-o", str(out), *asked]) == 0
    assert main(["verify", str(out), "--against", str(onnx), "--data", str(pictures)]) == 0


def test_names_that_core_ml_does_not_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx: Any = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16]) for name in ("x.1", "y/out:0")]
    graph = helper.make_graph([helper.make_node("Relu", ["x.1"], ["y/out:0"])], "g", ends[:1], ends[1:])
    file, out = tmp_path / "dots.onnx", tmp_path / "m.mlpackage"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    assert main(["convert", str(file), "-o", str(out)]) == 0
    assert main(["verify", str(out), "--against", str(file), "--data", "random"]) == 0
    capsys.readouterr()
    assert main(["convert", str(file), "-o", str(out), "--shape", "z=1,16"]) == 2
    assert "input z: the source has x.1, not z" in capsys.readouterr().err
