"""Stopping an update: whoever waits for the network looks up often enough to stop within a moment."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, wait
from typing import Any

from tuf.ngclient import FetcherInterface

LOOK_S = 0.1
Cancelled = Callable[[], bool]


class CancelledError(Exception):
    """The app wants this update no longer."""


class Stoppable(FetcherInterface):
    """A transport that gives up with `CancelledError` soon after `cancelled()` became true.

    Names, connections and silent servers can hold a call for many seconds, so a thread waits for each. It is
    left behind when the update stops: it writes nothing, and ends by the transport's own limits.
    """

    def __init__(self, web: Any, cancelled: Cancelled) -> None:
        self._web = web
        self._cancelled = cancelled

    def _fetch(self, url: str) -> Iterator[bytes]:
        """For python-tuf, which would take an error raised before the first piece for one of the network."""
        yield from self._pieces(self._wait(lambda: self._web.fetch(url)))

    def read(self, url: str, offset: int = 0) -> tuple[int, Iterator[bytes]]:
        """See `Reader.read`."""
        start, pieces = self._wait(lambda: self._web.read(url, offset))
        return start, self._pieces(pieces)

    def check(self) -> None:
        """Raise `CancelledError` once the update is to stop."""
        if self._cancelled():
            raise CancelledError

    def _pieces(self, pieces: Generator[bytes]) -> Iterator[bytes]:
        try:
            while piece := self._wait(lambda: next(pieces, b"")):
                yield piece
        finally:
            with contextlib.suppress(ValueError):  # a thread that was left behind still runs it
                pieces.close()

    def _wait(self, work: Callable[[], Any]) -> Any:
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # raised again below, where the update waits
                future.set_exception(error)

        self.check()
        threading.Thread(target=run, name="coremlops-download", daemon=True).start()
        while not wait([future], timeout=LOOK_S).done:
            self.check()
        return future.result()
