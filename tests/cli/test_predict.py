"""`coremlops predict`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from coremlops.cli import main
from tests.handmade import add_operation, adder, program_spec, write_package


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Broad, with red in the middle and blue at both ends."""
    image = Image.new("RGB", (300, 60), (0, 0, 255))
    image.paste((255, 0, 0), (120, 0, 180, 60))
    path = tmp_path / "photo.png"
    image.save(path)
    return path


def test_a_picture_is_prepared_as_the_metadata_says(
    tiny_classifier: Path, photo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(tiny_classifier), "--input", f"image={photo}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["classLabel: ada", "classLabel_probs:"]
    assert lines[2].split()[0] == "ada"
    assert (
        main(["predict", str(tiny_classifier), "--input", f"image={photo}", "--image-option", "scaleFill"])
        == 0
    )
    assert capsys.readouterr().out.startswith("classLabel: bob")


@pytest.mark.parametrize("precision", ["typed", "float32", "float16"])
def test_json_is_one_object(
    tiny_classifier: Path, photo: Path, precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "predict",
        str(tiny_classifier),
        "--input",
        f"image={photo}",
        "--precision",
        precision,
        "--json",
    ]
    assert main(arguments) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["precision"] == precision
    assert found["outputs"]["classLabel"] == "ada"
    assert set(found["outputs"]["classLabel_probs"]) == {"ada", "bob"}


@pytest.mark.parametrize("kind", ["npy", "json"])
def test_numbers_from_a_file(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = adder(tmp_path / "a.mlpackage")
    path = tmp_path / f"x.{kind}"
    if kind == "npy":
        np.save(path, np.ones((2, 3), np.float32))
    else:
        path.write_text("[[1, 1, 1], [1, 1, 1]]")
    assert main(["predict", str(model), "--input", f"x={path}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == {"y": [[1, 2, 3], [4, 5, 6]]}
    assert main(["predict", str(model), "--input", f"x={path}"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "y: [2, 3]"


def test_a_corrupt_picture(tiny_classifier: Path, photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo.write_bytes(photo.read_bytes()[:100])
    assert main(["predict", str(tiny_classifier), "--input", f"image={photo}"]) == 1
    assert "photo.png cannot be read as a picture" in capsys.readouterr().err


def test_ops_that_are_not_supported_are_all_listed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, block = program_spec()
    add_operation(block, "mystery", "a", (2, 3), {"x": "x"})
    add_operation(block, "riddle", "y", (2, 3), {"x": "a"})
    assert main(["predict", str(write_package(tmp_path / "a.mlpackage", spec))]) == 1
    err = capsys.readouterr().err
    assert "mystery (a)" in err
    assert "riddle (y)" in err


@pytest.mark.parametrize(
    ("given", "code", "message"),
    [
        (["image"], 2, "expected NAME=FILE"),
        (["=photo.jpg"], 2, "expected NAME=FILE"),
        (["image=a.png", "image=b.png"], 2, "names 'image' twice"),
        (["image=nothing.png"], 1, "no picture at nothing.png"),
        (["image=nothing.npy"], 1, "nothing.npy cannot be read"),
        ([], 1, "input 'image' is missing"),
    ],
)
def test_inputs_that_cannot_be_right(
    tiny_classifier: Path, given: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [part for entry in given for part in ("--input", entry)]
    assert main(["predict", str(tiny_classifier), *arguments]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x93NUMPY\x01\x00\x12\x00{'descr': 0x(((    ",
        b"\x93NUMPY\x01\x00\x48\x00"
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000,), }\n",
    ],
)
def test_a_broken_npy_file(tmp_path: Path, data: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    model = adder(tmp_path / "a.mlpackage")
    path = tmp_path / "x.npy"
    path.write_bytes(data)
    assert main(["predict", str(model), "--input", f"x={path}"]) == 1
    assert "x.npy cannot be read" in capsys.readouterr().err


def test_what_is_no_number_is_null_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = adder(tmp_path / "a.mlpackage")
    np.save(tmp_path / "x.npy", np.array([[np.nan, np.inf, 1], [1, 1, 1]], np.float32))
    assert main(["predict", str(model), "--input", f"x={tmp_path / 'x.npy'}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outputs"] == {"y": [[None, None, 3], [4, 5, 6]]}
