"""The TUF roles of a repository: read and verified from disk, changed, signed and committed.

`timestamp.json` is the commit point: what it does not lead to, a crash's leftovers included, does not exist
for a reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, T, Targets, Timestamp

from coremlops.collection import CHANNELS, channel_role, members_role
from coremlops.errors import RepositoryError
from coremlops.files import write_atomic
from coremlops.release.expiry import Clock, Expiry, due_before
from coremlops.release.keys import KeyFolder
from coremlops.release.signing import TOP_LEVEL, key_of, read_metadata, sign, verify

_ROOT_FILE = re.compile(r"([1-9][0-9]{0,8})\.root\.json")


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One role: its version, its end, which key signs it, whether that key is here, and whether it is due."""

    role: str
    version: int
    expires: datetime
    key: str
    key_present: bool
    due: bool
    expired: bool


class Roles:
    """The committed metadata of one repository, each role verified against the one that delegates to it.

    `folder`: the repository. Roles are read when first asked for. Raises `RepositoryError`.
    """

    def __init__(self, folder: Path, keys: KeyFolder, *, clock: Clock, expiry: Expiry) -> None:
        self._metadata = folder / "metadata"
        self._keys = keys
        self._clock = clock
        self._expiry = expiry
        self._targets: dict[str, Metadata[Targets]] = {}
        self.root: Metadata[Root] = self._read_root()
        self.timestamp: Metadata[Timestamp] = self._read("timestamp.json", Timestamp, "timestamp")
        at = self.timestamp.signed.snapshot_meta.version
        self.snapshot: Metadata[Snapshot] = self._read(f"{at}.snapshot.json", Snapshot, "snapshot")
        self._expect(self.snapshot, "snapshot", at)

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections that the repository has, in order."""
        delegations = self.targets("targets").signed.delegations
        names = delegations.roles if delegations is not None and delegations.roles else {}
        suffix = "-members"
        return tuple(name.removesuffix(suffix) for name in names if name.endswith(suffix))

    def targets(self, role: str) -> Metadata[Targets]:
        """`targets` itself or a role that it delegates to."""
        if role not in self._targets:
            meta = self.snapshot.signed.meta.get(f"{role}.json")
            if meta is None:
                raise RepositoryError(f"the snapshot knows no role {role}")
            metadata: Metadata[Targets] = self._read(f"{meta.version}.{role}.json", Targets, role)
            self._expect(metadata, role, meta.version)
            self._targets[role] = metadata
        return self._targets[role]

    def require_keys(self, roles: Iterable[str]) -> None:
        """Raise `RepositoryError` unless these roles' keys are here and are the ones that devices trust."""
        for role in roles:
            name = key_of(role)
            keyid = self._keys.signer(name).public_key.keyid
            if keyid not in self._delegator(role).get_delegated_role(role).keyids:
                raise RepositoryError(
                    f"the {name} key in {self._keys.folder} is not the one that this repository trusts"
                )

    def commit(self, changed: Iterable[str]) -> None:
        """Sign the changed targets roles anew, then snapshot and timestamp; write all, the timestamp last.

        Raises `RepositoryError` when a key is missing (before anything is written), `OSError` from the disk.
        """
        names = list(dict.fromkeys(changed))
        self.require_keys([*names, "snapshot", "timestamp"])
        files: list[tuple[str, bytes]] = []
        for name in names:
            metadata = self.targets(name)
            files.append((f"{metadata.signed.version + 1}.{name}.json", self._sign(metadata, name)))
            self.snapshot.signed.meta[f"{name}.json"] = MetaFile(metadata.signed.version)
        snapshot = self._sign(self.snapshot, "snapshot")
        files.append((f"{self.snapshot.signed.version}.snapshot.json", snapshot))
        self.timestamp.signed.snapshot_meta = MetaFile(self.snapshot.signed.version)
        files.append(("timestamp.json", self._sign(self.timestamp, "timestamp")))
        for file, data in files:
            write_atomic(self._metadata / file, data)

    def status(self) -> tuple[RoleStatus, ...]:
        """Every role, in the order of trust."""
        now = self._clock()
        present = self._keys.present()
        everything: list[tuple[str, Metadata[Any]]] = [
            ("root", self.root),
            ("targets", self.targets("targets")),
        ]
        for collection in self.collections:
            names = [channel_role(collection, each) for each in reversed(CHANNELS)]
            everything += [(name, self.targets(name)) for name in [*names, members_role(collection)]]
        everything += [("snapshot", self.snapshot), ("timestamp", self.timestamp)]
        result = []
        for name, metadata in everything:
            end = metadata.signed.expires
            result.append(
                RoleStatus(
                    role=name,
                    version=metadata.signed.version,
                    expires=end,
                    key=key_of(name),
                    key_present=key_of(name) in present,
                    due=end - due_before(self._expiry.lifetime(name)) <= now,
                    expired=end <= now,
                )
            )
        return tuple(result)

    def _sign(self, metadata: Metadata[Any], role: str) -> bytes:
        metadata.signed.version += 1
        metadata.signed.expires = self._clock() + self._expiry.lifetime(role)
        return sign(metadata, role, self._keys.signer(key_of(role)), self._delegator(role))

    def _delegator(self, role: str) -> Root | Targets:
        return self.root.signed if role in TOP_LEVEL else self.targets("targets").signed

    def _read_root(self) -> Metadata[Root]:
        versions = [
            int(match[1])
            for path in self._metadata.glob("*.root.json")
            if (match := _ROOT_FILE.fullmatch(path.name))
        ]
        if not versions:
            raise RepositoryError(f"{self._metadata} holds no root.json")
        root: Metadata[Root] = read_metadata(self._metadata / f"{max(versions)}.root.json", Root)
        verify(root.signed, "root", root)
        return root

    def _read(self, file: str, kind: type[T], role: str) -> Metadata[T]:
        metadata = read_metadata(self._metadata / file, kind)
        verify(self._delegator(role), role, metadata)
        return metadata

    def _expect(self, metadata: Metadata[Any], role: str, version: int) -> None:
        if metadata.signed.version != version:
            raise RepositoryError(f"{role}: expected version {version}, got {metadata.signed.version}")
