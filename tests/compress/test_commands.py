"""`coremlops compress` and the steps `compress` and `compress_module`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coremlops.cli import main
from coremlops.model import model_digest
from coremlops.pipeline.components.compress.__main__ import main as step
from tests.compress.fixtures import network


def test_every_weight_by_a_method(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = network(tmp_path / "m.mlpackage"), tmp_path / "out.mlpackage"
    words = ["--method", "palettize", "--bits", "4", "--group", "32"]
    assert main(["compress", str(model), "-o", str(out), *words]) == 0
    text = capsys.readouterr().out
    assert "iOS18" in text
    assert "weights: 1 compressed, 1 do not fit" in text
    assert "palettize:4:group=32" in text
    assert "as it was: second: 48 output channels are no multiple of the group 32" in text
    assert f"digest {model_digest(out)}" in text


def test_a_recipe_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out = network(tmp_path / "m.mlpackage"), tmp_path / "out.mlpackage"
    recipe = {
        "format": 1,
        "model": model_digest(model),
        "default": {"method": "quantize", "bits": 8},
        "weights": {"second": {"method": "palettize", "bits": 2}},
    }
    (tmp_path / "r.json").write_text(json.dumps(recipe))
    words = ["--recipe", str(tmp_path / "r.json"), "--keep", "fir*", "--json"]
    assert main(["compress", str(model), "-o", str(out), *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["digest"] == model_digest(out)
    assert [entry["setting"] for entry in found["weights"]] == ["none", "palettize:2"]
    assert found["weights"][0]["snr_db"] is None


def test_the_weights_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = network(tmp_path / "m.mlpackage")
    assert main(["compress", str(model), "--list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["weights"]
    assert found[1] == {
        "name": "second",
        "op_type": "linear",
        "shape": [48, 64],
        "dtype": "fp16",
        "bytes": 48 * 64 * 2,
    }
    assert main(["compress", str(model), "--list"]) == 0
    assert "48 x 64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--method, --recipe or --search expected"),
        (["--recipe", "r.json", "--bits", "4"], "bits=4: of --method alone"),
        (["--method", "palettize", "--bits", "5"], "bits of 1, 2, 3, 4, 6, 8 expected, got 5"),
        (["--method", "quantize:8", "--keep", "nothing*"], "no weight of .* is called so"),
        (["--method", "quantize:8", "--calibration", "x.npz"], "it looks at weights alone"),
        (["--method", "activations:8"], "--calibration DATA expected"),
        (["--recipe", "none.json"], "cannot be read"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    import re

    model, out = network(tmp_path / "m.mlpackage"), tmp_path / "out.mlpackage"
    assert main(["compress", str(model), "-o", str(out), *words]) in (1, 2)
    assert re.search(message, capsys.readouterr().err)
    assert not out.exists()


def test_a_step_compresses_what_convert_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "converted").mkdir()
    network(tmp_path / "converted" / "model.mlpackage")
    inputs = ["--model", str(tmp_path / "converted"), "--downstream", str(tmp_path / "down")]
    assert step([*inputs, "--method", "palettize:4"]) == 0
    made = json.loads((tmp_path / "down" / "compression.json").read_text())
    assert made["digest"] == model_digest(tmp_path / "down" / "model.mlpackage")
    metrics = json.loads((tmp_path / "down" / "metrics.json").read_text())
    assert metrics["bytes"] < metrics["bytes_before"]
    assert step(inputs) == 2
    assert "one of method and recipe expected" in capsys.readouterr().err
    assert step([*inputs, "--method", "activations:8"]) == 2
    assert step([*inputs, "--method", "quantize:8", "--data", "x.npz"]) == 2


@pytest.mark.slow
def test_a_step_compresses_a_module_of_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("coremltools")
    from coremlops.pipeline.components.compress_module.__main__ import main as step_of_modules
    from tests.compress.test_calibrated import FACTORY

    (tmp_path / "project_nets.py").write_text(FACTORY)
    np.savez(tmp_path / "d.npz", input=np.random.default_rng(0).normal(0, 1, (4, 2, 48)).astype(np.float32))
    monkeypatch.setenv("COREMLOPS_PROJECT", str(tmp_path))
    words = ["--data", str(tmp_path / "d.npz"), "--downstream", str(tmp_path / "down")]
    assert step_of_modules([*words, "--source", "project_nets:small", "--method", "gptq:4"]) == 0
    assert (tmp_path / "down" / "model.pt2").is_file()
    assert json.loads((tmp_path / "down" / "calibration.json").read_text())["layers"] == ["0", "2"]
