"""Labelled folders: what is listed, what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from coremlops.errors import DataError
from coremlops.source import open_picture, read_labelled


def _picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3), (200, 10, 10)).save(path)
    return path


def test_pictures_are_listed_by_label_and_the_rest_is_passed_over(tmp_path: Path) -> None:
    _picture(tmp_path / "bob" / "2.png")
    _picture(tmp_path / "ada" / "1.JPG")
    (tmp_path / "ada" / "notes.txt").write_text("x")
    _picture(tmp_path / ".cache" / "1.png")
    _picture(tmp_path / "ada" / "._1.png")
    found = read_labelled(tmp_path)
    assert found.names == ("ada/1.JPG", "bob/2.png")
    assert found.labels == ("ada", "bob")


def test_the_digest_follows_names_and_content(tmp_path: Path) -> None:
    path = _picture(tmp_path / "a" / "1.png")
    before = read_labelled(tmp_path).digest
    assert read_labelled(tmp_path).digest == before
    path.rename(path.with_name("2.png"))
    renamed = read_labelled(tmp_path).digest
    Image.new("RGB", (4, 3)).save(tmp_path / "a" / "2.png")
    assert len({before, renamed, read_labelled(tmp_path).digest}) == 3


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read_labelled(tmp_path)
    assert caught.value.message.endswith("expected, got no subfolder")


def test_pictures_without_a_label(tmp_path: Path) -> None:
    _picture(tmp_path / "1.png")
    with pytest.raises(DataError) as caught:
        read_labelled(tmp_path)
    assert caught.value.message.endswith("expected, got pictures without a label")
    assert "<label>" in caught.value.hint


def test_labels_without_a_picture(tmp_path: Path) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "bob").mkdir()
    with pytest.raises(DataError, match="got 2 subfolders without a picture"):
        read_labelled(tmp_path)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="got no folder"):
        read_labelled(tmp_path / "none")


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    secret = _picture(tmp_path / "elsewhere" / "secret.png")
    _picture(tmp_path / "data" / "ada" / "1.png")
    (tmp_path / "data" / "ada" / "2.png").symlink_to(secret)
    with pytest.raises(DataError, match="leads out of"):
        read_labelled(tmp_path / "data")


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_corrupt_picture_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_picture(path)
    assert "broken.png" in caught.value.message


def test_a_truncated_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    Image.effect_noise((64, 64), 90).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    with pytest.raises(DataError, match=r"half\.png"):
        open_picture(path)


@pytest.mark.parametrize("name", [b"\xff.png", b"a\n.png"])
def test_a_name_that_does_not_print_is_refused(tmp_path: Path, name: bytes) -> None:
    (tmp_path / "ada").mkdir()
    (tmp_path / "ada" / os.fsdecode(name)).write_bytes(b"x")
    with pytest.raises(DataError, match="a name that prints expected"):
        read_labelled(tmp_path)


def test_the_name_of_a_mac_s_screenshot_is_fine(tmp_path: Path) -> None:
    path = _picture(tmp_path / "ada" / "Screenshot at 9.41\u202fAM.png")
    assert read_labelled(tmp_path).names == (f"ada/{path.name}",)
