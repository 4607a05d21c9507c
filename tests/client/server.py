"""A small, threaded HTTP server of one folder: with ranges or without, honest or not, and with a log."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Change = Callable[[str, bytes], bytes]


@dataclass
class Request:
    """One answer: the path, the Range header, the status, the bytes of the body that were sent, and whether
    they were gzip."""

    path: str
    range: str | None
    status: int
    sent: int
    packed: bool = False


@dataclass
class Server:
    """What a test may turn while the server runs.

    `change`: gives other bytes for a path. `cut`: path suffix -> the connection is cut after so many bytes.
    `endless`: path suffixes that never end. `hidden`: path suffixes that are answered with 404.
    `redirect`: path suffix -> where its answer leads to. `status`: path suffix -> an error that is answered.
    `gzip`: whether it sends the `.gz` beside a file to whoever takes it.
    """

    folder: Path
    ranges: bool = True
    change: Change | None = None
    cut: dict[str, int] = field(default_factory=dict)
    endless: set[str] = field(default_factory=set)
    hidden: set[str] = field(default_factory=set)
    redirect: dict[str, str] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    gzip: bool = False
    log: list[Request] = field(default_factory=list)
    url: str = ""

    def sent(self, suffix: str) -> list[tuple[str | None, int]]:
        """(Range, bytes of body) of each answer for paths that end so."""
        return [(each.range, each.sent) for each in self.log if each.path.endswith(suffix)]


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """Serve on a free port of this machine until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # head and body are two writes

        def do_GET(self) -> None:
            answer(self, server)

        def log_message(self, format: str, *args: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, server: Server) -> None:
    """Answer one GET as the server is set."""
    path = handler.path
    entry = Request(path, handler.headers.get("Range"), 200, 0)
    server.log.append(entry)
    elsewhere = next((url for suffix, url in server.redirect.items() if path.endswith(suffix)), None)
    if elsewhere is not None:
        entry.status = 302
        handler.send_response(302)
        handler.send_header("Location", elsewhere)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    file = server.folder / path.lstrip("/")
    error = next((code for suffix, code in server.status.items() if path.endswith(suffix)), None)
    if error is None and (not file.is_file() or any(path.endswith(suffix) for suffix in server.hidden)):
        error = 404
    if error is not None:
        entry.status = error
        handler.send_response(error)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    beside = file.with_name(f"{file.name}.gz")
    taken = "gzip" in handler.headers.get("Accept-Encoding", "")
    entry.packed = server.gzip and taken and beside.is_file()
    data = (beside if entry.packed else file).read_bytes()
    if server.change is not None:
        data = server.change(path, data)
    total = len(data)
    start = 0
    if server.ranges and entry.range is not None:
        start = int(entry.range.removeprefix("bytes=").split("-")[0])
        entry.status = 416 if start >= total else 206
    endless = any(path.endswith(suffix) for suffix in server.endless)
    body = b"" if entry.status == 416 else data[start:]
    handler.send_response(entry.status)
    if entry.packed:
        handler.send_header("Content-Encoding", "gzip")
    if entry.status == 206:
        handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    if endless:
        handler.send_header("Connection", "close")
    else:
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    limit = next((count for suffix, count in server.cut.items() if path.endswith(suffix)), None)
    try:
        if limit is not None and limit < len(body):
            entry.sent = limit
            handler.wfile.write(body[:limit])
            handler.close_connection = True
            return
        entry.sent = len(body)
        handler.wfile.write(body)
        while endless:
            handler.wfile.write(b"x" * 65_536)
            entry.sent += 65_536
    except (BrokenPipeError, ConnectionResetError):
        handler.close_connection = True
    handler.close_connection = handler.close_connection or endless
