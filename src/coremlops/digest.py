"""SHA-256 digests, written as 64 lowercase hex digits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def sha256_bytes(data: bytes | memoryview) -> str:
    """The SHA-256 of `data`."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def members_digest(members: Mapping[str, str]) -> str:
    """One digest for a set of files: SHA-256 over the sorted (path, SHA-256) list.

    `members` maps a POSIX path to its SHA-256 in hex. Each pair is written as
    `<sha256> <path>\\n` in UTF-8, sorted by path; a path holds no line break, so the list is unambiguous.
    """
    lines = (f"{digest} {path}\n" for path, digest in sorted(members.items()))
    return sha256_bytes("".join(lines).encode())
