"""An anonymous count: what a device that is not enrolled may say. Each field is added to a sum of its own.

Durations are powers of two, so a count is one of few; nothing in it tells one device from another.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from coremlops.collection import check_collection, check_name, document
from coremlops.collection.rules import SYSTEMS
from coremlops.errors import ReportError, RepositoryError

MAX_COUNT_BYTES = 1_000
MAX_BUCKET = 24  # 2**24 ms: above four hours


@dataclass(frozen=True, slots=True)
class Count:
    """One outcome of one version of the model `name`. `load`, `latency`: n for at most 2**n ms, None when not
    measured."""

    collection: str
    name: str
    version: int
    ok: bool
    os: str
    load: int | None = None
    latency: int | None = None

    def sums(self) -> tuple[tuple[str, str], ...]:
        """What is counted, each alone: (what, value)."""
        found = [("outcome", "pass" if self.ok else "fail"), ("os", self.os)]
        found += [
            (name, f"{2**bucket} ms")
            for name, bucket in (("load", self.load), ("latency", self.latency))
            if bucket is not None
        ]
        return tuple(found)

    def to_bytes(self) -> bytes:
        """The document that is posted."""
        return document.write({"format": 0} | asdict(self))

    @staticmethod
    def from_bytes(data: bytes) -> Count:
        """Read a count of whoever sent it. Raises `ReportError`."""
        keys = ("format", *Count.__dataclass_fields__)
        try:
            fields = document.Fields(document.read(data, "count", most_bytes=MAX_COUNT_BYTES), "count", keys)
            fields.format()
            os = fields.text("os")
            if os not in SYSTEMS:
                fields.refuse("os", f"one of {', '.join(SYSTEMS)}")
            load, latency = (
                None if fields.raw(key) is None else fields.integer(key, 0, MAX_BUCKET)
                for key in ("load", "latency")
            )
            return Count(
                check_collection(fields.text("collection")),
                check_name(fields.text("name")),
                fields.version("version"),
                fields.truth("ok"),
                *(os, load, latency),
            )
        except RepositoryError as error:
            raise ReportError(error.message, reason="schema") from None


def bucket(seconds: float | None) -> int | None:
    """The n for which a duration is at most 2**n ms; the last one takes what is longer.

    >>> bucket(0.0005), bucket(0.003), bucket(None)
    (0, 2, None)
    """
    if seconds is None or math.isnan(seconds):
        return None
    milliseconds = min(max(seconds * 1000.0, 1.0), 2.0**MAX_BUCKET)
    return math.ceil(math.log2(milliseconds))
