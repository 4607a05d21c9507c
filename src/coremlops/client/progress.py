"""How far an update is, in bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """Where an update is. `phase`: "metadata", "download", "check" (the golden set) or "activate".

    `done`, `total`: bytes of files, those that were here already included; both 0 before they are known, and
    they never fall. `what`: what is being done now, for people.
    """

    phase: str
    done: int
    total: int
    what: str


Progress = Callable[[Step], None]


class Meter:
    """Counts bytes for whoever watches. A content that is fetched again does not make it run backwards."""

    def __init__(self, report: Progress | None) -> None:
        self._report = report
        self._phase, self._what = "metadata", ""
        self._done = self._shown = self._total = 0

    def begin(self, phase: str, what: str) -> None:
        """Another phase, or another file."""
        self._phase, self._what = phase, what
        self._tell()

    def expect(self, total: int, have: int) -> None:
        """So many bytes are to be here in the end, and so many are."""
        self._total, self._done, self._shown = total, have, have

    def add(self, count: int) -> None:
        """So many more bytes are here; fewer, when a content turned out wrong."""
        self._done += count
        if self._done > self._shown:
            self._shown = self._done
            self._tell()

    def _tell(self) -> None:
        if self._report is not None:
            done = min(self._shown, self._total)
            self._report(Step(self._phase, done, self._total, self._what))
