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

from securesystemslib.signer import Signer
from tuf.api.metadata import Key, Metadata, MetaFile, Root, Snapshot, T, Targets, Timestamp

from coremlops.collection import CHANNELS, channel_role, halt_role, members_role
from coremlops.errors import RepositoryError
from coremlops.files import write_atomic
from coremlops.release.audit import FILE, Act, Log
from coremlops.release.expiry import Clock, Expiry, due_before
from coremlops.release.keys import KeyFolder
from coremlops.release.signing import TOP_LEVEL, key_of, read_metadata, sign, verify

_ROOT_FILE = re.compile(r"([1-9][0-9]{0,8})\.root\.json")
_BIN = re.compile(r"(.+-members)\d+-[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One role: its version, its end, which key signs it, whether enough of it is here, and whether it is
    due.

    The bins of a collection's members are one line: the version of the newest, the end of the first to end.
    """

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
        self.log = Log(folder / FILE)
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
        """`targets` itself or a role that it, or a collection's members, delegate to."""
        if role not in self._targets:
            meta = self.snapshot.signed.meta.get(f"{role}.json")
            if meta is None:
                raise RepositoryError(f"the snapshot knows no role {role}")
            metadata: Metadata[Targets] = self._read(f"{meta.version}.{role}.json", Targets, role)
            self._expect(metadata, role, meta.version)
            self._targets[role] = metadata
        return self._targets[role]

    def add(self, role: str, metadata: Metadata[Targets]) -> None:
        """A role that is new, or begins anew; its version goes on from the one that the snapshot knows."""
        meta = self.snapshot.signed.meta.get(f"{role}.json")
        metadata.signed.version = 0 if meta is None else meta.version
        self._targets[role] = metadata

    def require_keys(self, roles: Iterable[str]) -> None:
        """Raise `RepositoryError` unless enough of these roles' keys are here, and are those devices
        trust."""
        for role in roles:
            trusted, found = self._delegator(role).get_delegated_role(role), self._signers(role)
            if not found:
                raise RepositoryError(
                    f"the {key_of(role)} key in {self._keys.folder} is not one that this repository trusts"
                )
            if len(found) < trusted.threshold:
                raise RepositoryError(
                    f"{role} needs {trusted.threshold} signatures, this machine has {len(found)} of its keys"
                )

    def commit(self, changed: Iterable[str], act: Act) -> None:
        """Sign the changed targets roles anew, then snapshot and timestamp; write all, the timestamp last.

        Raises `RepositoryError` when a key is missing (before anything is written), `OSError` from the disk.
        """
        names = list(dict.fromkeys(changed))
        self.require_keys(dict.fromkeys(_BIN.sub(r"\1", name) for name in [*names, "snapshot", "timestamp"]))
        # A parent first: its bins are verified against what it delegates now.
        names.sort(key=lambda name: _BIN.fullmatch(name) is not None)
        files: list[tuple[str, bytes]] = []
        for name in names:
            metadata = self.targets(name)
            files.append((f"{metadata.signed.version + 1}.{name}.json", self._sign(metadata, name)))
            self.snapshot.signed.meta[f"{name}.json"] = MetaFile(metadata.signed.version)
        snapshot = self._sign(self.snapshot, "snapshot")
        files.append((f"{self.snapshot.signed.version}.snapshot.json", snapshot))
        self.timestamp.signed.snapshot_meta = MetaFile(self.snapshot.signed.version)
        timestamp = self._sign(self.timestamp, "timestamp")
        for file, data in files:
            write_atomic(self._metadata / file, data)
        acting = [name for name in names if not _BIN.fullmatch(name)] or ["timestamp"]
        by = {name: self._signers(name) for name in acting}
        self.log.append(
            act,
            at=self._clock(),
            roles={name: self.targets(name).signed.version for name in acting if name != "timestamp"},
            keys={name: [signer.public_key.keyid for signer in signers] for name, signers in by.items()},
            timestamp=self.timestamp.signed.version,
            signers=by[acting[-1]][:1],
        )
        write_atomic(self._metadata / "timestamp.json", timestamp)

    def status(self) -> tuple[RoleStatus, ...]:
        """Every role, in the order of trust."""
        everything: list[tuple[str, list[Metadata[Any]]]] = [
            ("root", [self.root]),
            ("targets", [self.targets("targets")]),
        ]
        for collection in self.collections:
            names = [channel_role(collection, each) for each in reversed(CHANNELS)]
            for name in [halt_role(collection), *names]:
                everything.append((name, [self.targets(name)]))
            everything.append(
                (members_role(collection), [self.targets(name) for name in self.bins(collection)])
            )
        everything += [("snapshot", [self.snapshot]), ("timestamp", [self.timestamp])]
        return tuple(self._status(name, parts) for name, parts in everything)

    def bins(self, collection: str) -> tuple[str, ...]:
        """The members' role of a collection, and its bins."""
        role = members_role(collection)
        delegations = self.targets(role).signed.delegations
        bins = delegations.succinct_roles if delegations is not None else None
        return (role, *(bins.get_roles() if bins is not None else ()))

    def public_keys(self) -> dict[str, Key]:
        """Every key that this repository's roots, or its `targets` role, ever named, by id."""
        found: dict[str, Key] = {}
        for path in sorted(self._metadata.glob("*.root.json")):
            found |= read_metadata(path, Root).signed.keys
        for path in sorted(self._metadata.glob("*.targets.json")):
            delegations = read_metadata(path, Targets).signed.delegations
            found |= delegations.keys if delegations is not None else {}
        return found

    def due(self, role: str) -> bool:
        """Whether a role should be signed anew."""
        metadata = self._metadata_of(role)
        return bool(metadata.signed.expires - due_before(self._expiry.lifetime(role)) <= self._clock())

    def _status(self, name: str, parts: list[Metadata[Any]]) -> RoleStatus:
        end = min(part.signed.expires for part in parts)
        trusted = self._delegator(name).get_delegated_role(name)
        have = self._keys.count(key_of(name))
        return RoleStatus(
            role=name,
            version=max(part.signed.version for part in parts),
            expires=end,
            key=key_of(name),
            key_present=have >= trusted.threshold,
            due=end - due_before(self._expiry.lifetime(name)) <= self._clock(),
            expired=end <= self._clock(),
        )

    def _metadata_of(self, role: str) -> Metadata[Any]:
        top: dict[str, Metadata[Any]] = {
            "root": self.root,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
        }
        return top[role] if role in top else self.targets(role)

    def _sign(self, metadata: Metadata[Any], role: str) -> bytes:
        metadata.signed.version += 1
        metadata.signed.expires = self._clock() + self._expiry.lifetime(_BIN.sub(r"\1", role))
        return sign(metadata, role, self._signers(role), self._delegator(role))

    def _signers(self, role: str) -> list[Signer]:
        """The signers of this machine that devices trust for a role."""
        trusted = self._delegator(role).get_delegated_role(role).keyids
        return [each for each in self._keys.signers(key_of(role)) if each.public_key.keyid in trusted]

    def _delegator(self, role: str) -> Root | Targets:
        if role in TOP_LEVEL:
            return self.root.signed
        part = _BIN.fullmatch(role)
        return self.targets(part[1] if part else "targets").signed

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
