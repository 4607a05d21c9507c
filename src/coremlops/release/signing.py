"""One role's metadata: read from a file, signed, verified; and the first metadata of a new repository."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.exceptions import UnsignedMetadataError
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
from tuf.api.serialization import DeserializationError, SerializationError

from coremlops.collection import (
    CHANNELS,
    Halts,
    Index,
    channel_role,
    halt_path,
    halt_role,
    index_path,
    members_role,
)
from coremlops.errors import RepositoryError
from coremlops.release.change import Lack
from coremlops.release.expiry import Clock, Expiry
from coremlops.release.keys import KeyFolder
from coremlops.release.targets import as_target

MAX_METADATA_BYTES = 50_000_000
TOP_LEVEL = ("root", "targets", "snapshot", "timestamp")
ONLINE = ("snapshot", "timestamp")


def key_of(role: str) -> str:
    """The name of the key that signs a role."""
    if role in TOP_LEVEL:
        return role
    return next((key for key in ("release", "halt") if role.endswith(f"-{key}")), "staging")


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


def sign(metadata: Metadata[Any], role: str, signers: Sequence[Signer], delegator: Root | Targets) -> bytes:
    """The role's file, newly signed by all of them and verified as a device would. Raises
    `RepositoryError`."""
    metadata.signatures.clear()
    add_signatures(metadata, role, signers, [each.public_key.keyid for each in signers])
    verify(delegator, role, metadata)
    return metadata.to_bytes()


def add_signatures(
    metadata: Metadata[Any], role: str, signers: Sequence[Signer], keyids: Collection[str]
) -> None:
    """Sign with those that have one of these ids. Raises `RepositoryError`."""
    for signer in signers:
        keyid = signer.public_key.keyid
        if keyid not in keyids:
            continue
        try:
            metadata.sign(signer, append=True)
        except UnsignedMetadataError as error:
            cause = error.__cause__ or error
            raise RepositoryError(
                f"{role}: the key {keyid[:8]} does not sign: {type(cause).__name__}: {cause!s:.160}"
            ) from None


def keep_signatures(metadata: Metadata[Any], keyids: Collection[str]) -> None:
    """Take away signatures of keys that are none of these."""
    for keyid in [each for each in metadata.signatures if each not in keyids]:
        del metadata.signatures[keyid]


def lack(role: str, delegator: Root | Targets, metadata: Metadata[Any]) -> Lack:
    """How many of the signatures that `delegator` wants of a role its metadata has. Raises
    `RepositoryError`."""
    try:
        result = delegator.get_verification_result(role, metadata.signed_bytes, metadata.signatures)
    except ValueError:
        raise RepositoryError(f"nothing delegates to a role {role!r:.100}") from None
    return Lack(role, key_of(role), len(result.signed), result.threshold)


def verify(delegator: Root | Targets, role: str, metadata: Metadata[Any]) -> None:
    """Raise `RepositoryError` unless `delegator`'s keys for `role` signed this metadata."""
    try:
        delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (TufError, SerializationError, ValueError) as error:
        raise RepositoryError(f"{role}: not signed by the key that it should be: {error!s:.200}") from None


def first_files(
    collection: str,
    keys: KeyFolder,
    *,
    clock: Clock,
    expiry: Expiry,
    thresholds: Mapping[str, int] | None = None,
) -> dict[str, bytes]:
    """Every file of a new repository by its path: all roles at version 1, both channels empty.

    `thresholds`: how many signatures a key's roles want, 1 unless said.
    """
    wanted = thresholds or {}
    now = clock()
    files: dict[str, bytes] = {}
    root = Root(version=1, expires=now + expiry.lifetime("root"), consistent_snapshot=True)
    for name in TOP_LEVEL:
        found = [signer.public_key for signer in keys.signers(name)]
        root.keys |= {key.keyid: key for key in found}
        root.roles[name] = Role([key.keyid for key in found], wanted.get(name, 1))
    targets = Targets(1, delegations=_delegations(collection, keys, wanted))
    plain: list[tuple[str, Signed, Root | Targets]] = [("targets", targets, root)]
    halts = Targets(1)
    for channel in CHANNELS:
        role = Targets(1)
        for holder, path, data in (
            (role, index_path(collection, channel), Index(collection, channel).to_bytes()),
            (halts, halt_path(collection, channel), Halts(collection, channel).to_bytes()),
        ):
            holder.targets[path], file = as_target(path, data)
            files[f"targets/{file}"] = data
        plain.append((channel_role(collection, channel), role, targets))
    plain += [(halt_role(collection), halts, targets), (members_role(collection), Targets(1), targets)]
    snapshot = Snapshot(1, meta={f"{name}.json": MetaFile(1) for name, _, _ in plain})
    plain += [("root", root, root), ("snapshot", snapshot, root), ("timestamp", Timestamp(1), root)]
    for name, signed, delegator in plain:
        signed.expires = now + expiry.lifetime(name)
        file = "timestamp.json" if name == "timestamp" else f"1.{name}.json"
        files[f"metadata/{file}"] = sign(Metadata(signed), name, keys.signers(key_of(name)), delegator)
    return files


def _delegations(collection: str, keys: KeyFolder, thresholds: Mapping[str, int]) -> Delegations:
    """The collection's roles: halt, release, staging, members; disjoint paths, each ending the search."""
    plan = [
        (halt_role(collection), f"{collection}/halt/*"),
        (channel_role(collection, "release"), f"{collection}/release/*"),
        (channel_role(collection, "staging"), f"{collection}/staging/*"),
        (members_role(collection), f"{collection}/members/*"),
    ]
    public: dict[str, Key] = {}
    roles: dict[str, DelegatedRole] = {}
    for role, path in plan:
        found = [signer.public_key for signer in keys.signers(key_of(role))]
        public |= {key.keyid: key for key in found}
        need = thresholds.get(key_of(role), 1)
        roles[role] = DelegatedRole(role, [key.keyid for key in found], need, True, paths=[path])
    return Delegations(public, roles)
