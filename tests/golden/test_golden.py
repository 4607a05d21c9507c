"""Golden sets of a small model: made, checked, and refused when anything does not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from coremlops import golden
from coremlops.digest import sha256_file
from coremlops.errors import DataError, GoldenError
from coremlops.golden.making import TOLERANCE_FLOOR
from coremlops.model import model_digest
from tests.verify.fixtures import SIDE, Trained
from tests.verify.mutations import drop_scale, swap_labels

pytestmark = pytest.mark.slow


@pytest.fixture
def made(tiny: Trained, tmp_path: Path) -> Path:
    golden.make(tiny.float16, tiny.data, tmp_path / "golden")
    return tmp_path / "golden"


def _changed(folder: Path, change: Any) -> None:
    value = json.loads((folder / "golden.json").read_text())
    change(value)
    (folder / "golden.json").write_text(json.dumps(value))


def test_a_set_passes_on_its_own_model(tiny: Trained, made: Path) -> None:
    result = golden.check(tiny.float16, made)
    assert (result.model, result.examples, result.max_abs) == (model_digest(tiny.float16), 6, 0.0)
    assert result.tolerance >= TOLERANCE_FLOOR
    assert sorted(path.name for path in made.iterdir()) == [
        *(f"{i:04}.png" for i in range(1, 7)),
        "golden.json",
    ]


def test_a_flat_folder_serves_and_an_older_set_is_replaced(tiny: Trained, made: Path, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    shutil.copy(tiny.data / "red" / "0.png", tmp_path / "flat")
    found = golden.make(tiny.float16, tmp_path / "flat", made)
    assert [item.label for item in found.examples] == ["red"]
    assert sorted(path.name for path in made.iterdir()) == ["0001.png", "golden.json"]


def test_making_it_again_gives_the_same_bytes(tiny: Trained, made: Path, tmp_path: Path) -> None:
    golden.make(tiny.float16, tiny.data, tmp_path / "again")
    for path in made.iterdir():
        assert sha256_file(path) == sha256_file(tmp_path / "again" / path.name)


def test_only_prepared_pixels_leave_the_house(tiny: Trained, tmp_path: Path) -> None:
    """A photo's place, camera, comment and file name stay at home."""
    inputs = tmp_path / "inputs" / "Grandma at home"
    inputs.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x010E] = "secret description"
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    photo = Image.open(tiny.data / "red" / "0.png").resize((640, 480))
    photo.save(inputs / "IMG_4711.jpg", exif=exif, comment=b"secret comment", icc_profile=b"secret profile")
    golden.make(tiny.float16, tmp_path / "inputs", tmp_path / "golden")
    picture = Image.open(tmp_path / "golden" / "0001.png")
    assert picture.size == (SIDE, SIDE)
    assert dict(picture.getexif()) == {}
    assert picture.info == {}
    for path in (tmp_path / "golden").iterdir():
        data = path.read_bytes()
        assert not any(word in data for word in (b"secret", b"4711", b"Grandma"))


def test_an_empty_folder_is_a_clear_error(tiny: Trained, tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    with pytest.raises(DataError) as caught:
        golden.make(tiny.float16, tmp_path / "inputs", tmp_path / "golden")
    assert caught.value.message.endswith("at least one picture expected, got none")
    assert "everyone who gets the model" in caught.value.hint
    assert not (tmp_path / "golden").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["inputs"]


def test_too_many_corrupt_and_linked_pictures_are_refused(tiny: Trained, tmp_path: Path) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for number in range(33):
        Image.new("RGB", (4, 4)).save(inputs / f"{number}.png")
    with pytest.raises(DataError, match="at most 32 pictures expected, got 33"):
        golden.make(tiny.float16, inputs, tmp_path / "golden")
    shutil.rmtree(inputs)
    inputs.mkdir()
    (inputs / "broken.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"broken\.png"):
        golden.make(tiny.float16, inputs, tmp_path / "golden")
    (inputs / "broken.png").unlink()
    (inputs / "1.png").symlink_to(tiny.data / "red" / "0.png")
    with pytest.raises(DataError, match="would be published"):
        golden.make(tiny.float16, inputs, tmp_path / "golden")


def test_a_folder_that_is_no_golden_set_is_left_alone(tiny: Trained, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="left alone"):
        golden.make(tiny.float16, tiny.data, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_a_set_of_another_model_is_refused(tiny: Trained, made: Path) -> None:
    with pytest.raises(GoldenError, match="expected, got one of"):
        golden.check(tiny.float32, made)


@pytest.mark.parametrize("fault", [swap_labels, drop_scale])
def test_a_faulty_model_is_refused_even_when_the_set_names_its_digest(
    tiny: Trained, made: Path, tmp_path: Path, fault: Any
) -> None:
    hurt = fault(tiny.float16, tmp_path / "hurt.mlpackage")
    _changed(made, lambda value: value.update(model=model_digest(hurt)))
    with pytest.raises(GoldenError, match=r"000\d\.png: .*expected") as caught:
        golden.check(hurt, made)
    assert "got" in caught.value.message


def test_an_altered_promise_is_refused(tiny: Trained, made: Path) -> None:
    def lie(value: Any) -> None:
        value["examples"][2]["probabilities"] = {"red": 0.5, "blue": 0.5}

    _changed(made, lie)
    with pytest.raises(GoldenError, match=r"0003\.png: probability of 'red' within 0\.02 of 0\.5 expected"):
        golden.check(tiny.float16, made)


def test_an_altered_picture_is_refused(tiny: Trained, made: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(made / "0002.png")
    with pytest.raises(GoldenError, match=r"0002\.png: SHA-256 .* expected, got"):
        golden.check(tiny.float16, made)


def test_a_missing_or_linked_picture_is_refused(tiny: Trained, made: Path, tmp_path: Path) -> None:
    (made / "0001.png").rename(tmp_path / "moved.png")
    with pytest.raises(GoldenError, match=r"0001\.png: a file expected, got none"):
        golden.check(tiny.float16, made)
    (made / "0001.png").symlink_to(tmp_path / "moved.png")
    with pytest.raises(GoldenError, match=r"0001\.png: a file expected, got none"):
        golden.check(tiny.float16, made)


def test_a_picture_of_another_size_or_kind_is_refused(tiny: Trained, made: Path) -> None:
    for picture, kind, message in (
        (
            Image.new("RGB", (SIDE * 2, SIDE)),
            "PNG",
            f"{SIDE} x {SIDE} RGB expected, got {SIDE * 2} x {SIDE} RGB",
        ),
        (Image.new("RGBA", (SIDE, SIDE)), "PNG", "got 32 x 32 RGBA"),
        (Image.new("RGB", (SIDE, SIDE)), "BMP", "cannot be read"),
    ):
        picture.save(made / "0001.png", kind)
        digest = sha256_file(made / "0001.png")
        _changed(made, lambda value, digest=digest: value["examples"][0].update(sha256=digest))
        with pytest.raises(GoldenError) as caught:
            golden.check(tiny.float16, made)
        assert message in caught.value.message


def test_an_unknown_label_is_refused(tiny: Trained, made: Path) -> None:
    def invent(value: Any) -> None:
        value["examples"][0]["probabilities"]["eve"] = 0.0

    _changed(made, invent)
    with pytest.raises(GoldenError, match="the model has no such label"):
        golden.check(tiny.float16, made)


def test_a_model_that_is_not_there(made: Path, tmp_path: Path) -> None:
    from coremlops.errors import ModelError

    with pytest.raises(ModelError):
        golden.check(tmp_path / "none.mlpackage", made)
