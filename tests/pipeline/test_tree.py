"""Digests of folders, and the stamps that spare reading them again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coremlops.errors import InputError
from coremlops.pipeline import tree as module
from coremlops.pipeline.tree import TreeCache, scan, skip_clutter, skip_not_code, subtree


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    (root / "ada").mkdir(parents=True)
    (root / "ada" / "1.txt").write_text("one")
    (root / "ada" / "2.txt").write_text("two")
    (root / "empty").mkdir()
    return root


def digest(root: Path) -> str:
    return scan(root, {})[0].digest


def age(root: Path) -> None:
    """Make files look written long ago; ctime cannot be set, so tests shift the limit instead."""
    for path in root.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))


def test_a_copy_elsewhere_has_the_same_digest(folder: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "copy")
    age(folder)
    assert digest(tmp_path / "copy") == digest(folder)


def test_content_names_executable_bit_and_empty_folders_count(folder: Path) -> None:
    seen = {digest(folder)}
    (folder / "ada" / "1.txt").write_text("eno")
    seen.add(digest(folder))
    (folder / "ada" / "1.txt").rename(folder / "ada" / "3.txt")
    seen.add(digest(folder))
    (folder / "ada" / "3.txt").chmod(0o755)
    seen.add(digest(folder))
    (folder / "empty").rmdir()
    seen.add(digest(folder))
    assert len(seen) == 5


def test_nul_and_path_borders_cannot_be_confused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "a" / "xy").write_text("")
    (tmp_path / "b" / "x").mkdir()
    (tmp_path / "b" / "x" / "y").write_text("")
    assert digest(tmp_path / "a") != digest(tmp_path / "b")


@given(
    files=st.dictionaries(
        st.text("abc", min_size=1, max_size=3), st.binary(max_size=4), min_size=1, max_size=4
    )
)
@settings(max_examples=40, deadline=None)
def test_equal_digests_if_and_only_if_equal_files(
    files: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    seen: dict[str, frozenset[tuple[str, bytes]]] = {}
    for variant in (files, {**files, "d": b""}, {name: data + b"!" for name, data in files.items()}):
        root = tmp_path_factory.mktemp("tree")
        for name, data in variant.items():
            (root / name).write_bytes(data)
        assert seen.setdefault(digest(root), frozenset(variant.items())) == frozenset(variant.items())
    assert len(seen) == 3


def test_an_unchanged_tree_is_not_read_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED_NS", -(10**12))  # everything counts as settled
    first = TreeCache(tmp_path / "cache").tree(folder)

    def refuse(path: str) -> module.Stamp:
        raise AssertionError(f"{path} was read")

    with monkeypatch.context() as patch:
        patch.setattr(module, "hash_file", refuse)
        assert TreeCache(tmp_path / "cache").tree(folder) == first
    (folder / "ada" / "2.txt").write_text("TWO")
    assert TreeCache(tmp_path / "cache").tree(folder).digest != first.digest


def test_a_change_within_one_clock_tick_is_seen(folder: Path, tmp_path: Path) -> None:
    """Same size and mtime, written right after it was hashed: times do not show it and are not asked."""
    cache = TreeCache(tmp_path / "cache")
    path = folder / "ada" / "1.txt"
    before = cache.tree(folder).digest
    times = path.stat()
    with path.open("r+") as file:
        file.write("ONE")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert cache.tree(folder).digest != before


def test_a_change_with_the_old_mtime_is_seen(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SETTLED_NS", -(10**12))
    cache = TreeCache(tmp_path / "cache")
    path = folder / "ada" / "1.txt"
    os.utime(path, (1_000_000_000, 1_000_000_000))
    before = cache.tree(folder).digest
    while path.stat().st_ctime_ns == _touch_ctime(tmp_path):
        pass
    path.write_text("eno")
    os.utime(path, (1_000_000_000, 1_000_000_000))
    assert cache.tree(folder).digest != before


def _touch_ctime(folder: Path) -> int:
    probe = folder / "probe"
    probe.write_text("")
    return probe.stat().st_ctime_ns


def test_a_link_counts_as_what_it_points_at(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "3.txt").write_text("three")
    (folder / "eve").symlink_to(outside)
    before = digest(folder)
    (outside / "3.txt").write_text("THREE")
    assert digest(folder) != before


def test_broken_links_circles_and_devices_are_refused(folder: Path) -> None:
    link = folder / "ada" / "9.txt"
    link.symlink_to("nowhere")
    with pytest.raises(InputError, match=r"9\.txt is a link to nowhere, which does not exist"):
        digest(folder)
    link.unlink()
    link.symlink_to(folder)
    with pytest.raises(InputError, match=r"deeper than 64|Too many levels") as caught:
        digest(folder)
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(InputError, match="neither a file nor a folder"):
        digest(folder)
    assert caught.value.exit_code == 1


def test_clutter_and_caches_are_skipped(folder: Path, tmp_path: Path) -> None:
    cache = TreeCache(tmp_path / "cache")
    data, code = cache.tree(folder, skip_clutter).digest, cache.tree(folder, skip_not_code).digest
    (folder / ".DS_Store").write_text("x")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_text("x")
    assert cache.tree(folder, skip_not_code).digest == code
    assert cache.tree(folder, skip_clutter).digest != data
    (folder / "__pycache__" / "a.pyc").unlink()
    (folder / "__pycache__").rmdir()
    assert cache.tree(folder, skip_clutter).digest == data


def test_a_part_of_a_tree_is_the_tree_of_that_part(folder: Path) -> None:
    whole = scan(folder, {})[0]
    assert subtree(whole, "ada") is not None
    assert subtree(whole, "ada").digest == digest(folder / "ada")  # type: ignore[union-attr]
    assert subtree(whole, "ada/1.txt").digest == digest(folder / "ada" / "1.txt")  # type: ignore[union-attr]
    assert subtree(whole, "empty").digest == digest(folder / "empty")  # type: ignore[union-attr]
    assert subtree(whole, "bob") is None
    assert subtree(whole, "ad") is None


def test_a_damaged_cache_is_rebuilt(folder: Path, tmp_path: Path) -> None:
    cache = TreeCache(tmp_path / "cache")
    first = cache.tree(folder)
    (tmp_path / "cache").mkdir(exist_ok=True)
    kept = list((tmp_path / "cache").glob("*"))
    assert kept
    for damage in (
        "[",
        '{"format": 1}',
        '{"format": 1, "files": 3}',
        '{"format": 1, "files": {"a/1.jpg": 3}}',
    ):
        for path in kept:
            path.write_text(damage)
        assert cache.tree(folder) == first
