"""Make repository/ anew: signed with keys that are thrown away, good until the year 2126.

PYTHONPATH=. python conformance/make.py       from the root of the repository; the vectors name what is in it

`repository/{root.json,metadata/,targets/}` is everything that was ever signed; `states/<name>/` lies over it
and has the timestamp of one moment, or what an attacker serves. `names.json` says which file is which.
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
from coremlops.collection import channel_role, index_path
from coremlops.model import model_digest
from coremlops.release import Repository
from coremlops.release.expiry import Expiry
from coremlops.release.terms import Form
from tests.release.models import write_model, write_pictures

REPOSITORY = Path(__file__).resolve().parent / "repository"
NAME = "tiny"
LONG = Expiry(*(36_500,) * 8)
AT = datetime(2026, 11, 25, tzinfo=UTC)


class Maker:
    """The repository as it grows, and where its states are kept."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.pictures = write_pictures(work / "pictures")
        made = Repository.init(
            work / "repository", NAME, config=work / "config", clock=lambda: AT, expiry=LONG
        )
        self.repository = replace(made, clock_checked=True)  # a timestamp that lives so long is no mistake
        self.names: dict[str, str] = {}
        shutil.copy(self.repository.root_file, REPOSITORY / "root.json")

    def version(self, name: str, *, gain: float, wrong: bool = False) -> int:
        """Publish a model to both channels; `wrong`: its golden set expects other answers."""
        model, chosen = self.work / f"{name}.mlpackage", self.work / f"golden-{name}"
        write_model(model, gain=gain, extra_bytes=20_000)
        golden.make(model, self.pictures, chosen)
        if wrong:
            other = self.work / f"other-{name}"
            golden.make(write_model(self.work / f"x{name}.mlpackage", gain=-gain), self.pictures, other)
            document = json.loads((other / "golden.json").read_text()) | {"model": model_digest(model)}
            (chosen / "golden.json").write_text(json.dumps(document))
        entry = self.repository.publish([Form(model, chosen)])
        self.repository.promote()
        for member in self.repository.manifest(entry).members:
            path = f"targets/{NAME}/members/{member.sha256}.{member.sha256}"
            self.names[f"{entry.version}/{member.path}"] = path
        manifest = entry.variants[0].manifest
        self.names[f"{entry.version}/manifest"] = f"targets/{NAME}/members/{manifest}.{manifest}"
        return entry.version

    def state(self, name: str, files: dict[str, bytes] | None = None) -> None:
        """Keep the timestamp of now as a state, and what else is served in it."""
        timestamp = (self.repository.folder / "metadata/timestamp.json").read_bytes()
        for path, data in ({"metadata/timestamp.json": timestamp} | (files or {})).items():
            file = REPOSITORY / "states" / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        role = self.targets(channel_role(NAME, "release"))
        index = role.signed.targets[index_path(NAME, "release")]
        self.names[f"{name}/index"] = f"targets/{NAME}/release/{index.hashes['sha256']}.index.json"

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


def main() -> None:
    shutil.rmtree(REPOSITORY, ignore_errors=True)
    REPOSITORY.mkdir()
    with tempfile.TemporaryDirectory() as work:
        maker = Maker(Path(work))
        maker.state("empty")
        maker.version("one", gain=0.02)
        maker.state("one")
        old_role = maker.targets(channel_role(NAME, "release"))
        maker.version("two", gain=0.03)
        maker.state("two")
        maker.state("expired", maker.led(maker.snapshot(), AT - timedelta(days=1)))
        mixed = maker.snapshot()  # the release role goes back to what it was, by the online keys alone
        mixed.signed.meta[f"{NAME}-release.json"] = MetaFile(old_role.signed.version)
        maker.state("mixed", maker.led(mixed))
        forged = maker.targets(channel_role(NAME, "release"))  # signed by the staging key
        forged.signed.version += 1
        led = maker.snapshot()
        led.signed.meta[f"{NAME}-release.json"] = MetaFile(forged.signed.version)
        role = {f"metadata/{forged.signed.version}.{NAME}-release.json": maker.signed(forged, "staging")}
        maker.state("forged", maker.led(led) | role)
        maker.version("wrong", gain=0.04, wrong=True)
        maker.state("wrong")
        maker.repository.rollback("release", 1)
        maker.state("rolled-back")
        maker.repository.promote(2)
        maker.repository.halt("release")
        maker.state("halted")
        maker.repository.offer_embedded("release")
        maker.state("embedded")
        for part in ("metadata", "targets"):
            shutil.copytree(maker.repository.folder / part, REPOSITORY / part)
        (REPOSITORY / "metadata/timestamp.json").unlink()
        for unasked in (*REPOSITORY.rglob("*.history.json*"), *REPOSITORY.rglob("*.gz")):
            unasked.unlink()  # no client asks for it, or this server has no use for it
        (REPOSITORY / "names.json").write_text(json.dumps(maker.names, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
