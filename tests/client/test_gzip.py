"""Metadata travels as gzip where the server has it, and no gzip makes a device hold more than it allows."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from coremlops.client.web import PIECE_BYTES, Web
from tests.client.conftest import QUICK, World

BOMB = gzip.compress(bytes(300_000_000), 9)  # 290 KB on the wire


def test_metadata_comes_as_gzip_and_members_as_they_are(world: World) -> None:
    world.publish_two()
    world.server.gzip = True
    assert world.again().update().version == 2
    packed = {each.path for each in world.server.log if each.packed}
    # Everything of this small repository is below 1 KB but the members' role.
    assert [path.rpartition("/")[2] for path in packed] == ["3.faces-members.json"]
    assert not any(each.packed for each in world.server.log if "/members/" in each.path)


def test_the_gzip_beside_a_file_is_the_same_for_the_same_content(world: World) -> None:
    world.publish_two()
    found = list(world.repository.folder.rglob("*.gz"))
    assert len(found) >= 3
    for path in found:
        plain = path.with_suffix("").read_bytes()
        assert len(plain) > 1024
        assert gzip.compress(plain, 9, mtime=0) == path.read_bytes()
    assert not (world.repository.folder / "metadata" / "timestamp.json.gz").exists()


def test_a_gzip_bomb_is_never_inflated(world: World) -> None:
    world.publish_two()
    world.server.gzip = True
    world.server.change = lambda path, data: BOMB if path.endswith("faces-members.json") else data
    result = world.again().update()
    assert (result.outcome, result.version) == ("refused", 1)
    assert result.reason.startswith("endless data")
    world.assert_old_model_works()
    world.server.change = None
    assert world.again().update().version == 2


def test_a_bomb_comes_in_small_pieces(world: World) -> None:
    world.server.gzip = True
    world.server.change = lambda path, data: BOMB
    pieces = Web(QUICK).fetch(f"{world.server.url}/metadata/1.root.json")
    assert all(0 < len(next(pieces)) <= PIECE_BYTES for _ in range(20))


def _nothing(data: bytes) -> bytes:
    """A gzip of 20 MB on the wire that holds no byte: empty blocks."""
    return gzip.compress(b"", 9)[:10] + b"\x00\x00\x00\xff\xff" * 4_000_000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[: len(data) // 2], "the gzip body ends early"),
        (lambda data: data[:20] + b"\xff" * 20 + data[40:], "damaged gzip"),
        (lambda data: data + b"more", "more follows the end"),
        (lambda data: data + data, "more follows the end"),
        (_nothing, "bytes of gzip became only 0"),
        (lambda data: zlib.compress(b"{}"), "damaged gzip"),
    ],
)
def test_gzip_that_is_wrong_leaves_the_old_model(
    world: World, change: Callable[[bytes], bytes], reason: str
) -> None:
    world.publish_two()
    world.server.gzip = True
    world.server.change = lambda path, data: change(data) if path.endswith("faces-members.json") else data
    result = world.again().update()
    assert (result.outcome, result.version) == ("offline", 1)
    assert reason in result.reason
    world.server.change = None
    assert world.again().update().version == 2


def test_a_file_url_needs_no_gzip(world: World, tmp_path: Path) -> None:
    (tmp_path / "some.json").write_bytes(b"{}")
    assert b"".join(Web().fetch((tmp_path / "some.json").as_uri())) == b"{}"
