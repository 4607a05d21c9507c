"""A thief of keys who also holds the server: what he can sign, he signs; what he serves, devices see."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Targets

from coremlops.release import Repository
from coremlops.release.targets import as_target

Change = Callable[[Any], object]


@dataclass
class Thief:
    """`keys`: the names of the keys he has. `folder`: his copy of the repository, which he serves."""

    repository: Repository
    folder: Path
    keys: tuple[str, ...]

    @staticmethod
    def of(repository: Repository, folder: Path, *keys: str) -> Thief:
        """The thief has the repository as it is now."""
        shutil.copytree(repository.folder, folder)
        return Thief(repository, folder, keys)

    def read(self, role: str, version: int | None = None) -> Metadata[Any]:
        """A role's file: the newest, or that version."""
        name = f"{version or self.newest(role)}.{role}.json"
        return Metadata.from_file(str(self._metadata / ("timestamp.json" if role == "timestamp" else name)))

    def newest(self, role: str) -> int:
        return max(
            (int(path.name.split(".")[0]) for path in self._metadata.glob(f"*.{role}.json")), default=0
        )

    def forge(self, role: str, change: Change, *, by: str | None = None, version: int | None = None) -> int:
        """The role, changed; as its next version, or as that one in its place; signed by the key named `by`.

        Returns the version. Raises `AssertionError` for a key that he does not have.
        """
        key = by or role
        assert key in self.keys
        metadata = self.read(role)
        metadata.signed.version = version or metadata.signed.version + 1
        change(metadata.signed)
        metadata.signatures.clear()
        for signer in self.repository.keys.signers(key):
            metadata.sign(signer, append=True)
        name = "timestamp.json" if role == "timestamp" else f"{metadata.signed.version}.{role}.json"
        metadata.to_file(str(self._metadata / name))
        return int(metadata.signed.version)

    def lead_to(self, **versions: int) -> None:
        """A new snapshot with these versions of roles ("_" for "-"), and a new timestamp for it."""
        meta = {f"{role.replace('_', '-')}.json": MetaFile(version) for role, version in versions.items()}
        snapshot = self.forge("snapshot", lambda signed: signed.meta.update(meta))
        self.forge("timestamp", lambda signed: setattr(signed, "snapshot_meta", MetaFile(snapshot)))

    def document(self, path: str, data: bytes) -> Change:
        """A change of a targets role: this document at that path."""

        def change(signed: Targets) -> None:
            signed.targets[path], file = as_target(path, data)
            (self.folder / "targets" / file).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / "targets" / file).write_bytes(data)

        return change

    @property
    def _metadata(self) -> Path:
        return self.folder / "metadata"
