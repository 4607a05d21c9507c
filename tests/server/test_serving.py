"""What a cache, a device and a thief see: the same of our server as of nginx with our file for it."""

from __future__ import annotations

import gzip
import os
import shutil
from pathlib import Path

import pytest

from coremlops.cli import main
from coremlops.client import Device
from coremlops.release import Repository
from tests.server.conftest import Served, serve_ours

IMMUTABLE = "public, max-age=31536000, immutable"
LASTING = (
    "metadata/1.root.json",
    "metadata/2.snapshot.json",
    "targets/faces/staging/*.index.json",
    "targets/faces/members/*",
)


@pytest.mark.parametrize("pattern", LASTING)
def test_what_never_changes_is_kept_for_ever(served: Served, pattern: str) -> None:
    path = served.file(pattern)
    answer = served.get(path)
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == IMMUTABLE
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.data == (served.folder / path[1:]).read_bytes()
    again = served.get(path, if_none_match=answer.headers["ETag"])
    assert (again.status, again.data) == (304, b"")


def test_the_timestamp_is_asked_for_each_time(served: Served) -> None:
    answer = served.get("/metadata/timestamp.json")
    assert answer.status == 200
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Content-Type"] == "application/json"
    assert "Last-Modified" not in answer.headers  # two of one second would look the same
    if served.by == "coremlops":
        assert served.get("/metadata/timestamp.json", if_none_match=answer.headers["ETag"]).status == 304


def test_a_timestamp_of_the_same_second_and_size_is_seen_at_once(served: Served) -> None:
    path = served.folder / "metadata/timestamp.json"
    times, before = path.stat(), path.read_bytes()
    headers = served.get("/metadata/timestamp.json").headers
    known = {"if_none_match": headers["ETag"]} if "ETag" in headers else {}
    other = path.with_name(".other")
    other.write_bytes(before.replace(b"timestamp", b"tympstame"))
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)
    try:
        answer = served.get("/metadata/timestamp.json", **known)
        assert answer.status == 200
        assert b"tympstame" in answer.data
    finally:
        path.write_bytes(before)


def test_the_next_root_is_missing_for_a_minute(served: Served) -> None:
    answer = served.get("/metadata/2.root.json")
    assert (answer.status, answer.headers["Cache-Control"]) == (404, "public, max-age=60")
    assert served.get("/metadata/1.root.json").headers["Cache-Control"] == IMMUTABLE
    answer = served.get("/metadata/999.snapshot.json")
    assert (answer.status, answer.headers["Cache-Control"]) == (404, "no-cache")


def test_ranges(served: Served) -> None:
    path = served.file("targets/faces/members/*")
    whole = (served.folder / path[1:]).read_bytes()
    part = served.get(path, range="bytes=10-")
    assert (part.status, part.data) == (206, whole[10:])
    assert part.headers["Content-Range"] == f"bytes 10-{len(whole) - 1}/{len(whole)}"
    tag = part.headers["ETag"]
    assert served.get(path, range="bytes=10-", if_range=tag).status == 206
    other = served.get(path, range="bytes=10-", if_range='"other"')
    assert (other.status, other.data) == (200, whole)
    assert served.get(path, range=f"bytes={len(whole)}-").status == 416


def test_a_file_that_lies_packed_beside_is_sent_packed_to_who_takes_that(served: Served) -> None:
    plain = (served.folder / "metadata/1.root.json").read_bytes()
    packed = served.get("/metadata/1.root.json", accept_encoding="gzip, deflate")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain
    assert len(packed.data) < len(plain)
    for answer in (packed, served.get("/metadata/1.root.json")):
        assert answer.headers["Vary"] == "Accept-Encoding"
    assert served.get("/metadata/1.root.json", accept_encoding="identity").data == plain
    part = served.get("/metadata/1.root.json", accept_encoding="identity", range="bytes=0-9")
    assert (part.status, part.data) == (206, plain[:10])
    assert "Content-Encoding" not in part.headers
    for refused in ("br", "gzip;q=0"):
        assert "Content-Encoding" not in served.get("/metadata/1.root.json", accept_encoding=refused).headers


def test_a_range_is_of_the_file_itself_also_for_who_takes_gzip(served: Served) -> None:
    plain = (served.folder / "metadata/1.root.json").read_bytes()
    part = served.get("/metadata/1.root.json", accept_encoding="gzip", range="bytes=0-9")
    assert (part.status, part.data) == (206, plain[:10])
    assert "Content-Encoding" not in part.headers


def test_the_packed_file_has_no_name_of_its_own(served: Served) -> None:
    index = served.file("targets/faces/staging/*.index.json")
    packed = Path(f"{served.folder}{index}.gz")
    made = not packed.exists()
    if made:
        packed.write_bytes(gzip.compress(b"{}", mtime=0))
    try:
        assert served.get(f"{index}.gz").status == 404
    finally:
        if made:
            packed.unlink()


def test_no_symbolic_link_is_followed(served: Served) -> None:
    link = served.folder / "targets" / "elsewhere"
    link.symlink_to(served.folder / "targets" / "faces")
    path = served.file("targets/faces/members/*")
    try:
        assert served.get(path.replace("faces", "elsewhere", 1)).status == 404
    finally:
        link.unlink()


@pytest.mark.parametrize(
    "path",
    [
        "/", "/metadata/", "/metadata", "/targets/faces/members/", "/coremlops.json", "/audit.jsonl",
        "/pending/1.json", "/.lock", "/metadata/.hidden", "/metadata/1.root.json.gz", "/metadata/root.json",
        "/metadata/9.faces-staging.json", "/metadata/../coremlops.json", "/metadata/%2e%2e/coremlops.json",
        "/metadata/..%2fcoremlops.json", "//etc/passwd", "/targets/../../config/keys",
        "/metadata/1.root.json%00",
        "/targets/faces/members/" + "0" * 64 + "." + "0" * 64,
    ],
)  # fmt: skip
def test_nothing_else_is_served(served: Served, path: str) -> None:
    answer = served.get(path)
    assert answer.status in (400, 404)
    assert b"keys" not in answer.data


def test_methods(served: Served) -> None:
    head = served.get("/metadata/1.root.json", "HEAD")
    assert (head.status, head.data) == (200, b"")
    assert int(head.headers["Content-Length"]) == (served.folder / "metadata/1.root.json").stat().st_size
    assert served.get("/metadata/1.root.json", "POST").status == 405
    assert served.get("/metadata/1.root.json", "DELETE").status == 405


def test_a_device_updates_from_it(served: Served, tmp_path: Path) -> None:
    root = served.folder / "metadata/1.root.json"
    device = Device.install(tmp_path / "phone", served.url, "faces", "staging", root)
    assert device.update().outcome == "updated"
    assert device.update().outcome == "current"


def test_a_publish_is_seen_at_once(repository: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    shutil.copytree(repository.folder, folder, symlinks=True)
    copy = Repository(folder, "faces", keys=repository.keys)
    with serve_ours(folder, tmp_path) as url:
        device = Device.install(tmp_path / "phone", url, "faces", "staging", copy.root_file)
        assert device.update().version == 1
        copy.offer_embedded("staging")
        assert device.update().outcome == "embedded"


def test_what_cannot_be_served_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repo", "serve", str(tmp_path)]) == 1
    assert "no repository" in capsys.readouterr().err
    (tmp_path / "metadata").mkdir()
    assert main(["repo", "serve", str(tmp_path), "--port", "70000"]) == 2
    assert "--port" in capsys.readouterr().err
    assert main(["repo", "serve", str(tmp_path), "--port", "0", "--intake", str(tmp_path)]) == 1
    assert f"error: {tmp_path} cannot be used" in capsys.readouterr().err
