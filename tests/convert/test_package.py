"""A package appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from coremlops.convert.package import placed
from coremlops.errors import UsageError


def _fill(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "Manifest.json").write_text(text)


def test_a_failure_leaves_the_older_package(tmp_path: Path) -> None:
    out = tmp_path / "m.mlpackage"
    _fill(out, "old")

    def fail() -> None:
        with placed(out) as partial:
            _fill(partial, "half")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        fail()
    assert (out / "Manifest.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["m.mlpackage"]


def test_success_replaces_the_older_package(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "m.mlpackage"
    for text in ("first", "second"):
        with placed(out) as partial:
            _fill(partial, text)
            assert not out.exists() or (out / "Manifest.json").read_text() == "first"
        assert (out / "Manifest.json").read_text() == text
    assert [path.name for path in out.parent.iterdir()] == ["m.mlpackage"]


def test_what_is_no_package_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "photos.mlpackage"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(UsageError, match=r"is no \.mlpackage; it is left alone"), placed(folder):
        pass
    assert (folder / "photo.jpg").read_bytes() == b"precious"
    (tmp_path / "link.mlpackage").symlink_to(folder)
    with pytest.raises(UsageError, match="left alone"), placed(tmp_path / "link.mlpackage"):
        pass
    with pytest.raises(UsageError, match=r"ends in \.mlpackage"), placed(tmp_path / "model"):
        pass
