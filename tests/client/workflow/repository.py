"""A small TUF repository of static files, of which a test can publish anything, right or wrong."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, Signer
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    MetaFile,
    Root,
    Signed,
    Snapshot,
    SuccinctRoles,
    TargetFile,
    Targets,
    Timestamp,
)

TOP = ("root", "targets", "snapshot", "timestamp")
Edit = Callable[[dict[str, Any]], object]


class TufRepository:
    """Version 1 of the four top-level roles is published, each signed by one key.

    A test changes `root`, `timestamp`, `snapshot` or `targets` or who signs, and publishes. `edits` are made
    to what a role signs, `spoils` to its file afterwards. `consistent`: names carry versions and hashes.
    `hashes`: of metadata files, too.
    """

    def __init__(self, folder: Path, *, consistent: bool = True) -> None:
        self.folder = folder
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.hashes = False
        self.signers: dict[str, list[Signer]] = {name: [new_signer()] for name in TOP}
        self.edits: dict[str, Edit] = {}
        self.spoils: dict[str, Edit] = {}
        self.published: dict[str, list[bytes]] = {}
        end = self.now + timedelta(days=30)
        self.root = Root(expires=end, consistent_snapshot=consistent)
        self.timestamp = Timestamp(expires=end)
        self.snapshot = Snapshot(expires=end)
        self.delegated: dict[str, Targets] = {"targets": Targets(expires=end)}
        for name in TOP:
            self.root.add_key(self.signers[name][0].public_key, name)
        for part in ("metadata", "targets"):
            (folder / part).mkdir(parents=True)
        self.publish(*TOP)

    @property
    def targets(self) -> Targets:
        """The top-level targets role."""
        return self.delegated["targets"]

    def publish(self, *roles: str) -> None:
        """Sign these roles anew, each a version later if it is not its first, and put them where a client
        looks.

        In this order: the snapshot learns of targets roles, the timestamp of snapshots, published before it.
        No roles: targets, snapshot and timestamp.
        """
        for role in roles or ("targets", "snapshot", "timestamp"):
            signed = self._signed(role)
            signed.version += role in self.published
            data = self.sign(role)
            self.put(role, data, signed.version)
            meta = MetaFile(signed.version)
            if self.hashes:
                meta = MetaFile(signed.version, len(data), {"sha256": sha256(data).hexdigest()})
            if role == "snapshot":
                self.timestamp.snapshot_meta = meta
            elif role not in TOP or role == "targets":
                self.snapshot.meta[f"{role}.json"] = meta

    def sign(self, role: str) -> bytes:
        """The file of a role as it is now: changed by its edit, signed by its signers, spoilt."""
        signed = self._signed(role).to_dict()
        if role in self.edits:
            self.edits[role](signed)
        payload = str(encode_canonical(signed)).encode()
        value = {
            "signed": signed,
            "signatures": [each.sign(payload).to_dict() for each in self.signers[role]],
        }
        if role in self.spoils:
            self.spoils[role](value)
        return json.dumps(value).encode()

    def put(self, role: str, data: bytes, version: int) -> None:
        """These bytes, as this version of the role."""
        self.published.setdefault(role, []).append(data)
        prefix = f"{version}." if role == "root" or self.root.consistent_snapshot else ""
        name = "timestamp.json" if role == "timestamp" else f"{prefix}{quote(role, safe='')}.json"
        (self.folder / "metadata" / name).write_bytes(data)

    def keys(self, role: str, signers: Sequence[Signer], *, threshold: int = 1) -> None:
        """From now on these are the root's keys for a role, and sign it; publish the root to say so."""
        for keyid in list(self.root.roles[role].keyids):
            self.root.revoke_key(keyid, role)
        for signer in signers:
            self.root.add_key(signer.public_key, role)
        self.root.roles[role].threshold = threshold
        self.signers[role] = list(signers)

    def delegate(
        self, parent: str, name: str, paths: tuple[str, ...] = ("*",), *, terminating: bool = False
    ) -> None:
        """`parent` delegates these paths to the role `name`, with a key of this parent's own."""
        role = DelegatedRole(name, [], 1, terminating, paths=list(paths))
        delegations = self.delegated[parent].delegations
        if delegations is None:
            delegations = self.delegated[parent].delegations = Delegations({}, {})
        assert delegations.roles is not None
        delegations.roles[name] = role
        self.delegated.setdefault(name, Targets(expires=self.root.expires))
        signer = new_signer()
        self.delegated[parent].add_key(signer.public_key, name)
        self.signers.setdefault(name, []).append(signer)

    def bins(self, bits: int, prefix: str) -> SuccinctRoles:
        """`targets` delegates everything to 2**bits hash bins, which share a key."""
        roles = SuccinctRoles([], 1, bits, prefix)
        signer = new_signer()
        self.targets.delegations = Delegations({}, None, roles)
        self.targets.add_key(signer.public_key)
        for name in roles.get_roles():
            self.delegated[name] = Targets(expires=self.root.expires)
            self.signers[name] = [signer]
        return roles

    def add(self, role: str, path: str, content: bytes, *, algorithms: tuple[str, ...] = ("sha256",)) -> Path:
        """A target of a role; return its file, for a test to tamper with."""
        info = TargetFile.from_data(path, content, list(algorithms))
        self.delegated[role].targets[path] = info
        folder, slash, name = path.rpartition("/")
        prefix = f"{next(iter(info.hashes.values()))}." if self.root.consistent_snapshot else ""
        file = self.folder / "targets" / f"{folder}{slash}{prefix}{name}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def _signed(self, role: str) -> Signed:
        top: dict[str, Signed] = {"root": self.root, "timestamp": self.timestamp, "snapshot": self.snapshot}
        return top[role] if role in top else self.delegated[role]


def new_signer() -> CryptoSigner:
    """A new Ed25519 key."""
    return CryptoSigner.generate_ed25519()
