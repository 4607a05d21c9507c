"""Target files: how a target is described in metadata, and where its file lies (consistent snapshots)."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
from pathlib import Path

from tuf.api.metadata import TargetFile

from coremlops.collection import Member
from coremlops.digest import sha256_bytes, sha256_file
from coremlops.errors import RepositoryError
from coremlops.files import TEMPORARY_SUFFIX, write_atomic

GZIP_FROM_BYTES = 1024
_PIECE_BYTES = 1 << 20


def file_of(path: str, sha256: str) -> str:
    """A target's file below `targets/`: the hash stands before the last part of its path."""
    folder, _, name = path.rpartition("/")
    return f"{folder}/{sha256}.{name}"


def as_target(path: str, data: bytes) -> tuple[TargetFile, str]:
    """The description of a target with this content, and its file below `targets/`."""
    sha256 = sha256_bytes(data)
    return TargetFile(len(data), {"sha256": sha256}, path), file_of(path, sha256)


def read_target(folder: Path, target: TargetFile) -> bytes:
    """A small target's content, checked against its signed length and hash. Raises `RepositoryError`."""
    sha256 = target.hashes.get("sha256", "")
    path = folder / file_of(target.path, sha256)
    try:
        data = path.read_bytes() if path.stat().st_size == target.length else b""
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) != target.length or sha256_bytes(data) != sha256:
        raise RepositoryError(f"{path} is not what its metadata signed")
    return data


def write_served(path: Path, data: bytes, *, packed: bool = True) -> None:
    """Write a file that devices fetch, with its gzip beside it when it is `packed` and larger than 1 KB; the
    names become durable with the caller's `sync_folder`.

    Never `timestamp.json`: the two files do not change in one step, so both must have a name of their own for
    each content.
    """
    beside = path.with_name(f"{path.name}.gz")
    if packed and len(data) > GZIP_FROM_BYTES:
        write_atomic(beside, gzip.compress(data, 9, mtime=0), lasting=False)
    else:
        beside.unlink(missing_ok=True)  # a crash's, under the same name
    write_atomic(path, data, lasting=False)


def store_member(source: Path, member: Member, destination: Path) -> bool:
    """Put a member's file in place, whole or not at all; False when it is there already. Its name becomes
    durable with the caller's `sync_folder`.

    Raises `RepositoryError` when the source no longer has the content that was measured.
    """
    here = destination.is_file() and destination.stat().st_size == member.length
    if here and sha256_file(destination) == member.sha256:
        return False
    destination.parent.mkdir(parents=True, exist_ok=True)
    temporary = destination.with_name(f".{destination.name}{TEMPORARY_SUFFIX}")
    state = hashlib.sha256()
    try:
        with source.open("rb") as reader, temporary.open("wb") as writer:
            while piece := reader.read(_PIECE_BYTES):
                state.update(piece)
                writer.write(piece)
            writer.flush()
            os.fsync(writer.fileno())
        if state.hexdigest() != member.sha256:
            raise RepositoryError(f"{source} changed while it was being published")
        os.replace(temporary, destination)  # noqa: PTH105 - tests make exactly this call fail
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return True
