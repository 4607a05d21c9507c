"""What a change costs in a repository of 10,000 targets, and what a device reads of it.

PYTHONPATH=. python benchmarks/release/publish.py --write

Ours: the call (`Repository.publish` and so on, a tiny model, keys in files) and the whole command. The peers
are python-tuf's own ways with the same targets, keys and disk: one flat role, and 256 hash bins that are all
signed anew; each writes what it signed, as we do. Interleaved, medians. Bytes: bodies over HTTP, gzip where
it lies beside.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile, Snapshot, SuccinctRoles, TargetFile, Targets, Timestamp

from coremlops import golden
from coremlops.client import Device
from coremlops.collection import member_path, members_role
from coremlops.release import Repository
from coremlops.release.audit import Act
from coremlops.release.contents import Contents
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
    """A repository with so many members signed, by its own commit."""
    repository = Repository.init(folder / "repository", config=folder / "config")
    contents: Contents = repository.contents()
    for target in targets(count):
        contents.members.put(target)
    contents.members.grow()
    contents.roles.commit([*contents.members.changed, members_role("faces")], Act("publish", "faces"))
    return repository


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


def changes(work: Path, count: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of each change, interleaved with the peers."""
    repository, pictures = filled(work, count), write_pictures(work / "pictures")
    flat, bins = Flat(work / "flat", count), Bins(work / "bins", count)
    found: dict[str, list[float]] = {}

    def note(name: str, call: Callable[[], object]) -> None:
        found.setdefault(name, []).append(timed(call))

    for turn in range(rounds):
        model = write_model(work / f"{turn}.mlpackage", gain=0.02 + turn / 1000)
        golden.make(model, pictures, work / f"golden-{turn}")
        form = Form(model, work / f"golden-{turn}")
        note("publish", lambda form=form: repository.publish([form]))
        note("promote", repository.promote)
        note("halt", lambda: repository.halt("release"))
        note("rollout", lambda: repository.rollout("release", 10_000))
        if turn:
            note("rollback", lambda: repository.rollback("release"))
            note("promote", lambda: repository.promote(repository.index("staging").last_version))
        members = [TargetFile(1, {"sha256": f"{turn:064x}"}, member_path("faces", f"{turn:064x}"))]
        note("python-tuf, flat", lambda members=members: flat.publish(members))
        note("python-tuf, 256 bins", lambda members=members: bins.publish(members))
        note("halt, whole process", partial(halted, repository.folder, work / "config"))
    medians = {name: round(statistics.median(times), 1) for name, times in found.items()}
    worst = max(medians[name] for name in ("publish", "promote", "halt", "rollout", "rollback"))
    return {
        "milliseconds": medians,
        "slowest / flat": round(worst / medians["python-tuf, flat"], 3),
        "slowest / 256 bins": round(worst / medians["python-tuf, 256 bins"], 3),
        "bytes": read(repository, work),
    }


def halted(repository: Path, config: Path) -> None:
    """The command, from its start to its end."""
    command = [sys.executable, "-m", "coremlops", "release", "halt", "--repository", str(repository)]
    environment = os.environ | {"COREMLOPS_CONFIG": str(config)}
    subprocess.run(command, env=environment, check=True, capture_output=True)


def read(repository: Repository, work: Path) -> dict[str, Any]:
    """Bodies that a new device and a steady poll read."""
    with serving(Server(repository.folder, gzip=True)) as server:
        device = Device.install(work / "phone", server.url, "faces", "release", repository.root_file)
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
            "command": "PYTHONPATH=. python benchmarks/release/publish.py --write",
            "targets": options.targets,
        } | changes(Path(folder), options.targets, options.rounds)
    text = json.dumps(result, indent=1) + "\n"
    print(text)
    if options.write:
        RESULT.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
