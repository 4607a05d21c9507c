"""Servers that say what no server should: an update ends, says why, and keeps the model and what has come."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coremlops.client import Device, Limits
from tests.client.conftest import World

DRIP = Limits(connect_s=5, read_s=0.4, grace_s=0.1, retries=0)


class Raw:
    """A server that sends what it is told, byte by byte if need be, and the repository for all else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.suffix, self.answer, self.every_s = "nothing", b"", 0.0
        self.ended = threading.Event()
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                connection = self.socket.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection:
            path = connection.recv(65536).split(b" ")[1].decode()
            answer = self.answer if self.suffix in path else self._file(path)
            try:
                if self.suffix in path and self.every_s:
                    for byte in answer:
                        connection.sendall(bytes([byte]))
                        if self.ended.wait(self.every_s):
                            return
                else:
                    connection.sendall(answer)
            except OSError:
                pass

    def _file(self, path: str) -> bytes:
        file = self.folder / path.lstrip("/")
        status, body = ("200 OK", file.read_bytes()) if file.is_file() else ("404 Not Found", b"")
        return head(status, len(body)) + body


def head(status: str, length: int, *more: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length}", "Connection: close", *more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@pytest.fixture
def raw(world: World) -> Iterator[Raw]:
    """Version 2 is on offer, and the device looks at this server."""
    world.publish_two()
    server = Raw(world.repository.folder)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    replace(world.device.status(), url=server.url).save(world.device.folder / "state.json")
    yield server
    server.ended.set()
    server.socket.close()


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 9000, b"HTTP/1.1 100 Continue\r\n\r\n" * 400]
)
@pytest.mark.parametrize("suffix", ["timestamp.json", "/members/"])
def test_a_drip_of_headers_is_given_up(world: World, raw: Raw, suffix: str, answer: bytes) -> None:
    raw.suffix, raw.answer, raw.every_s = suffix, answer, 0.01
    result = Device(world.device.folder, limits=DRIP).update()
    assert result.outcome == "offline"
    assert "no head of an answer within 0.5 s" in result.reason
    world.assert_old_model_works()


@pytest.mark.parametrize("suffix", ["timestamp.json", "/members/"])
@pytest.mark.parametrize("target", ["http://[::1", "http://[::1]x/", "http:///", "http://a:99999/"])
def test_a_redirect_to_no_url_is_no_crash(world: World, raw: Raw, suffix: str, target: str) -> None:
    raw.suffix, raw.answer = suffix, head("302 Found", 0, f"Location: {target}")
    result = world.again().update()
    assert result.outcome == "offline", result
    world.assert_old_model_works()


@pytest.mark.parametrize("suffix", ["timestamp.json", "/members/"])
@pytest.mark.parametrize("status", ["304 Not Modified", "204 No Content", "300 Multiple", "302 Found"])
def test_what_is_no_answer_is_no_reason_to_refuse(world: World, raw: Raw, suffix: str, status: str) -> None:
    raw.suffix, raw.answer = suffix, head(status, 0)
    result = world.again().update()
    assert (result.outcome, f"answers {status[:3]}" in result.reason) == ("offline", True), result
    assert world.device.status().refused == ()


def test_a_coding_that_was_not_asked_for_spoils_no_part(world: World, raw: Raw) -> None:
    packed = gzip.compress(b"x" * 500)
    raw.suffix, raw.answer = "/members/", head("200 OK", len(packed), "Content-Encoding: gzip") + packed
    result = world.again().update()
    assert (result.outcome, "was not asked for" in result.reason) == ("offline", True), result
    assert list((world.device.folder / "downloads").iterdir()) == []
    raw.suffix = "nothing"
    assert world.again().update().version == 2
