"""Reading a URL in pieces, http(s) or file, from an offset if need be; with limits on time."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
import urllib.request
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.response import HTTPResponse

import coremlops
from coremlops.errors import UsageError

PIECE_BYTES = 1 << 18
MOST_ANSWER_BYTES = 10_000
SLACK_BYTES = 1 << 16  # more than this over what it inflates to is no gzip of a document
_CODINGS = frozenset({"gzip", "x-gzip", "deflate", "compress", "br", "zstd"})
_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a server may take.

    `connect_s`, `read_s`: to connect, and between two pieces. `grace_s` and `slowest_bytes_s`: a body of n
    bytes has `grace_s + n / slowest_bytes_s` seconds, so that a drip cannot hold an update for ever (what
    came is kept); the head of an answer has `read_s + grace_s`. `retries`: further tries to connect.
    """

    connect_s: float = 10.0
    read_s: float = 30.0
    grace_s: float = 60.0
    slowest_bytes_s: float = 4096.0
    retries: int = 2


class Reader(Protocol):
    """Anything that reads a URL from an offset: the network here, a bundle or another transport later."""

    def read(self, url: str, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """The offset where the body really begins (0 when the server knows no ranges), and its pieces.

        Raises tuf's `DownloadError`; its `DownloadHTTPError` when the server answers with an error status.
        """
        ...


def check_url(url: str) -> str:
    """`url`, when it is http, https or file and has no query, user or password. Raises `UsageError`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = SplitResult("", "", "", "", "")
    if "@" in parts.netloc:
        # They would not be sent, yet stand in state.json and in every message; so not in this one either.
        raise UsageError(
            f"a repository's URL holds no user name or password, got {parts.scheme}://...@{parts.hostname}",
            hint="the repository is public by design: its files are signed, not secret",
        )
    rooted = parts.hostname if parts.scheme in ("http", "https") else parts.path.startswith("/")
    plain = url.isprintable() and " " not in url  # else it breaks lines in messages, or the request itself
    if (
        parts.scheme not in ("http", "https", "file")
        or not rooted
        or parts.query
        or parts.fragment
        or not plain
    ):
        raise UsageError(f"a repository's URL is http://, https:// or file:///, got {url!r:.200}")
    return url.rstrip("/")


class Web(FetcherInterface):
    """The transport of a device: one place for time limits, proxies and ranges."""

    def __init__(self, limits: Limits | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits or Limits()
        self._clock = clock
        self._pools: dict[str, urllib3.PoolManager] = {}

    def _fetch(self, url: str) -> Iterator[bytes]:
        """For python-tuf: metadata and small documents, whole; gzip is welcome on the wire."""
        return self._open(url, 0, "gzip")[1]

    def read(self, url: str, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """See `Reader.read`."""
        return self._open(url, offset, "identity")

    def post(self, url: str, body: bytes) -> tuple[int, bytes]:
        """Send a JSON document: the answer's status, and the first `MOST_ANSWER_BYTES` of it. No redirect is
        followed. Raises tuf's `DownloadError` when the server cannot be reached.
        """
        headers = {"Content-Type": "application/json", "User-Agent": f"coremlops/{coremlops.__version__}"}
        limits = self._limits
        try:
            response = self._pool(url).request(
                *("POST", url),
                body=body,
                headers=headers,
                preload_content=False,
                timeout=urllib3.Timeout(connect=limits.connect_s, read=limits.read_s),
                retries=False,
                redirect=False,
            )
            try:
                answer, begun = b"", self._clock()
                while len(answer) < MOST_ANSWER_BYTES and (piece := response.read1(MOST_ANSWER_BYTES)):
                    answer += piece
                    if self._clock() - begun > limits.read_s:  # a drip holds nobody
                        raise DownloadError(f"{url}: the answer does not end")
                return response.status, answer[:MOST_ANSWER_BYTES]
            finally:
                response.close()
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError(f"{url}: {_reason(error)}") from error

    def _open(self, url: str, offset: int, encoding: str) -> tuple[int, Iterator[bytes]]:
        if urlsplit(url).scheme == "file":
            # A quoted slash: a role called `../a` leads to no other folder.
            if "%2f" in url.lower():
                raise DownloadHTTPError(f"{url}: no file can have this name", 404)
            return offset, _file(Path(unquote(urlsplit(url).path)), offset)
        headers = {"Accept-Encoding": encoding, "User-Agent": f"coremlops/{coremlops.__version__}"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        try:
            response = self._pool(url).request(
                "GET",
                url,
                headers=headers,
                preload_content=False,
                decode_content=False,
                timeout=urllib3.Timeout(connect=self._limits.connect_s, read=self._limits.read_s),
                retries=urllib3.Retry(self._limits.retries, redirect=5, backoff_factor=0.1),
            )
        except (urllib3.exceptions.HTTPError, ValueError) as error:  # ValueError: a redirect to no URL
            raise DownloadError(f"{url}: {_reason(error)}") from error
        if response.status not in (200, 206):  # such as a 304 that nobody asked for
            response.close()
            raise DownloadHTTPError(f"{url}: the server answers {response.status}", response.status)
        try:
            start = _start(response.status, response.headers.get("Content-Range"), offset)
        except DownloadError:
            response.close()
            raise
        coded = response.headers.get("Content-Encoding", "identity").lower()
        if coded in _CODINGS and coded != encoding:  # its bytes would spoil what has come
            response.close()
            raise DownloadError(f"{url}: the server sends it as {coded}, which was not asked for")
        pieces = self._pieces(url, response)
        return start, _inflated(url, pieces) if coded == encoding == "gzip" else pieces

    def _pieces(self, url: str, response: urllib3.BaseHTTPResponse) -> Generator[bytes]:
        limits, begun, received = self._limits, self._clock(), 0
        try:
            # read1 hands over what has come: a slow sender cannot hide behind a large piece.
            while piece := response.read1(PIECE_BYTES):
                received += len(piece)
                if self._clock() - begun > limits.grace_s + received / limits.slowest_bytes_s:
                    raise SlowRetrievalError(
                        f"{url}: slower than {limits.slowest_bytes_s:.0f} bytes a second"
                    )
                yield piece
        except urllib3.exceptions.HTTPError as error:
            raise DownloadError(f"{url}: {_reason(error)} after {received} bytes") from error
        finally:
            response.close()

    def _pool(self, url: str) -> urllib3.PoolManager:
        """The pool for this URL, through the environment's proxy if it names one."""
        parts = urlsplit(url)
        proxy = urllib.request.getproxies().get(parts.scheme, "")
        if not proxy or urllib.request.proxy_bypass(parts.hostname or ""):
            proxy = ""
        if proxy not in self._pools:
            pool = urllib3.ProxyManager(proxy) if proxy else urllib3.PoolManager()
            pool.pool_classes_by_scheme = _timely(self._limits.read_s + self._limits.grace_s)
            self._pools[proxy] = pool
        return self._pools[proxy]


class _Timely(HTTPConnection):
    """A connection on which the head of an answer, a drip of headers or of 1xx answers, has `head_s` to come.

    Each byte resets the socket's own time limit, and a head that ends early looks whole to `http.client`.
    """

    head_s: float

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as urllib3's own is
        late: list[bool] = []
        sock = self.sock

        def cut() -> None:
            late.append(True)
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(self.head_s, cut)
        timer.daemon = True
        timer.start()
        try:
            return super().getresponse()
        finally:
            timer.cancel()
            if late:
                self.close()
                raise urllib3.exceptions.HTTPError(f"no head of an answer within {self.head_s:g} s")


def _timely(head_s: float) -> dict[str, type[HTTPConnectionPool]]:
    """urllib3's pools by scheme, with such connections."""

    class Plain(_Timely):
        pass

    class Secure(_Timely, HTTPSConnection):
        pass

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    Plain.head_s = Secure.head_s = head_s
    return {"http": PlainPool, "https": SecurePool}


def _start(status: int, content_range: str | None, offset: int) -> int:
    """Where the body begins. A server without ranges sends all of it, with 200."""
    if status != 206:
        return 0
    match = _RANGE.fullmatch(content_range or "")
    if match is None or int(match[1]) != offset:
        raise DownloadError(f"asked for bytes from {offset}, the server sends {content_range!r:.80}")
    return offset


def _inflated(url: str, pieces: Generator[bytes]) -> Iterator[bytes]:
    """What a gzip body holds, in small pieces: whoever reads stops at the length that it allows, so what a
    bomb would become is never made."""
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    came = made = 0
    with contextlib.closing(pieces):
        for piece in pieces:
            came += len(piece)
            rest = piece
            while rest and not stream.eof:
                try:
                    out = stream.decompress(rest, PIECE_BYTES)
                except zlib.error as error:
                    raise DownloadError(f"{url}: damaged gzip: {error}") from error
                made, rest = made + len(out), stream.unconsumed_tail
                if out:
                    yield out
            if rest or stream.unused_data:
                raise DownloadError(f"{url}: more follows the end of its gzip body")
            if came > made + SLACK_BYTES:
                raise DownloadError(f"{url}: {came} bytes of gzip became only {made}")
    if not stream.eof:
        raise DownloadError(f"{url}: the gzip body ends early, after {came} bytes")


def _file(path: Path, offset: int) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise DownloadHTTPError(f"{path}: {error.strerror}", 404) from error
    except OSError as error:
        raise DownloadError(f"{path}: {error.strerror}") from error

    def pieces() -> Iterator[bytes]:
        with file:
            file.seek(offset)
            while piece := file.read(PIECE_BYTES):
                yield piece

    return pieces()


def _reason(error: Exception) -> str:
    """A short reason without the addresses and names of our own objects."""
    cause = getattr(error, "reason", None) or error
    return re.sub(r"(<[^>]*>|\w+\(host=[^)]*\)):? ?", "", f"{cause!s:.200}") or type(cause).__name__
