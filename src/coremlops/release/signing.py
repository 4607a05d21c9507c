"""One role's metadata: read from a file, signed, verified."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import (
    Metadata,
    Root,
    T,
    Targets,
)
from tuf.api.serialization import DeserializationError, SerializationError

from coremlops.errors import RepositoryError
from coremlops.release.change import Lack

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
