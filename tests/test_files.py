"""A folder takes another's place: in one step where the system can, else with the old one put back."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from coremlops import files
from coremlops.files import files_below, read_regular, replace_folder


def folder(path: Path, text: str) -> Path:
    path.mkdir()
    (path / "content").write_text(text)
    return path


@pytest.mark.parametrize("exchange", [True, False])
def test_the_new_folder_is_there_and_the_old_one_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    target = tmp_path / "target"
    for text in ("first", "second"):
        replace_folder(folder(tmp_path / "new", text), target)
        assert (target / "content").read_text() == text
        assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.skipif(sys.platform != "linux", reason="macOS exchanges names by another call")
def test_linux_exchanges_names_in_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No rename of ours happens: a kill finds the old folder in its place, or the new one."""
    old, new = folder(tmp_path / "target", "old"), folder(tmp_path / "new", "new")

    def never(*args: object) -> None:
        raise AssertionError("two renames leave a moment with no folder")

    monkeypatch.setattr(os, "replace", never)
    replace_folder(new, old)
    assert (old / "content").read_text() == "new"


def test_what_cannot_be_put_in_place_leaves_the_old_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = folder(tmp_path / "target", "old"), folder(tmp_path / "new", "new")
    real = os.replace

    def fail(source: Path, target: Path) -> None:
        if source == new:
            raise OSError("no")
        real(source, target)

    monkeypatch.setattr(files, "_exchange", lambda one, other: False)
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no"):
        replace_folder(new, old)
    assert (old / "content").read_text() == "old"


def test_a_missing_new_folder_is_an_error_with_a_reason(tmp_path: Path) -> None:
    old = folder(tmp_path / "target", "old")
    with pytest.raises(FileNotFoundError):
        replace_folder(tmp_path / "none", old)
    assert (old / "content").read_text() == "old"


def test_a_file_is_read_as_far_as_was_asked_and_a_pipe_or_a_folder_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    assert [read_regular(tmp_path / "file", most) for most in (3, 9)] == [b"123", b"12345"]
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    before = len(list(Path("/dev/fd").iterdir()))
    for name in ("pipe", "folder"):
        with pytest.raises(OSError, match="no regular file"):
            read_regular(tmp_path / name, 9)
    assert len(list(Path("/dev/fd").iterdir())) == before
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", 9)


def test_files_are_found_through_no_link_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "here" / "below").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for name in ("here/one", "here/below/two", "elsewhere/three"):
        (tmp_path / name).write_text("")
    (tmp_path / "here" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "here" / "file").symlink_to(tmp_path / "elsewhere" / "three")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in files_below(tmp_path / "here"))
    assert found == ["here/below/two", "here/file", "here/one"]
    assert list(files_below(tmp_path / "here" / "link")) == []
    assert list(files_below(tmp_path / "nowhere")) == []
