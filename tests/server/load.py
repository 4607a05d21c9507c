"""Many devices over a bad network: a proxy that drops, cuts and shortens answers, and what each ends with."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

from coremlops.client import Device, Limits
from coremlops.model import model_digest

LIMITS = Limits(connect_s=30, read_s=60, retries=0)
MOST_TRIES = 12
END = b"\r\n\r\n"
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ended:
    """One device: how its updates ended, one after the other, and what it had active that nobody signed."""

    outcomes: tuple[str, ...]
    version: int | None
    unverified: tuple[str, ...]


@dataclass(slots=True)
class Seen:
    """What the proxy did: answers in all; those that it dropped with the connection, cut in the middle of the
    body, or passed on with a shorter body and a length that agrees; and bytes of bodies to the devices."""

    answers: int = 0
    dropped: int = 0
    cut: int = 0
    shortened: int = 0
    sent: int = 0


@contextlib.contextmanager
def bad_network(url: str, *, share: float, seed: int = 0) -> Iterator[tuple[str, Seen]]:
    """A proxy before `url` that drops this share of all answers, cuts as many, and shortens as many."""
    host, port = url.removeprefix("http://").split(":")
    chance, seen, ready = random.Random(seed), Seen(), threading.Event()
    loop = asyncio.new_event_loop()
    here: list[int] = []

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, to_upstream = await asyncio.open_connection(host, int(port))
        try:
            # A device that is gone, or a server that ends the connection, is no news here.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                while await answered(reader, to_upstream, upstream, writer):
                    pass
        finally:
            to_upstream.close()
            writer.close()

    async def answered(
        reader: asyncio.StreamReader,
        to_upstream: asyncio.StreamWriter,
        upstream: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Pass one request and its answer on; whether the connection goes on."""
        to_upstream.write(await reader.readuntil(END))
        head = await upstream.readuntil(END)
        found = _LENGTH.search(head)
        body = await upstream.readexactly(int(found[1]) if found else 0)
        seen.answers += 1
        draw = chance.random()
        if draw < share:
            seen.dropped += 1
            return False
        cut = shortened = False
        if body and draw < 3 * share:
            cut, shortened = draw < 2 * share, draw >= 2 * share
            body = body[: chance.randrange(len(body))]
            seen.cut += cut
            seen.shortened += shortened
        if shortened:
            head = _LENGTH.sub(b"content-length: %d" % len(body), head)
        writer.write(head + body)
        seen.sent += len(body)
        await writer.drain()
        return not cut

    async def listen() -> None:
        server = await asyncio.start_server(connection, "127.0.0.1", 0, backlog=1024)
        here.append(server.sockets[0].getsockname()[1])
        ready.set()
        async with server:
            await server.serve_forever()

    def run() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(listen())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    ready.wait()
    try:
        yield f"http://127.0.0.1:{here[0]}", seen
    finally:
        loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
        thread.join()


def update_all(folders: list[Path], digests: dict[int, str], *, at_once: int, processes: int) -> list[Ended]:
    """Update these devices until each has what its channel offers, at most so many at once."""
    each = -(-len(folders) // processes)
    parts = [folders[first : first + each] for first in range(0, len(folders), each)]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        calls = [pool.submit(_update_some, part, digests, -(-at_once // processes)) for part in parts]
        return [ended for call in calls for ended in call.result()]


def _update_some(folders: list[Path], digests: dict[int, str], threads: int) -> list[Ended]:
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda folder: _update(folder, digests), folders))


def _update(folder: Path, digests: dict[int, str]) -> Ended:
    outcomes: list[str] = []
    unverified: list[str] = []
    device = Device(folder, limits=LIMITS)
    while len(outcomes) < MOST_TRIES and (not outcomes or outcomes[-1] not in ("updated", "current")):
        outcomes.append(device.update().outcome)
        active = device.status().active
        if active is not None:
            found = model_digest(device.model())
            if not found == active.model == digests[active.version]:
                unverified.append(f"{folder}: version {active.version}: {found}")
    active = device.status().active
    return Ended(tuple(outcomes), active.version if active is not None else None, tuple(unverified))


def copies(device: Path, url: str, count: int, folder: Path) -> list[Path]:
    """So many devices as this one, which look at another URL."""
    made = []
    for number in range(count):
        made.append(Path(shutil.copytree(device, folder / f"{number:04}")))
        Device.install(made[-1], url, None, "staging", made[-1] / "root.json")
    return made


def summary(ended: list[Ended], begun: float) -> dict[str, object]:
    """The counts of a run that began then."""
    return {
        "devices": len(ended),
        "versions": dict(Counter(str(each.version) for each in ended)),
        "outcomes": dict(Counter(outcome for each in ended for outcome in each.outcomes)),
        "tries": dict(Counter(len(each.outcomes) for each in ended)),
        "unverified": sum(len(each.unverified) for each in ended),
        "seconds": round(time.time() - begun, 1),
    }
