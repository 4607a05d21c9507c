"""A conversion that is proven appears; one that is not does not, and is kept under a name that says so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coremlops.cli import main
from coremlops.convert import ConvertOptions, Input, Output, convert
from coremlops.errors import DataError, GateError
from coremlops.improve.prove import ProveOptions, convert_and_prove, prove
from coremlops.model import ModelAsset, model_digest
from coremlops.source import open_reference

pytest.importorskip("coremltools")
pytest.importorskip("torch")
pytestmark = pytest.mark.slow

NETS = "tests.convert.nets:"
RANGED = "x=1x3x8..32x8..32"


@pytest.mark.parametrize(
    ("name", "options", "outputs", "shapes"),
    [
        ("conv", ConvertOptions(inputs=(Input.of(RANGED),)), {"output_0", "output_1"}, 3),
        (
            "conv",
            ConvertOptions(inputs=(Input.of("x=image:BGR,24x16|8x8,std=2:3:4"),)),
            {"output_0", "output_1"},
            2,
        ),
        ("words", ConvertOptions(inputs=(Input.of("ids=1x1..64"), Input.of("mask=1x1..64"))), {"logits"}, 3),
        ("total", ConvertOptions(target="iOS18", states=("total",)), {"output_0"}, 1),
        ("classes", ConvertOptions(outputs=(Output("best", post="argmax"),)), {"best"}, 1),
    ],
)
def test_what_is_right_is_proven(
    name: str, options: ConvertOptions, outputs: set[str], shapes: int, tmp_path: Path
) -> None:
    made, proof = convert_and_prove(NETS + name, tmp_path / "m.mlpackage", options)
    assert proof.ok
    assert set(proof.outputs) == outputs
    assert proof.shapes == shapes
    assert (made.path, made.digest) == (tmp_path / "m.mlpackage", model_digest(tmp_path / "m.mlpackage"))
    assert "random" in proof.about
    assert "--data" in proof.notes[0]
    assert {path.name for path in tmp_path.iterdir()} <= {"m.mlpackage", "m.origins.json", "m.debug.json"}


def test_what_is_wrong_stays_beside_and_the_older_model_stays(tmp_path: Path) -> None:
    out = tmp_path / "m.mlpackage"
    older, _ = convert_and_prove(NETS + "huge", out, ConvertOptions(precision="float32"))
    with pytest.raises(GateError) as caught:
        convert_and_prove(NETS + "huge", out)
    assert "output_0: snr_db: at least 40 dB expected, got -200" in caught.value.message
    assert "m.unproven.mlpackage" in caught.value.message
    assert "--locate" in caught.value.hint
    assert model_digest(out) == older.digest
    assert ModelAsset.open(tmp_path / "m.unproven.mlpackage").kind == "mlProgram"
    assert not list(tmp_path.glob(".convert-*"))


def test_another_preparation_than_was_asked_for_shows(tmp_path: Path) -> None:
    """The proof computes what was asked for by itself, so a scale that was lost on the way cannot hide."""
    asked = ConvertOptions(inputs=(Input.of("x=image:RGB,24x16,scale=1/255,std=0.2:0.3:0.4"),))
    other = ConvertOptions(inputs=(Input.of("x=image:RGB,24x16,scale=1/255,std=0.2:0.3:0.5"),))
    swapped = ConvertOptions(inputs=(Input.of("x=image:BGR,24x16,scale=1/255,std=0.2:0.3:0.4"),))
    reference = open_reference(NETS + "conv")
    made = convert(reference, tmp_path / "m.mlpackage", asked)
    assert prove(made.path, reference, asked).ok
    assert not prove(made.path, reference, other).ok
    assert not prove(made.path, reference, swapped).ok


def test_a_state_that_is_forgotten_shows(tmp_path: Path) -> None:
    """The first answers are alike: only a second question with the same state tells them apart."""
    options = ConvertOptions(target="iOS18", states=("total",))
    made = convert(NETS + "forgotten", tmp_path / "m.mlpackage", options)
    assert prove(made.path, open_reference(NETS + "forgotten"), options).ok
    proof = prove(made.path, open_reference(NETS + "total"), options)
    assert proof.failed
    assert proof.outputs["output_0"]["snr_db"] < 20


def test_an_answer_that_is_the_state_itself_is_not_changed_by_the_next(tmp_path: Path) -> None:
    options = ConvertOptions(target="iOS18", states=("total",))
    _, proof = convert_and_prove(NETS + "itself", tmp_path / "m.mlpackage", options)
    assert proof.ok


def test_data_is_what_it_rests_on(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32))
    wanted = ProveOptions(data=tmp_path / "d.npz")
    _, proof = convert_and_prove(NETS + "classes", tmp_path / "m.mlpackage", None, wanted)
    assert (proof.samples, proof.notes, proof.about) == (5, (), "5 samples of d.npz")
    with pytest.raises(DataError):
        convert_and_prove(
            NETS + "classes", tmp_path / "n.mlpackage", None, ProveOptions(data=tmp_path / "none")
        )
    assert not (tmp_path / "n.mlpackage").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "m.mlpackage"
    (tmp_path / "o.yaml").write_text("outputs: [{name: p, post: softmax}]\nlabels: l.txt\ntarget: iOS17\n")
    (tmp_path / "l.txt").write_text("a\nb\nc\nd\ne\n")
    command = ["convert", NETS + "classes", "-o", str(out), "--options", str(tmp_path / "o.yaml")]
    assert (
        main([*command, "--input", "x=image:RGB,8x8,scale=1/255,std=0.2:0.3:0.4", "--target", "iOS18"]) == 0
    )
    said = capsys.readouterr().out
    assert "proven (emulated) on 8 random samples" in said
    assert "iOS18" in said
    assert ModelAsset.open(out).description.labels == ("a", "b", "c", "d", "e")
    assert main([*command, "--shape", "x=1,3,8..9,8..9", "--no-verify", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["digest"] == model_digest(out)
    assert "proof" not in found


def test_the_command_ends_with_3_where_a_gate_says_no(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "m.mlpackage"
    assert main(["convert", NETS + "huge", "-o", str(out)]) == 3
    assert "does not keep the gates" in capsys.readouterr().err
    assert not out.exists()
    assert main(["convert", NETS + "huge", "-o", str(out), "--keep-float32", "type:*"]) == 0


def test_each_function_is_proven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = convert(NETS + "wide", tmp_path / "old.mlpackage", ConvertOptions(target="iOS18")).path
    command = [
        "convert",
        "-o",
        str(tmp_path / "m.mlpackage"),
        "--target",
        "iOS18",
        "--default-function",
        "new",
    ]
    assert main([*command, "--function", f"new={NETS}wide_batch", "--function", f"old={old}", "--json"]) == 0
    proof = json.loads(capsys.readouterr().out)["proof"]
    assert list(proof["outputs"]) == ["new.output_0"]
    assert any(note.startswith("old was taken from") for note in proof["notes"])


def test_trees_are_a_file_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("xgboost", minversion="3.1")  # older ones read another base score, silently
    out = tmp_path / "two.mlmodel"
    source = "tests/convert/trees/xgboost-two.json"
    assert main(["convert", source, "-o", str(out), "--labels", "no,yes", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["kind"], found["labels"], found["digest"]) == ("mlmodel", ["no", "yes"], model_digest(out))
    assert found["proof"]["ok"]
    assert main(["convert", source, "-o", str(tmp_path / "two.mlpackage")]) == 2
    assert "a name that ends in .mlmodel expected" in capsys.readouterr().err


def test_core_ai_is_proven_in_its_own_runtime(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("coreai_torch")
    out = tmp_path / "m.aimodel"
    command = ["convert", NETS + "classes", "-o", str(out), "--kind", "aimodel"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "aimodel"
    assert found["proof"]["outputs"]["output_0"]["snr_db"] > 90
    assert any("what a device compiles it to" in note for note in found["proof"]["notes"])
    assert main([*command, "--input", "x=image:RGB"]) == 2
    assert "inputs: --kind aimodel takes the source as it is" in capsys.readouterr().err
