"""`.aimodel`: made by coreai-torch, executed by coreai-core's runtime, against torch."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from coremlops.cli import main
from coremlops.convert.aimodel import convert_aimodel
from coremlops.errors import MissingExtraError, ModelFormatError, UsageError
from coremlops.runtime.aimodel import AIModel
from coremlops.source import open_reference


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 3),
        torch.nn.Softmax(-1),
    ).eval()
    path = tmp_path_factory.mktemp("aimodel") / "model.pt2"
    torch.export.save(torch.export.export(net, (torch.ones(1, 3, 8, 8),)), path)
    return path


@pytest.mark.slow
def test_it_answers_as_torch_does(exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("coreai_torch")
    out = tmp_path / "a.aimodel"
    reference = open_reference(exported)
    for _ in range(2):  # the second takes the first one's place
        made = convert_aimodel(reference, out)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8)).astype(np.float32)
    found = AIModel(out).predict({made.inputs[0]: x})
    expected = reference({reference.inputs[0].name: x})
    assert found["output_0"] == pytest.approx(expected["output_0"], abs=1e-6)
    assert main(["describe", str(out)]) == 0
    assert "conv2d" in capsys.readouterr().out
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.aimodel"]


def test_without_the_extra(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "coreai_torch", None)
    monkeypatch.setitem(sys.modules, "coreai.authoring", None)
    with pytest.raises(MissingExtraError, match=r"coremlops\[coreai\]"):
        convert_aimodel(exported, tmp_path / "a.aimodel")
    assert main(["describe", str(tmp_path / "a.aimodel")]) == 2
    assert "coremlops[coreai]" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_no_aimodel(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ends in \.aimodel"):
        convert_aimodel(exported, tmp_path / "a.mlpackage")
    (tmp_path / "a.aimodel").mkdir()
    with pytest.raises(UsageError, match="left alone"):
        convert_aimodel(exported, tmp_path / "a.aimodel")
    with pytest.raises(UsageError, match=r"Core AI takes torch\.export"):
        convert_aimodel(Path(__file__).parent / "trees/xgboost-value.json", tmp_path / "b.aimodel")
    pytest.importorskip("coreai.authoring")
    with pytest.raises(ModelFormatError, match=r"an \.aimodel expected"):
        AIModel(tmp_path / "a.aimodel")
