"""Make repository/ anew: signed with keys that are thrown away, good until the year 2126.

PYTHONPATH=src:. python conformance/make.py    from the root of the repository; the vectors name what is in it

`repository/{root.json,metadata/,targets/}` is everything that was ever signed; `states/<name>/` lies over it
and has the timestamp of one moment, or what an attacker serves. `names.json` says which file is which. The
collection `tiny` has one model; `pair`, which comes later, has two, and its states begin with `pair-`.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Snapshot, Targets, Timestamp

from coremlops import golden
from coremlops.collection import Entry, channel_role, index_path
from coremlops.model import model_digest
from coremlops.release import Repository
from coremlops.release.audit import Act
from coremlops.release.expiry import Expiry
from coremlops.release.terms import Form
from tests.release.models import write_model, write_pictures

REPOSITORY = Path(__file__).resolve().parent / "repository"
TINY, PAIR = "tiny", "pair"
FIRST, SECOND = "classifier", "detector"  # of the pair
LONG = Expiry(*(36_500,) * 8)
AT = datetime(2026, 11, 25, tzinfo=UTC)


class Maker:
    """The repository as it grows, and where its states are kept."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.pictures = write_pictures(work / "pictures")
        made = Repository.init(
            work / "repository", TINY, config=work / "config", clock=lambda: AT, expiry=LONG
        )
        self.repository = replace(made, clock_checked=True)  # a timestamp that lives so long is no mistake
        self.names: dict[str, str] = {}
        shutil.copy(self.repository.root_file, REPOSITORY / "root.json")

    def pair(self) -> None:
        """From here on it is the other collection that grows."""
        self.repository.add(PAIR)
        self.repository = replace(self.repository, collection=PAIR)

    def of(self, name: str) -> Repository:
        """The collection, one of its models being meant."""
        return replace(self.repository, name=name)

    def version(self, gain: float, *, name: str | None = None, wrong: bool = False) -> Entry:
        """Publish a model to both channels; `wrong`: its golden set expects other answers."""
        model, chosen = self.work / f"{gain}.mlpackage", self.work / f"golden-{gain}"
        if not model.exists():  # else it is the other's too
            write_model(model, gain=gain, extra_bytes=20_000)
            golden.make(model, self.pictures, chosen)
        if wrong:
            other = self.work / f"other-{gain}"
            golden.make(write_model(self.work / f"x{gain}.mlpackage", gain=-gain), self.pictures, other)
            document = json.loads((other / "golden.json").read_text()) | {"model": model_digest(model)}
            (chosen / "golden.json").write_text(json.dumps(document))
        repository = replace(self.repository, name=name)
        entry = repository.publish([Form(model, chosen)])
        repository.promote()
        called = f"{name}/{entry.version}" if name is not None else f"{entry.version}"
        members = {f"{called}/{each.path}": each.sha256 for each in repository.manifest(entry).members}
        for file, sha256 in (members | {f"{called}/manifest": entry.variants[0].manifest}).items():
            self.names[file] = f"targets/{repository.collection}/members/{sha256}.{sha256}"
        return entry

    def swapped(self, entry: Entry, other: Entry) -> None:
        """Let `entry`, of the first model, lead to the other's manifest, as the release key alone can."""
        with self.of(FIRST).changing() as contents:
            line = contents.line("release").replacing(replace(entry, variants=other.variants))
            contents.put_line(line, contents.history("release"))
            role = channel_role(PAIR, "release")
            contents.roles.commit([role], Act("rollout", PAIR, FIRST, "release", entry.version))

    def state(self, name: str, files: dict[str, bytes] | None = None) -> None:
        """Keep the timestamp of now as a state, and what else is served in it."""
        timestamp = (self.repository.folder / "metadata/timestamp.json").read_bytes()
        for path, data in ({"metadata/timestamp.json": timestamp} | (files or {})).items():
            file = REPOSITORY / "states" / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        collection = self.repository.collection
        path = index_path(collection, "release")
        sha256 = self.targets(channel_role(collection, "release")).signed.targets[path].hashes["sha256"]
        self.names[f"{name}/index"] = f"targets/{collection}/release/{sha256}.index.json"

    def signed(self, metadata: Metadata[Any], key: str) -> bytes:
        """Metadata, signed by this key whoever should have."""
        metadata.signatures.clear()
        for signer in self.repository.keys.signers(key):
            metadata.sign(signer, append=True)
        return metadata.to_bytes()

    def snapshot(self) -> Metadata[Snapshot]:
        timestamp = Metadata[Timestamp].from_file(str(self.repository.folder / "metadata/timestamp.json"))
        at = timestamp.signed.snapshot_meta.version
        return Metadata[Snapshot].from_file(str(self.repository.folder / f"metadata/{at}.snapshot.json"))

    def targets(self, role: str) -> Metadata[Targets]:
        at = self.snapshot().signed.meta[f"{role}.json"].version
        return Metadata[Targets].from_file(str(self.repository.folder / f"metadata/{at}.{role}.json"))

    def led(self, snapshot: Metadata[Snapshot], expires: datetime | None = None) -> dict[str, bytes]:
        """A snapshot and a timestamp that leads to it, as whoever holds the online keys can sign them."""
        timestamp = Metadata[Timestamp].from_file(str(self.repository.folder / "metadata/timestamp.json"))
        snapshot.signed.version += 100
        timestamp.signed.version += 100
        timestamp.signed.snapshot_meta = MetaFile(snapshot.signed.version)
        timestamp.signed.expires = expires or timestamp.signed.expires
        return {
            f"metadata/{snapshot.signed.version}.snapshot.json": self.signed(snapshot, "snapshot"),
            "metadata/timestamp.json": self.signed(timestamp, "timestamp"),
        }


def tiny(maker: Maker) -> None:
    """The states of the collection with one model."""
    release = channel_role(TINY, "release")
    maker.state("empty")
    maker.version(0.02)
    maker.state("one")
    old_role = maker.targets(release)
    maker.version(0.03)
    maker.state("two")
    maker.state("expired", maker.led(maker.snapshot(), AT - timedelta(days=1)))
    mixed = maker.snapshot()  # the release role goes back to what it was, by the online keys alone
    mixed.signed.meta[f"{release}.json"] = MetaFile(old_role.signed.version)
    maker.state("mixed", maker.led(mixed))
    forged = maker.targets(release)  # signed by the staging key
    forged.signed.version += 1
    led = maker.snapshot()
    led.signed.meta[f"{release}.json"] = MetaFile(forged.signed.version)
    role = {f"metadata/{forged.signed.version}.{release}.json": maker.signed(forged, "staging")}
    maker.state("forged", maker.led(led) | role)
    maker.version(0.04, wrong=True)
    maker.state("wrong")
    maker.repository.rollback("release", 1)
    maker.state("rolled-back")
    maker.repository.promote(2)
    maker.repository.halt("release")
    maker.state("halted")
    maker.repository.offer_embedded("release")
    maker.state("embedded")


def pair(maker: Maker) -> None:
    """The states of the collection with two models."""
    maker.pair()
    first = maker.version(0.05, name=FIRST)
    maker.state("pair-one")
    second = maker.version(0.06, name=SECOND)
    maker.state("pair-both")
    maker.swapped(first, second)
    maker.state("pair-swapped")
    maker.swapped(first, first)
    maker.version(0.07, name=FIRST)
    maker.version(0.08, name=SECOND)
    maker.state("pair-next")
    maker.of(SECOND).halt("release")
    maker.state("pair-halted")
    maker.of(FIRST).rollback("release")
    maker.state("pair-back")
    maker.of(FIRST).promote(2)
    maker.version(0.05, name=SECOND)  # the very model that the first one had
    maker.state("pair-same")
    maker.version(0.09, name=FIRST)
    maker.version(0.1, name=SECOND, wrong=True)
    maker.state("pair-wrong")
    maker.of(SECOND).offer_embedded("release")
    maker.state("pair-embedded")


def main() -> None:
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    REPOSITORY.mkdir()
    with tempfile.TemporaryDirectory() as work:
        maker = Maker(Path(work))
        tiny(maker)
        pair(maker)
        for part in ("metadata", "targets"):
            shutil.copytree(maker.repository.folder / part, REPOSITORY / part)
        (REPOSITORY / "metadata/timestamp.json").unlink()
        for unasked in (*REPOSITORY.rglob("*.history.json*"), *REPOSITORY.rglob("*.gz")):
            unasked.unlink()  # no client asks for it, or this server has no use for it
        (REPOSITORY / "names.json").write_text(json.dumps(maker.names, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
