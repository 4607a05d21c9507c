"""The intake: what devices may post to a repository's server. Each is hostile until it is proven.

In this order, the cheap before the dear: how often (by address, in memory), type and size, schema, whether
the version is on offer, whether the device is enrolled, its signature. No address is written anywhere.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from coremlops.collection import Variant
from coremlops.errors import CoremlopsError, ReportError
from coremlops.release.keeping import Keeper
from coremlops.telemetry.count import MAX_COUNT_BYTES, Count
from coremlops.telemetry.report import Report
from coremlops.telemetry.signing import MAX_ENVELOPE_BYTES, Signed
from coremlops.telemetry.store import Release, Store

BODY_S = 10.0
# Why something is not taken -> the status that says so. 4xx: sending it again will not help.
STATUS = {
    "schema": 400,
    "signature": 401,
    "code": 403,
    "not-enrolled": 403,
    "unknown-version": 404,
    "slow": 408,
    "stale": 409,
    "closed": 410,
    "size": 413,
    "type": 415,
    "clock": 422,
    "rate": 429,
    "unavailable": 503,
    "full": 507,
}
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, UTC, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(slots=True)
class Rate:
    """How often an address may ask: `burst` at once, one more every `every_s` seconds. Kept in memory alone.

    `most`: addresses remembered; the one that asked longest ago is forgotten first.
    """

    burst: int
    every_s: float
    most: int = 10_000
    clock: Callable[[], float] = time.monotonic
    _free_at: OrderedDict[str, float] = field(default_factory=OrderedDict)

    def take(self, address: str) -> float:
        """Seconds to wait; 0 when the address may go on, which is counted."""
        now = self.clock()
        free_at = max(self._free_at.pop(address, now), now) + self.every_s
        wait = free_at - now - self.burst * self.every_s
        if wait > 0:
            free_at -= self.every_s
        self._free_at[address] = free_at
        if len(self._free_at) > self.most:
            self._free_at.popitem(last=False)
        return max(0.0, wait)


@dataclass(slots=True)
class Offers:
    """Which versions of which models the repository offers, read again when it changed.

    `found`: the variants of each that is on offer in any channel of any collection.
    """

    repository: Path
    found: dict[Release, tuple[Variant, ...]] = field(default_factory=dict)
    _seen: tuple[int, int] = (0, 0)

    def follow(self, changed: Callable[[set[Release]], None]) -> None:
        """Read again when the repository is another than before, and tell `changed` all that is on offer.

        When that fails, the next call tries again.
        """
        about = (self.repository / "metadata" / "timestamp.json").stat()
        seen = (about.st_mtime_ns, about.st_ino)
        if seen != self._seen:
            # All or nothing: a release that is not found here loses its salt for good.
            self.found = {
                (line.collection, line.name, entry.version): entry.variants
                for index in Keeper.open(self.repository).indexes()
                for line in index.lines
                for entry in line.offers
            }
            changed(set(self.found))
            self._seen = seen


@dataclass(slots=True)
class Intake:
    """What `routes` serve: the store at `reports`, for what `repository` offers."""

    reports: Store
    offers: Offers
    clock: Clock = utc_now
    rate: Rate = field(default_factory=lambda: Rate(burst=60, every_s=1.0))
    enrol_rate: Rate = field(default_factory=lambda: Rate(burst=10, every_s=30.0))
    body_s: float = BODY_S

    def enrol(self, body: bytes) -> str:
        """A code and a key, with the key's signature."""
        return self.reports.enrol(Signed.from_bytes(body), now=self.clock())

    def report(self, body: bytes) -> str:
        """An enrolled device's report."""
        signed = Signed.from_bytes(body)
        report = Report.from_bytes(signed.data)
        variants = self._variants((report.collection, report.name, report.version))
        named = (report.variant, report.manifest, report.model)
        if named not in {(each.name, each.manifest, each.model) for each in variants}:
            raise ReportError(
                f"version {report.version} has no such variant, manifest and model", reason="unknown-version"
            )
        return self.reports.report(signed, now=self.clock())

    def count(self, body: bytes) -> str:
        """An anonymous count."""
        count = Count.from_bytes(body)
        self._variants((count.collection, count.name, count.version))
        self.reports.count(count)
        return "counted"

    def _variants(self, release: Release) -> tuple[Variant, ...]:
        self.offers.follow(self.reports.close)
        found = self.offers.found.get(release)
        if found is None:
            collection, name, version = release
            raise ReportError(
                f"no version {version} of {name} is on offer here in {collection}", reason="unknown-version"
            )
        return found


def open_routes(repository: Path, reports: Path) -> list[Route]:
    """The routes of `repository`'s intake, into the file `reports`, which is made if there is none."""
    store = Store(reports.absolute())
    store.make()
    return routes(Intake(store, Offers(repository.absolute())))


def routes(intake: Intake) -> list[Route]:
    """POST `enrol`, `report`, `count`: to be mounted at `/intake`."""
    lock = asyncio.Lock()  # one at a time: SQLite has one writer, and the intake no threads to fear
    return [
        _route("/enrol", intake, intake.enrol, MAX_ENVELOPE_BYTES, intake.enrol_rate, lock),
        _route("/report", intake, intake.report, MAX_ENVELOPE_BYTES, intake.rate, lock),
        _route("/count", intake, intake.count, MAX_COUNT_BYTES, intake.rate, lock),
    ]


def _route(
    path: str,
    intake: Intake,
    take: Callable[[bytes], str],
    most_bytes: int,
    rate: Rate,
    lock: asyncio.Lock,
) -> Route:
    async def answer(request: Request) -> Response:
        try:
            wait = rate.take(_address(request))
            if wait > 0:
                raise ReportError(f"too often; again in {wait:.0f} s", reason="rate")
            body = await _body(request, most_bytes, intake.body_s)
            async with lock:
                action = await run_in_threadpool(take, body)
        except ReportError as error:
            return _refusal(error, wait)
        except (CoremlopsError, OSError):
            return _refusal(ReportError("", reason="unavailable"), 0)
        return JSONResponse({"ok": True, "action": action})

    endpoint: Callable[[Request], Awaitable[Response]] = answer
    return Route(path, endpoint, methods=["POST"])


async def _body(request: Request, most_bytes: int, within_s: float) -> bytes:
    """The body, never more of it than may come. A page in a browser cannot send this type unasked."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise ReportError("content type application/json expected", reason="type")
    too_large = ReportError(f"a body of at most {most_bytes} bytes expected", reason="size")
    length = request.headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 12 and int(length) <= most_bytes):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for piece in request.stream():
                body += piece
                if len(body) > most_bytes:
                    raise too_large
    except (TimeoutError, ClientDisconnect):
        raise ReportError(f"the body did not come within {within_s:.0f} s", reason="slow") from None
    return bytes(body)


def _refusal(error: ReportError, wait_s: float) -> JSONResponse:
    if error.reason == "unavailable":  # what is wrong on this machine is nobody else's business
        error = ReportError("the intake cannot answer now; try again later", reason="unavailable")
    content = {"ok": False, "reason": error.reason, "error": error.message, "hint": error.hint}
    headers = {"Retry-After": str(int(wait_s) + 1)} if error.reason == "rate" else None
    return JSONResponse(content, STATUS[error.reason], headers)


def _address(request: Request) -> str:
    """Whom the rate is of: an IPv4 address, or an IPv6 network of 64 bits, which is one household's."""
    host = request.client.host if request.client is not None else ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)
