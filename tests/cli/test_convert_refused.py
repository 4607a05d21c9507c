"""What `convert`, `compress` and `export-onnx` say to command lines that cannot be right."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import coremlops
from coremlops.cli import main

NETS = """
import torch


def double():
    net = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64))
    return net, (torch.zeros(1, 4),)


def slow():
    import time

    time.sleep(60)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A module with nets, and one of them as a package."""
    folder = tmp_path_factory.mktemp("nets")
    (folder / "nets.py").write_text(NETS)
    assert (
        main(["convert", f"{folder}/nets.py:double", "-o", str(folder / "m.mlpackage"), "--no-verify"]) == 0
    )
    return folder


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--snr-db", "-500"], 2, "10 to 200 dB expected, got -500"),
        (["--snr-db", "nan"], 2, "10 to 200 dB expected, got nan"),
        (["--no-verify", "--snr-db", "30"], 2, "--snr-db is of the proof"),
        (["--no-verify", "--data", "x.npz"], 2, "--data is of the proof"),
        (["--shape", "y=1,8"], 2, "not y"),
        (["--input", "a=tensor,from=y"], 2, "not y"),
    ],
)
def test_convert(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    out = tmp_path / "out.mlpackage"
    assert main(["convert", f"{folder}/nets.py:double", "-o", str(out), *words]) == code
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["convert", "compress", "export-onnx"])
def test_a_place_that_cannot_be_written_is_named_as_it_was_given(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    source = f"{folder}/nets.py:double" if command == "convert" else str(folder / "m.mlpackage")
    out = "/proc/x.onnx" if command == "export-onnx" else "/proc/x.mlpackage"
    more = ["--method", "palettize:4"] if command == "compress" else []
    assert main([command, source, "-o", out, *more]) == 1
    said = capsys.readouterr().err
    assert f"error: {out} cannot be written: " in said
    assert "/proc/." not in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "palettize:4", "--bits", "2"], "bits is said twice"),
        (["--method", "palettize:4", "--weights", "w.pt"], "--weights is of a module:factory"),
        (
            ["--method", "activations:8", "--calibration", "x.npz", "--weights", "w.pt"],
            "--weights is of a module:factory",
        ),
        (["--method", "palettize:4", "--samples", "3"], "of --calibration or --data"),
        (["--method", "activations:8", "--calibration", "x.npz", "--samples", "0"], "1 or more"),
    ],
)
def test_compress(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["compress", str(folder / "m.mlpackage"), "-o", str(tmp_path / "o.mlpackage"), *words]) == 2
    assert said in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_compress_does_not_write_over_its_own_model(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = folder / "m.mlpackage"
    before = sorted((path.name, path.stat().st_mtime_ns) for path in model.rglob("*"))
    assert main(["compress", str(model), "-o", f"{folder}/./m.mlpackage", "--method", "palettize:4"]) == 2
    assert "it would be lost" in capsys.readouterr().err
    assert sorted((path.name, path.stat().st_mtime_ns) for path in model.rglob("*")) == before


def test_what_was_compressed_before_is_said(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once, twice = tmp_path / "once.mlpackage", tmp_path / "twice.mlpackage"
    assert main(["compress", str(folder / "m.mlpackage"), "-o", str(once), "--method", "palettize:4"]) == 0
    capsys.readouterr()
    code = main(["compress", str(once), "-o", str(twice), "--method", "palettize:4"])
    said = capsys.readouterr()
    assert "compressed already" in said.err or "compressed before" in said.out
    assert code == 0 or "made from" in said.err


def test_list_repairs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--list-repairs"]) == 0
    assert "prelu (front end)\n  trap: " in capsys.readouterr().out
    assert main(["convert", "--list-repairs", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["repairs"]) >= 19
    assert main(["convert", "x.pt2"]) == 2


@pytest.mark.parametrize("delay_s", [0, 0.3])
def test_sigterm_ends_it_and_leaves_nothing_behind(folder: Path, tmp_path: Path, delay_s: float) -> None:
    out = tmp_path / "out.mlpackage"
    command = [sys.executable, "-m", "coremlops", "convert", f"{folder}/nets.py:double", "-o", str(out)]
    process = subprocess.Popen(command, env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(tmp_path.iterdir()):
        time.sleep(0.001)
    time.sleep(delay_s)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_calibration_that_does_not_fit_says_which_input(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(folder / "m.mlpackage")
    words = [
        "compress",
        model,
        "-o",
        str(tmp_path / "o.mlpackage"),
        "--method",
        "activations:8",
        "--target",
        "iOS17",
    ]
    own = coremlops.load(model).description.inputs[0].name
    for values in (
        np.zeros((2, 1, 5), np.float32),
        np.full((2, 1, 4), np.nan, np.float32),
        np.zeros((0, 1, 4)),
    ):
        arrays: dict[str, Any] = {own: values}
        np.savez(tmp_path / "c.npz", **arrays)
        assert main([*words, "--calibration", str(tmp_path / "c.npz")]) == 1
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert "expected" in said
        assert "Bridge" not in said
