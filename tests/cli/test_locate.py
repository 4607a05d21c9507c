"""`coremlops verify --locate`: without a proof, and beside one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coremlops.cli import main
from tests.handmade import add_operation, program_spec, write_package


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """log(exp(x)^2): past 65504 from x = 5.55 on, in fp16."""
    spec, block = program_spec()
    shape = (2, 3)
    add_operation(block, "exp", "e", shape, {"x": "x"}, "fp16")
    add_operation(block, "mul", "s", shape, {"x": "e", "y": "e"}, "fp16")
    add_operation(block, "log", "y", shape, {"x": "s"})
    return write_package(tmp_path / "net.mlpackage", spec)


def _data(folder: Path, scale: float) -> Path:
    import numpy as np

    path = folder / "x.npz"
    np.savez(path, x=np.linspace(0.5, scale, 24, dtype=np.float32).reshape(4, 2, 3))
    return path


def test_without_a_source_the_first_question_is_answered(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, report = _data(tmp_path, 8.0), tmp_path / "report.json"
    common = ["verify", str(net), "--data", str(data), "--locate", "--json"]
    assert main([*common, "--report", str(report)]) == 0  # two samples: x to 4.2
    assert json.loads(capsys.readouterr().out)["locate"]["findings"] == []
    data = _data(tmp_path, 20.0)
    assert main([*common, "--report", str(report)]) == 3
    printed = capsys.readouterr()
    first = json.loads(printed.out)["locate"]["first"]
    assert (first["op"], first["kind"]) == ("s", "overflow")
    assert json.loads(report.read_text())["locate"]["first"] == first
    assert "snr_db: at least 40" in printed.err


def test_a_source_and_data_are_asked_for_otherwise(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(net)]) == 2
    error = capsys.readouterr().err
    assert "--against and --data expected" in error
    assert "--locate alone can do without" in error


def test_the_file_itself_can_be_the_source(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(net), "--against", str(net), "--locate"]) in (0, 3)
    assert "float32 against the source: equal" in capsys.readouterr().out
