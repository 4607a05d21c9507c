"""One role's metadata: read from a file, signed, verified; and the first metadata of a new repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Key,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    T,
    Targets,
    Timestamp,
)
from tuf.api.serialization import DeserializationError

from coremlops.collection import CHANNELS, Index, channel_role, index_path, members_role
from coremlops.errors import RepositoryError
from coremlops.release.expiry import Clock, Expiry
from coremlops.release.keys import KeyFolder
from coremlops.release.targets import as_target

MAX_METADATA_BYTES = 50_000_000
TOP_LEVEL = ("root", "targets", "snapshot", "timestamp")


def key_of(role: str) -> str:
    """The name of the key that signs a role."""
    if role in TOP_LEVEL:
        return role
    return "release" if role.endswith("-release") else "staging"


def read_metadata(path: Path, kind: type[T]) -> Metadata[T]:
    """One metadata file, of this type; its signatures are not checked. Raises `RepositoryError`."""
    try:
        if path.stat().st_size > MAX_METADATA_BYTES:
            raise RepositoryError(f"{path} is larger than {MAX_METADATA_BYTES} bytes")
        metadata = Metadata[T].from_bytes(path.read_bytes())
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read: {error.strerror}") from None
    except (DeserializationError, TufError, RecursionError) as error:
        raise RepositoryError(f"{path} is no TUF metadata: {error!s:.200}") from None
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(f"{path}: expected {kind.__name__}, got {type(metadata.signed).__name__}")
    return metadata


def sign(metadata: Metadata[Any], role: str, signer: CryptoSigner, delegator: Root | Targets) -> bytes:
    """The role's file, newly signed and verified as a device would. Raises `RepositoryError`."""
    metadata.sign(signer)
    verify(delegator, role, metadata)
    return metadata.to_bytes()


def verify(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    """Raise `RepositoryError` unless `delegator`'s keys for `role` signed this metadata."""
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (TufError, ValueError) as error:
        raise RepositoryError(f"{role}: not signed by the key that it should be: {error!s:.200}") from None


def first_files(collection: str, keys: KeyFolder, *, clock: Clock, expiry: Expiry) -> dict[str, bytes]:
    """Every file of a new repository by its path: all roles at version 1, both channels empty."""
    now = clock()
    files: dict[str, bytes] = {}
    root = Root(version=1, expires=now + expiry.lifetime("root"), consistent_snapshot=True)
    for name in TOP_LEVEL:
        key = keys.signer(name).public_key
        root.keys[key.keyid] = key
        root.roles[name] = Role([key.keyid], 1)
    targets = Targets(1, delegations=_delegations(collection, keys))
    plain: list[tuple[str, Signed, Root | Targets]] = [("targets", targets, root)]
    for channel in CHANNELS:
        path = index_path(collection, channel)
        data = Index(collection, channel).to_bytes()
        target, file = as_target(path, data)
        files[f"targets/{file}"] = data
        plain.append((channel_role(collection, channel), Targets(1, targets={path: target}), targets))
    plain.append((members_role(collection), Targets(1), targets))
    snapshot = Snapshot(1, meta={f"{name}.json": MetaFile(1) for name, _, _ in plain})
    plain += [("root", root, root), ("snapshot", snapshot, root), ("timestamp", Timestamp(1), root)]
    for name, signed, delegator in plain:
        signed.expires = now + expiry.lifetime(name)
        file = "timestamp.json" if name == "timestamp" else f"1.{name}.json"
        files[f"metadata/{file}"] = sign(Metadata(signed), name, keys.signer(key_of(name)), delegator)
    return files


def _delegations(collection: str, keys: KeyFolder) -> Delegations:
    """The collection's three roles: release, staging, members; disjoint paths, each ending the search."""
    plan = [
        (channel_role(collection, "release"), f"{collection}/release/*"),
        (channel_role(collection, "staging"), f"{collection}/staging/*"),
        (members_role(collection), f"{collection}/members/*"),
    ]
    public: dict[str, Key] = {}
    roles: dict[str, DelegatedRole] = {}
    for role, path in plan:
        key = keys.signer(key_of(role)).public_key
        public[key.keyid] = key
        roles[role] = DelegatedRole(role, [key.keyid], 1, True, paths=[path])
    return Delegations(public, roles)
