"""`coremlops describe`."""

import json
from pathlib import Path

import numpy as np
import pytest

from coremlops.cli import main
from coremlops.cli.describe import size_text
from coremlops.model import model_digest
from tests.classic_models import save
from tests.handmade import add_operation, adder, array_feature, program_spec, write_package
from tests.networks import add_layer, model, write
from tests.runtime.test_pipeline import pipeline, scaler


def test_the_table(tiny_classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(tiny_classifier)]) == 0
    out = capsys.readouterr().out
    for line in (
        "target    iOS 16, macOS 13, tvOS 16, watchOS 9 or later",
        f"digest    {model_digest(tiny_classifier)}",
        "input     image: image 16 x 16 RGB",
        "output    classLabel: string",
        "labels    2: ada, bob",
        "conv             2",
    ):
        assert line in out.splitlines()
    assert "  com.coremlops.preparation = {" in out


def test_json_is_one_object(tiny_classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(tiny_classifier), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["digest"] == model_digest(tiny_classifier)
    assert found["labels"] == ["ada", "bob"]


def test_layers_and_members(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec, net = model()
    array_feature(spec.description.input.add(), "x", (2,))
    array_feature(spec.description.output.add(), "y", (2,))
    add_layer(net, "multiply", ["x"], ["a"], alpha=2.0)
    add_layer(net, "loadConstantND", [], ["c"], shape=[2], data=np.array([1.0, 2]))
    add_layer(net, "addBroadcastable", ["a", "c"], ["y"])
    assert main(["describe", str(write(tmp_path / "net.mlmodel", spec))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "layer             count" in lines
    assert "multiply              1" in lines
    inner = pipeline([spec], {"x": (2,)}, {"y": (2,)})
    path = save(pipeline([scaler("x", "x", 1), inner], {"x": (2,)}, {"y": (2,)}), tmp_path)
    assert main(["describe", str(path)]) == 0
    text = capsys.readouterr().out
    assert text.split("\nmember\n")[1].splitlines() == [
        "  0      scaler: x -> x",
        "  1      pipeline: x -> y",
        "  1.0    neuralNetwork: x -> y; addBroadcastable 1, loadConstantND 1, multiply 1; weights 8 B",
    ]


def test_what_is_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["describe", str(tmp_path / "nothing.mlpackage")]) == 1
    assert capsys.readouterr().err.startswith("error: no Core ML model at ")
    path = adder(tmp_path / "a.mlpackage")
    (path / "Data/com.apple.CoreML/model.mlmodel").write_bytes(b"garbage")
    assert main(["describe", str(path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "not a Core ML model" in captured.err
    assert "hint: " in captured.err


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9_479_361, "9.5 MB"), (10**15, "1000.0 TB")],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


def test_a_model_s_words_do_not_drive_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, block = program_spec()
    add_operation(block, "relu", "y", (2, 3), {"x": "x"})
    spec.description.metadata.author = "Zo\u00eb\x1b[2J\x9b2J"
    spec.description.metadata.userDefined["k"] = "\x07"
    assert main(["describe", str(write_package(tmp_path / "a.mlpackage", spec))]) == 0
    out = capsys.readouterr().out
    assert "author    Zo\u00eb\\x1b[2J\\x9b2J" in out
    assert "  k = \\x07" in out
