"""What a change costs in a repository of 10,000 targets, and what a device reads of it.

PYTHONPATH=src:. python benchmarks/release/publish.py --write

Ours: the call (`Repository.publish` and so on, a tiny model, keys in files) and the whole command. The peers
are python-tuf's own ways with the same targets, keys and disk: one flat role, and 256 hash bins that are all
signed anew; each writes what it signed, as we do. Interleaved, medians. "with 1,000 versions": the same
changes where the history of each channel is full. Bytes: bodies over HTTP, gzip where it lies beside; "a
further model": what a second one with 8 offers adds to a new device's first fetch and to the index.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp

from coremlops import golden
from coremlops.client import Device
from coremlops.collection import (
    CHANNELS,
    MAX_OFFERS,
    Entry,
    History,
    Line,
    Variant,
    channel_role,
    member_path,
    members_role,
)
from coremlops.collection.index import MAX_HISTORY
from coremlops.release import Repository
from coremlops.release.audit import Act
from coremlops.release.contents import Contents
from coremlops.release.targets import file_of
from coremlops.release.terms import Form
from tests.client.server import Server, serving
from tests.release.models import write_model, write_pictures

RESULT = Path(__file__).with_suffix(".json")
END = datetime.now(UTC).replace(microsecond=0) + timedelta(days=30)


def targets(count: int) -> list[TargetFile]:
    """Targets that are named by a hash, as members are."""
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
    return [
        TargetFile(1000 + n, {"sha256": name}, member_path("faces", name)) for n, name in enumerate(names)
    ]


def filled(folder: Path, count: int) -> Repository:
    """A repository with so many members signed, by its own commit; their files are empty."""
    repository = Repository.init(folder / "repository", config=folder / "config")
    contents: Contents = repository.contents()
    for target in targets(count):
        contents.members.put(target)
        file = repository.folder / "targets" / file_of(target.path, target.hashes["sha256"])
        file.parent.mkdir(exist_ok=True)
        file.touch()  # a change looks through all names for what a crash left
    contents.members.grow()
    contents.roles.commit(
        [*contents.members.changed, members_role("faces")], Act("publish", "faces", "faces")
    )
    return repository


def aged(repository: Repository) -> None:
    """Give each channel as many versions as a history holds, by one commit."""
    contents: Contents = repository.contents()
    for channel in CHANNELS:
        entries = tuple(
            Entry(n, END, (Variant("default", "mlpackage", f"{n:064x}", f"{n:064x}", 5_000_000),))
            for n in range(1, MAX_HISTORY + 1)
        )
        line = Line("faces", channel, "faces", entries[: -MAX_OFFERS - 1 : -1], MAX_HISTORY)
        contents.put_line(line, History("faces", channel, "faces", entries))
    roles = [channel_role("faces", channel) for channel in CHANNELS]
    contents.roles.commit(roles, Act("publish", "faces", "faces"))


class Flat:
    """python-tuf: one role with all targets, signed anew with each."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder, self.signer = folder, CryptoSigner.generate_ed25519()
        self.roles = [Metadata(Targets(expires=END, targets={each.path: each for each in targets(count)}))]
        self.snapshot, self.timestamp = Metadata(Snapshot(expires=END)), Metadata(Timestamp(expires=END))
        folder.mkdir()

    def publish(self, members: list[TargetFile]) -> None:
        self.put(members)
        for place, role in enumerate(self.roles):
            role.signed.version += 1
            self.write(f"{role.signed.version}.{place}.json", role)
            self.snapshot.signed.meta[f"{place}.json"] = MetaFile(role.signed.version)
        self.snapshot.signed.version += 1
        self.write(f"{self.snapshot.signed.version}.snapshot.json", self.snapshot)
        self.timestamp.signed.version += 1
        self.timestamp.signed.snapshot_meta = MetaFile(self.snapshot.signed.version)
        self.write("timestamp.json", self.timestamp)

    def put(self, members: list[TargetFile]) -> None:
        self.roles[0].signed.targets |= {each.path: each for each in members}

    def write(self, name: str, metadata: Metadata[Any]) -> None:
        metadata.sign(self.signer)
        with (self.folder / f"{name}.tmp").open("wb") as file:
            file.write(metadata.to_bytes())
            file.flush()
            os.fsync(file.fileno())
        (self.folder / f"{name}.tmp").replace(self.folder / name)


class Bins(Flat):
    """python-tuf: 256 hash bins, all signed anew."""

    def __init__(self, folder: Path, count: int) -> None:
        super().__init__(folder, 0)
        self.bins = SuccinctRoles([self.signer.public_key.keyid], 1, 8, "bin")
        self.names = list(self.bins.get_roles())
        self.roles = [Metadata(Targets(expires=END)) for _ in self.names]
        self.put(targets(count))

    def put(self, members: list[TargetFile]) -> None:
        for each in members:
            place = self.names.index(self.bins.get_role_for_target(each.path))
            self.roles[place].signed.targets[each.path] = each


def timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - begun)


class Stopwatch:
    """Milliseconds of each change, by its name."""

    def __init__(self) -> None:
        self.found: dict[str, list[float]] = {}

    def note(self, name: str, call: Callable[[], object]) -> None:
        self.found.setdefault(name, []).append(timed(call))

    def ours(self, repository: Repository, form: Form, *, first: bool) -> None:
        """Each of our changes once; only a later version can be taken back."""
        self.note("publish", lambda: repository.publish([form]))
        self.note("promote", repository.promote)
        self.note("halt", lambda: repository.halt("release"))
        self.note("rollout", lambda: repository.rollout("release", 10_000))
        if not first:
            self.note("rollback", lambda: repository.rollback("release"))
            self.note("promote", lambda: repository.promote(repository.line("staging").last_version))

    def medians(self) -> dict[str, float]:
        return {name: round(statistics.median(times), 1) for name, times in self.found.items()}


def slowest(medians: dict[str, float]) -> float:
    return max(medians[name] for name in ("publish", "promote", "halt", "rollout", "rollback"))


def new_form(work: Path, pictures: Path, gain: float) -> Form:
    """A model that was never published, and its golden set."""
    model = write_model(work / f"{gain}.mlpackage", gain=gain)
    golden.make(model, pictures, work / f"golden-{gain}")
    return Form(model, work / f"golden-{gain}")


def changes(work: Path, count: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of each change, interleaved with the peers."""
    repository, pictures = filled(work, count), write_pictures(work / "pictures")
    old = filled(work / "old", count)
    aged(old)
    flat, bins = Flat(work / "flat", count), Bins(work / "bins", count)
    young, full = Stopwatch(), Stopwatch()
    for turn in range(rounds):
        form = new_form(work, pictures, 0.02 + turn / 1000)
        young.ours(repository, form, first=not turn)
        full.ours(old, form, first=not turn)
        members = [TargetFile(1, {"sha256": f"{turn:064x}"}, member_path("faces", f"{turn:064x}"))]
        young.note("python-tuf, flat", lambda members=members: flat.publish(members))
        young.note("python-tuf, 256 bins", lambda members=members: bins.publish(members))
        young.note("halt, whole process", partial(halted, repository.folder, work / "config"))
    medians = young.medians()
    worst = slowest(medians)
    return {
        "milliseconds": medians,
        "milliseconds with 1,000 versions": full.medians(),
        "slowest / flat": round(worst / medians["python-tuf, flat"], 3),
        "slowest / 256 bins": round(worst / medians["python-tuf, 256 bins"], 3),
        "bytes": (one := read(repository, work / "phone")),
        "bytes that a further model adds": further(repository, work, pictures, one),
    }


def further(repository: Repository, work: Path, pictures: Path, one: dict[str, int]) -> dict[str, int]:
    """What a second model with 8 offers adds to the bodies that a new device reads."""
    before = len(gzip.compress(repository.index("release").to_bytes(), 9))
    second = replace(repository, name="second")
    for turn in range(MAX_OFFERS):
        second.publish([new_form(work, pictures, 0.5 + turn / 1000)])
        second.promote()
    both = read(second, work / "other-phone")
    of_index = len(gzip.compress(repository.index("release").to_bytes(), 9)) - before
    return {"index, compressed": of_index} | {name: both[name] - size for name, size in one.items()}


def halted(repository: Path, config: Path) -> None:
    """The command, from its start to its end."""
    command = [sys.executable, "-m", "coremlops", "release", "halt", "--repository", str(repository)]
    environment = os.environ | {"COREMLOPS_CONFIG": str(config)}
    subprocess.run(command, env=environment, check=True, capture_output=True)


def read(repository: Repository, phone: Path) -> dict[str, int]:
    """Bodies that a new device and a steady poll read."""
    with serving(Server(repository.folder, gzip=True)) as server:
        device = Device.install(phone, server.url, "faces", "release", repository.root_file)
        assert device.update().outcome == "updated"
        first = [(each.path, each.sent) for each in server.log if each.status < 400]
        documents = [sent for path, sent in first if "/members/" not in path]
        members = [sent for path, sent in first if "/members/" in path]
        server.log.clear()
        assert device.update().outcome == "current"
        poll = [(each.path, each.sent) for each in server.log]
    return {
        "first fetch, metadata and documents": sum(documents),
        "first fetch, requests for them": len(documents),
        "first fetch, manifest and members": sum(members),
        "poll": sum(sent for _, sent in poll),
        "poll, requests": len(poll),
    }


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--targets", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = {
            "command": "PYTHONPATH=src:. python benchmarks/release/publish.py --write",
            "targets": options.targets,
        } | changes(Path(folder), options.targets, options.rounds)
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if options.write:
        RESULT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
