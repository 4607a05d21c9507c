"""Who did what with which key: `audit.jsonl`, one line a commit, each naming the hash of the one before.

A line is signed by a key of the role that acted, and names the version of the timestamp that it led to; each
version has its line, so one that was changed, left out or cut off shows. It is no secret and no target: a
server need not serve it.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from securesystemslib.signer import Key, Signature, Signer

from coremlops.collection import document
from coremlops.digest import sha256_bytes
from coremlops.errors import RepositoryError
from coremlops.files import sync_folder

FILE = "audit.jsonl"
MAX_LINE_BYTES = 500_000  # a rotation of 16 keys in 64 collections names them all
FIRST = "0" * 64


@dataclass(frozen=True, slots=True)
class Act:
    """What is being done. `name`: to which model of the collection; `detail`: JSON values, short."""

    action: str
    collection: str = ""
    name: str = ""
    channel: str = ""
    version: int = 0
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `timestamp`: the version of the timestamp that it led to; `keys`: of the signers, by role;
    `previous`: SHA-256 of the line before, 64 zeros for the first."""

    at: str
    actor: str
    action: str
    collection: str
    name: str
    channel: str
    version: int
    detail: Mapping[str, Any]
    roles: Mapping[str, int]
    keys: Mapping[str, Sequence[str]]
    timestamp: int
    previous: str

    def signed_bytes(self) -> bytes:
        return document.write(asdict(self))


def actor() -> str:
    """`$COREMLOPS_ACTOR`, or user@machine."""
    named = os.environ.get("COREMLOPS_ACTOR", "").strip()
    if named:
        return named[:200]
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}"[:200]


@dataclass(frozen=True, slots=True)
class Log:
    """The log of a repository; its file is made with the first line."""

    path: Path

    def append(
        self,
        act: Act,
        *,
        at: datetime,
        roles: Mapping[str, int],
        keys: Mapping[str, Sequence[str]],
        timestamp: int,
        signers: Sequence[Signer],
    ) -> None:
        """Write a line that is on the disk when this returns; the commit that it speaks of comes next."""
        line = Line(
            document.time_text(at),
            actor(),
            act.action,
            act.collection,
            act.name,
            act.channel,
            act.version,
            dict(act.detail),
            dict(roles),
            {role: list(ids) for role, ids in keys.items()},
            timestamp,
            self._last_hash(),
        )
        data = line.signed_bytes()
        signatures = [signer.sign(data).to_dict() for signer in signers]
        whole = document.write({"line": asdict(line), "signatures": signatures})
        if len(whole) > MAX_LINE_BYTES:
            raise RepositoryError(f"{self.path}: at most {MAX_LINE_BYTES} bytes a line, got {len(whole)}")
        with self.path.open("ab") as file:
            file.write(whole)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.path.parent)

    def last_at(self) -> datetime | None:
        """When the last line was written; None without one."""
        raw = self._last()
        try:
            return document.time_of(str(_object(raw)["line"]["at"])) if raw else None
        except (ValueError, KeyError, TypeError):
            raise RepositoryError(f"{self.path}: the last line is damaged") from None

    def repair(self, timestamp: int) -> None:
        """Cut off what a crash left: half a line, or one of a commit that never was."""
        if not self.path.exists():
            return
        with self.path.open("r+b") as file:
            size = file.seek(0, os.SEEK_END)
            begin = max(0, size - 3 * MAX_LINE_BYTES)  # a crash leaves one line at most, so the end will do
            file.seek(begin)
            parts = list(_split(file.read()))[1 if begin else 0 :]
            keep = size
            for start, raw in reversed(parts):
                try:
                    written = raw.endswith(b"\n") and int(_object(raw)["line"]["timestamp"]) <= timestamp
                except (ValueError, KeyError, TypeError, RepositoryError):
                    written = False
                if written:
                    break
                keep = begin + start
            if keep < size:
                file.truncate(keep)
                os.fsync(file.fileno())

    def lines(self) -> Iterator[tuple[Line, list[dict[str, Any]], str]]:
        """Each line with its signatures and its SHA-256. Raises `RepositoryError` for what is no line."""
        if not self.path.exists():
            return
        for number, (_, raw) in enumerate(_split(self.path.read_bytes()), start=1):
            try:
                value = _object(raw)
                yield Line(**value["line"]), list(value["signatures"]), sha256_bytes(raw)
            except (ValueError, KeyError, TypeError):
                raise RepositoryError(
                    f"{self.path}: line {number} is damaged, or an older coremlops wrote it"
                ) from None

    def verify(self, keys: Mapping[str, Key], timestamp: int) -> int:
        """How many lines there are, when the log is whole.

        `keys`: public keys that ever signed here, by id; `timestamp`: the version that the repository is at.
        Raises `RepositoryError` that names the first line that is wrong.
        """
        previous, count, at = FIRST, 0, 1  # a new repository is at timestamp 1, and has no line yet
        for count, (line, signatures, sha256) in enumerate(self.lines(), start=1):
            where = f"{self.path}: line {count}"
            if line.previous != previous:
                raise RepositoryError(
                    f"{where}: the chain is broken: a line before it was changed or left out"
                )
            if line.timestamp != at + 1:
                raise RepositoryError(f"{where}: timestamp {at + 1} expected, got {line.timestamp}")
            named = {each for ids in line.keys.values() for each in ids}
            if not any(_signed(line, each, keys, named) for each in signatures):
                raise RepositoryError(f"{where}: no key that it names signed it")
            previous, at = sha256, line.timestamp
        if at != timestamp:
            raise RepositoryError(
                f"{self.path} ends at timestamp {at}, the repository is at {timestamp}: lines are missing"
            )
        return count

    def _last_hash(self) -> str:
        raw = self._last()
        return sha256_bytes(raw) if raw else FIRST

    def _last(self) -> bytes:
        if not self.path.exists():
            return b""
        with self.path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 2 * MAX_LINE_BYTES))
            return file.read().splitlines(keepends=True)[-1] if size else b""


def _signed(line: Line, signature: dict[str, Any], keys: Mapping[str, Key], named: set[str]) -> bool:
    from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError

    key = keys.get(str(signature.get("keyid")))
    if key is None or key.keyid not in named:
        return False
    try:
        key.verify_signature(Signature.from_dict(dict(signature)), line.signed_bytes())
    except (UnverifiedSignatureError, VerificationError, KeyError, ValueError):
        return False
    return True


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    for raw in data.splitlines(keepends=True):
        yield start, raw
        start += len(raw)


def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) > MAX_LINE_BYTES:
        raise ValueError("it is too long")
    value = json.loads(raw)
    if not isinstance(value, dict):
        raise ValueError("no object")
    return value
