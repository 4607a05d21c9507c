"""Golden sets of a small classifier: made, checked, and refused when anything does not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from coremlops import golden
from coremlops.digest import sha256_file
from coremlops.errors import DataError, GoldenError, ModelError
from coremlops.model import model_digest
from tests.release.models import SIDE, write_model, write_pictures


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "one.mlpackage")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "pictures")


@pytest.fixture
def made(model: Path, pictures: Path, tmp_path: Path) -> Path:
    golden.make(model, pictures, tmp_path / "golden")
    return tmp_path / "golden"


def change(folder: Path, how: Callable[[Any], Any]) -> None:
    value = json.loads((folder / "golden.json").read_text())
    how(value)
    (folder / "golden.json").write_text(json.dumps(value))


def test_a_set_passes_on_its_own_model(model: Path, made: Path) -> None:
    found = golden.check(model, made)
    assert (found.ok, found.reason, found.agreement) == (True, "", 1.0)
    assert (found.model, found.examples, found.calls) == (model_digest(model), 3, 3)
    assert [(each.name, each.error, each.ok) for each in found.outputs] == [
        ("classLabel", 0.0, True),
        ("classLabel_probs", pytest.approx(0, abs=1e-6), True),
    ]
    assert found.load_s > 0
    assert found.latency_s > 0
    assert found.load_cached_s is None
    assert json.loads(json.dumps(found.to_json(), allow_nan=False))["ok"] is True
    assert sorted(path.name for path in made.iterdir()) == ["0001.png", "0002.png", "0003.png", "golden.json"]


def test_a_load_from_the_engines_cache_is_said(
    model: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from coremlops.runtime import Model

    monkeypatch.setattr(Model, "cached", True)
    found = golden.check(model, made)
    assert found.load_cached_s == found.load_s


def test_making_it_again_gives_the_same_bytes(
    model: Path, pictures: Path, made: Path, tmp_path: Path
) -> None:
    again = golden.make(model, pictures, tmp_path / "again")
    assert again.bytes == sum(path.stat().st_size for path in made.iterdir())
    for path in made.iterdir():
        assert sha256_file(path) == sha256_file(tmp_path / "again" / path.name)


def test_a_labelled_folder_serves_and_an_older_set_is_replaced(
    model: Path, pictures: Path, made: Path, tmp_path: Path
) -> None:
    (tmp_path / "labelled" / "red").mkdir(parents=True)
    shutil.copy(pictures / "red.png", tmp_path / "labelled" / "red")
    found = golden.make(model, tmp_path / "labelled", made).golden
    assert [calls[0].outputs["classLabel"].values for calls in found.examples] == [("red",)]
    assert sorted(path.name for path in made.iterdir()) == ["0001.png", "golden.json"]


def test_only_prepared_pixels_leave_the_house(model: Path, tmp_path: Path) -> None:
    """A photo's place, camera, comment and file name stay at home."""
    inputs = tmp_path / "inputs" / "Grandma at home"
    inputs.mkdir(parents=True)
    exif = Image.Exif()
    exif[0x010E] = "secret description"
    exif[0x8825] = {1: "N", 2: (48.0, 8.0, 0.0)}
    photo = Image.new("RGB", (640, 480), (220, 10, 10))
    photo.save(inputs / "IMG_4711.jpg", exif=exif, comment=b"secret comment", icc_profile=b"secret profile")
    golden.make(model, tmp_path / "inputs", tmp_path / "golden")
    picture = Image.open(tmp_path / "golden" / "0001.png")
    assert picture.size == (SIDE, SIDE)
    assert dict(picture.getexif()) == {}
    assert picture.info == {}
    for path in (tmp_path / "golden").iterdir():
        assert not any(word in path.read_bytes() for word in (b"secret", b"4711", b"Grandma"))


def test_an_empty_folder_is_a_clear_error(model: Path, tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    with pytest.raises(DataError) as caught:
        golden.make(model, tmp_path / "inputs", tmp_path / "golden")
    assert caught.value.message.endswith("at least one picture or .npz expected, got none")
    assert "everyone who gets the model" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["inputs"]


def test_a_corrupt_picture_and_a_link_are_refused_and_leave_nothing(
    model: Path, pictures: Path, tmp_path: Path
) -> None:
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "broken.png").write_bytes(b"x")
    with pytest.raises(DataError, match=r"broken\.png"):
        golden.make(model, inputs, tmp_path / "golden")
    (inputs / "broken.png").unlink()
    (inputs / "1.png").symlink_to(pictures / "red.png")
    with pytest.raises(DataError, match="would be published"):
        golden.make(model, inputs, tmp_path / "golden")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["inputs", "pictures"]


def test_a_folder_that_is_no_golden_set_is_left_alone(model: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DataError, match="left alone"):
        golden.make(model, pictures, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").exists()


def test_of_many_inputs_a_few_are_kept_evenly_spread(model: Path, tmp_path: Path) -> None:
    (tmp_path / "inputs").mkdir()
    for number in range(20):
        Image.new("RGB", (4, 4), (12 * number, 0, 0)).save(tmp_path / "inputs" / f"{number:02}.png")
    made = golden.make(model, tmp_path / "inputs", tmp_path / "golden")
    assert (len(made.golden.examples), made.named, made.notes) == (8, 20, ())
    reds = [Image.open(path).getpixel((0, 0)) for path in sorted((tmp_path / "golden").glob("*.png"))]
    assert [colour[0] // 12 for colour in reds if isinstance(colour, tuple)] == [0, 2, 5, 7, 10, 12, 15, 17]


def test_what_does_not_fit_stays_out_and_is_said(model: Path, pictures: Path, tmp_path: Path) -> None:
    whole = golden.make(model, pictures, tmp_path / "golden")
    small = golden.make(model, pictures, tmp_path / "golden", max_bytes=whole.bytes - 1)
    assert len(small.golden.examples) == 2
    assert small.bytes < whole.bytes
    assert small.notes == (f"2 of 3 inputs fit into {whole.bytes - 1} bytes",)
    least = golden.make(model, pictures, tmp_path / "golden", max_bytes=1)
    assert len(least.golden.examples) == 1


def test_a_set_of_another_model_is_refused(made: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "two.mlpackage", gain=0.03)
    with pytest.raises(GoldenError, match="expected, got one of"):
        golden.check(other, made)


def test_a_model_that_is_not_there(made: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        golden.check(tmp_path / "none.mlpackage", made)


def test_swapped_labels_are_judged_not_ok(made: Path, tmp_path: Path) -> None:
    swapped = write_model(tmp_path / "swapped.mlpackage", labels=("green", "red", "blue"))
    change(made, lambda value: value.update(model=model_digest(swapped)))
    found = golden.check(swapped, made)
    assert not found.ok
    assert found.agreement == pytest.approx(1 / 3)
    assert found.reason == "example 2: classLabel: expected 'green', got 'red'"
    assert [each.ok for each in found.outputs] == [False, False]


def test_an_altered_picture_is_refused(model: Path, made: Path) -> None:
    Image.new("RGB", (SIDE, SIDE)).save(made / "0002.png")
    with pytest.raises(GoldenError, match=r"0002\.png: SHA-256 .* expected, got"):
        golden.check(model, made)


def test_a_missing_or_linked_picture_is_refused(model: Path, made: Path, tmp_path: Path) -> None:
    (made / "0001.png").rename(tmp_path / "moved.png")
    with pytest.raises(GoldenError, match=r"0001\.png: a file expected, got none"):
        golden.check(model, made)
    (made / "0001.png").symlink_to(tmp_path / "moved.png")
    with pytest.raises(GoldenError, match=r"0001\.png: a file expected, got none"):
        golden.check(model, made)


@pytest.mark.parametrize(
    ("picture", "kind", "message"),
    [
        (Image.new("RGB", (SIDE * 2, SIDE)), "PNG", f"expected a picture of {SIDE} x {SIDE} pixels"),
        (Image.new("RGBA", (SIDE, SIDE)), "PNG", f"got RGBA of {SIDE} x {SIDE}"),
        (Image.new("RGB", (SIDE, SIDE)), "BMP", "cannot be read"),
        (Image.new("RGB", (5000, 1)), "PNG", "at most 4096 x 4096 expected, got RGB of 5000 x 1"),
    ],
)
def test_a_picture_of_another_size_or_kind_is_refused(
    model: Path, made: Path, picture: Image.Image, kind: str, message: str
) -> None:
    picture.save(made / "0001.png", kind)
    digest = sha256_file(made / "0001.png")
    change(made, lambda value: value["examples"][0]["calls"][0]["inputs"]["image"].update(sha256=digest))
    with pytest.raises(GoldenError) as caught:
        golden.check(model, made)
    assert message in caught.value.message


def test_an_unknown_label_is_judged_not_ok(model: Path, made: Path) -> None:
    def invent(value: Any) -> None:
        shares = value["examples"][0]["calls"][0]["outputs"]["classLabel_probs"]
        shares["keys"].append("eve")
        shares["values"].append(0.0)

    change(made, invent)
    found = golden.check(model, made)
    assert found.reason == (
        "example 1: classLabel_probs: a number for 'eve' expected, the model has no such key"
    )


def test_an_input_that_the_model_has_not_is_refused(model: Path, made: Path) -> None:
    def rename(value: Any) -> None:
        call = value["examples"][0]["calls"][0]
        call["inputs"] = {"photo": call["inputs"]["image"]}

    change(made, rename)
    with pytest.raises(GoldenError, match="inputs image expected, got 'photo'"):
        golden.check(model, made)
