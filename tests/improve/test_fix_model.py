"""`coremlops verify --locate` and `--fix` on the command line, for sources that are no classifiers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.cli import main
from coremlops.model import ModelAsset

pytest.importorskip("coremltools")
torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

NET = "tests.convert.nets:overflowing"


@pytest.fixture
def net(tmp_path: Path) -> tuple[Path, list[str]]:
    """(model, --against ...) of a factory with weights; a picture with mean and std, one of two outputs."""
    from tests.convert.nets import Overflowing

    torch.manual_seed(7)  # not the factory's own weights
    torch.save(Overflowing().state_dict(), tmp_path / "w.pt")
    source, out = ["--weights", str(tmp_path / "w.pt")], tmp_path / "net.mlpackage"
    picture = "image=image:RGB,24x16,from=x,scale=1/255,mean=0.4:0.5:0.6,std=0.2:0.3:0.4"
    more = ["--input", picture, "--output", "scores=from=output_1,scale=2", "--target", "iOS17"]
    assert main(["convert", NET, "-o", str(out), *source, *more, "--author", "ada", "--no-verify"]) == 0
    return out, ["--against", NET, *source, "--data", "random"]


def test_the_command_mends_what_a_factory_gives(
    net: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, rest = net
    out = tmp_path / "out" / "mended.mlpackage"
    out.parent.mkdir()
    capsys.readouterr()
    assert main(["verify", str(model), *rest, "--locate", "--json"]) == 3
    first = json.loads(capsys.readouterr().out)["locate"]["first"]
    assert (first["kind"], first["type"]) == ("overflow", "exp")
    assert "nets.py:" in first["source"]  # of <stem>.origins.json
    assert main(["verify", str(model), *rest, "--fix", "-o", str(out), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["ok"]
    assert 0 < len(said["fix"]["kept_float32"]) < said["fix"]["operations"]
    assert {path.name for path in out.parent.iterdir()} >= {"mended.mlpackage", "mended.origins.json"}
    before, after = ModelAsset.open(model), ModelAsset.open(out)
    assert after.description.inputs == before.description.inputs
    assert [item.name for item in after.description.outputs] == ["scores"]
    assert (after.description.author, after.spec.specificationVersion) == ("ada", 8)
    rng = np.random.default_rng(3)
    pixels, t = rng.integers(0, 256, (16, 24, 3), np.uint8), np.array([[0.5]], np.float32)
    got = coremlops.load(out).predict({"image": pixels, "t": t})["scores"]
    np.testing.assert_allclose(got, 2 * _by_hand(tmp_path / "w.pt", pixels), atol=0.02)


def _by_hand(weights: Path, pixels: Any) -> Any:
    state = torch.load(weights, weights_only=True)
    x = ((pixels / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.3, 0.4]).transpose(2, 0, 1)[None]
    y = torch.nn.functional.conv2d(
        torch.tensor(x), state["conv.weight"].double(), state["conv.bias"].double()
    )
    return torch.log_softmax(y.mean((2, 3)) * 0.1, 1).numpy()


def test_a_model_of_another_converter_is_mended_and_what_is_not_known_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parting: Any = pytest.importorskip("tests.verify.locate.parting")
    source = parting.saved(parting.Overflow, tmp_path)
    model = parting.converted(source, parting.Overflow)
    common = ["--against", str(source), "--data", "random", "--json"]
    assert main(["verify", str(model), *common, "--fix", "-o", str(tmp_path / "out.mlpackage")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert {"exp", "sum_1", "div"} <= set(said["fix"]["kept_float32"])
    assert "not converted by coremlops" in said["fix"]["notes"][0]


def test_what_cannot_be_converted_again_is_an_error(
    net: tuple[Path, list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = net
    rest = ["--against", str(model), "--data", "random", "--against-precision", "float32"]
    assert main(["verify", str(model), *rest, "--fix", "-o", str(tmp_path / "out.mlpackage")]) == 2
    assert "--fix converts the source again" in capsys.readouterr().err
    assert main(["verify", str(model), *rest, "--locate"]) == 3
    printed = capsys.readouterr().out
    assert "overflow" in printed
    assert "float32 against the source: equal" in printed


def test_the_step_writes_origins(tmp_path: Path) -> None:
    from coremlops.pipeline.components.convert.__main__ import main as step

    parting: Any = pytest.importorskip("tests.verify.locate.parting")
    (tmp_path / "up").mkdir()
    parting.saved(parting.Overflow, tmp_path).rename(tmp_path / "up" / "model.pt2")
    assert step(["--upstream", str(tmp_path / "up"), "--downstream", str(tmp_path / "down")]) == 0
    ops = json.loads((tmp_path / "down" / "model.origins.json").read_text())["ops"]
    assert any("parting.py:" in item["source"] for item in ops.values())
