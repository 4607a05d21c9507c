"""Measurements: what they report, and what ends in an error of ours."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import coremlops
from coremlops.cli import main
from coremlops.errors import ModelError, UsageError
from coremlops.model import ArrayFeature, ImageFeature
from coremlops.model.description import DictionaryFeature, Feature, ScalarFeature, SequenceFeature
from coremlops.runtime import bench as benching
from coremlops.runtime.bench import BenchOptions, bench, measure
from tests.handmade import adder

QUICK = BenchOptions(batches=(1, 3), concurrency=(1, 2), seconds=0.01)


def test_a_model_in_a_fresh_process(tmp_path: Path) -> None:
    path = adder(tmp_path / "a.mlpackage")
    found = bench(path, QUICK)
    assert found["digest"] == coremlops.load(path).digest
    assert (found["precision"], found["engine"], found["threads"]) == ("typed", "auto", None)
    assert 0 < found["steady_ms"]["median"] <= found["steady_ms"]["p95"]
    assert found["steady_ms"]["count"] >= 5
    assert found["load_s"] > 0 < found["first_ms"]
    assert [(row["batch"], row["concurrency"]) for row in found["throughput"]] == [
        (1, 1),
        (1, 2),
        (3, 1),
        (3, 2),
    ]
    assert all(row["per_s"] > 0 for row in found["throughput"])
    assert 10e6 < found["peak_memory_bytes"] < 10e9


def test_files_beside_one_are_no_modules_of_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("numpy", "onnxruntime", "coremlops"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a file of the current folder ran')")
    monkeypatch.chdir(tmp_path)
    assert bench(adder(tmp_path / "a.mlpackage"), QUICK)["load_s"] > 0


def test_errors_of_the_process_are_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match="no Core ML model at"):
        bench(tmp_path / "nothing", QUICK)
    with pytest.raises(UsageError, match="unknown engine 'ane'"):
        bench(adder(tmp_path / "a.mlpackage"), BenchOptions(engine="ane", seconds=0.01))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ModelError, match="the measurement ended with 1: no word"):
        bench(tmp_path / "nothing", QUICK)


@pytest.mark.parametrize(
    "options", [{"seconds": 0}, {"seconds": 1e9}, {"batches": (0,)}, {"concurrency": (5000,)}]
)
def test_options_that_make_no_sense(options: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="expected"):
        BenchOptions(**options)  # type: ignore[arg-type]


def test_a_picture_is_made_up_for_a_classifier(tiny_classifier: Path) -> None:
    found = measure(str(tiny_classifier), QUICK)
    assert found["steady_ms"]["count"] >= 5


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        (ImageFeature("x", 4, 3, "RGB"), (3, 4, 3)),
        (ImageFeature("x", 4, 3, "GRAYSCALE"), (3, 4)),
        (ArrayFeature("x", "float16", (2, 5)), (2, 5)),
        (ArrayFeature("x", "int32", (2,)), (2,)),
    ],
)
def test_arrays_are_made_up_in_the_declared_shape(feature: Feature, expected: tuple[int, ...]) -> None:
    made = benching._made_up(feature)
    assert made.shape == expected
    assert np.isfinite(made).all()


def test_other_kinds_are_made_up(tmp_path: Path) -> None:
    made = benching._made_up
    assert made(ScalarFeature("x", "string")) == "a"
    assert (made(ScalarFeature("x", "int64")), made(ScalarFeature("x", "double"))) == (1, 1.0)
    assert made(DictionaryFeature("x", "int64")) == {1: 1.0}
    assert made(SequenceFeature("x", "string")) == ["a"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(adder(tmp_path / "a.mlpackage"))
    quick = ["--seconds", "0.01", "--batch", "1,2", "--concurrency", "1"]
    assert main(["bench", path, *quick]) == 0
    shown = capsys.readouterr().out
    assert "ms median" in shown
    assert "a second" in shown
    assert main(["bench", path, *quick, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == path
    assert main(["bench", path, "--batch", "one"]) == 2
    assert "expected whole numbers" in capsys.readouterr().err


def test_an_untrained_architecture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("coremltools")
    (tmp_path / "my_nets.py").write_text(
        "import torch\n"
        "def small(): return torch.nn.Linear(4, 2), torch.rand(1, 4)\n"
        "def odd(): return 3\n"
        "def broken():\n"
        "    class Net(torch.nn.Module):\n"
        "        def forward(self, x): return torch.linalg.eigvals(x)\n"
        "    return Net(), (torch.rand(3, 3),)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    quick = ["--seconds", "0.01", "--batch", "1", "--concurrency", "1", "--json"]
    assert main(["bench", "my_nets:small", *quick]) == 0
    assert json.loads(capsys.readouterr().out)["steady_ms"]["median"] > 0
    assert main(["bench", "my_nets:odd", *quick]) == 2
    assert "gives int; expected (torch.nn.Module, example inputs)" in capsys.readouterr().err
    assert main(["bench", "my_nets:none", *quick]) == 2
    assert main(["bench", "my_nets:broken", *quick]) == 1
    assert "my_nets:broken does not convert" in capsys.readouterr().err
