"""The server of the device vectors: one state of repository/, honest or with one fault, and what it sent."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent / "repository"
# fault -> what happens to the file that it names
FAULTS = {
    "missing": "is answered with 404",
    "truncated": "ends in the middle, and the connection is closed",
    "flipped": "has one bit wrong",
    "endless": "never ends",
    "longer": "has one byte more",
    "without-ranges": "is sent from the beginning, whatever is asked for",
}


class Serving:
    """`state` and `fault` may change while it runs. `sent`: bytes of bodies by path, since `change`."""

    def __init__(self) -> None:
        self.names: Mapping[str, str] = json.loads((REPOSITORY / "names.json").read_text())
        self.url = ""
        self.change("empty", None)

    def change(self, state: str, fault: Mapping[str, str] | None) -> None:
        """Serve another state; `fault`: {"file": a name of names.json or a path, "kind"}."""
        self.state, self.sent = state, dict[str, int]()
        self.fault = {"kind": fault["kind"], "path": self.path(fault["file"])} if fault else None

    def path(self, name: str) -> str:
        return self.names.get(name, name)

    def file(self, path: str) -> Path | None:
        """The state's own file, or the one that all have."""
        if ".." in path.split("/"):
            return None
        found = (REPOSITORY / "states" / self.state / path, REPOSITORY / path)
        return next((file for file in found if file.is_file()), None)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one GET."""
        path = handler.path.lstrip("/")
        file = self.file(path)
        kind = self.fault["kind"] if self.fault is not None and self.fault["path"] == path else ""
        if file is None or kind == "missing":
            return _head(handler, 404, 0)
        data = file.read_bytes()
        if kind == "flipped":
            data = data[:-1] + bytes([data[-1] ^ 1])
        if kind == "longer":
            data += b"x"
        start, total = 0, len(data)
        asked = handler.headers.get("Range")
        if asked is not None and kind != "without-ranges":
            start = int(asked.removeprefix("bytes=").split("-")[0])
        body = data[start:]
        if start >= total > 0:
            return _head(handler, 416, 0)
        between = {"Content-Range": f"bytes {start}-{total - 1}/{total}"} if start else {}
        length = None if kind == "endless" else len(body)
        _head(handler, 206 if start else 200, length, **between)
        if kind == "truncated":
            body = body[: len(body) // 2]
        alive = self._write(handler, path, body)
        while kind == "endless" and alive:
            alive = self._write(handler, path, b"x" * 65_536)
        handler.close_connection = handler.close_connection or kind in ("truncated", "endless")
        return None

    def _write(self, handler: BaseHTTPRequestHandler, path: str, data: bytes) -> bool:
        """Whether the client still listens."""
        try:
            handler.wfile.write(data)
        except OSError:
            handler.close_connection = True
            return False
        self.sent[path] = self.sent.get(path, 0) + len(data)
        return True


@contextmanager
def serving() -> Iterator[Serving]:
    """Serve on a free port of this machine until the block ends."""
    served = Serving()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes

        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()


def _head(handler: BaseHTTPRequestHandler, status: int, length: int | None, **more: str) -> None:
    handler.send_response(status)
    for name, value in more.items():
        handler.send_header(name, value)
    handler.send_header(
        "Connection" if length is None else "Content-Length", "close" if length is None else str(length)
    )
    handler.end_headers()
