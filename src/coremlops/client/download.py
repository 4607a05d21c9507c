"""Members, fetched with resume: what has come is kept under its own SHA-256 until all of it is there."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass, field
from pathlib import Path

from tuf.api.exceptions import DownloadError, DownloadHTTPError

from coremlops.client.progress import Meter
from coremlops.client.web import Reader
from coremlops.digest import sha256_file
from coremlops.errors import UpdateError
from coremlops.files import clear_unless_file, remove

SPARE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """One content: its SHA-256, its length in bytes, where it is, and what people call it."""

    sha256: str
    length: int
    url: str
    name: str


class TruncatedError(DownloadError):
    """The server answered, and ended before all of a content had come."""


@dataclass(frozen=True, slots=True)
class Downloads:
    """`<device>/downloads`: parts named by the SHA-256 that they will have.

    A part survives a crash and any network error; only content that turns out wrong is thrown away.
    """

    folder: Path
    reader: Reader
    meter: Meter = field(default_factory=lambda: Meter(None))

    def part(self, sha256: str) -> Path:
        """The file of a content, whole or not."""
        return self.folder / f"{sha256}.part"

    def missing_bytes(self, wanted: tuple[Wanted, ...]) -> int:
        """Bytes that are still to come, as far as lengths can tell."""
        return sum(max(0, each.length - self._have(each)) for each in wanted)

    def require_space(self, wanted: tuple[Wanted, ...]) -> None:
        """Raise `UpdateError` unless the disk takes what is missing, and 16 MiB more."""
        needed = self.missing_bytes(wanted) + SPARE_BYTES
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise UpdateError(
                f"the disk has {free} bytes free, the update needs {needed}",
                hint="make room and update again: what has come is kept",
            )

    def fetch(self, wanted: Wanted) -> int:
        """Complete one content and check it; return how many bytes came over the wire.

        Raises `UpdateError` for content that is wrong (and drops it), tuf's `DownloadError` when the network
        ends early (and keeps what came).
        """
        part = self.part(wanted.sha256)
        clear_unless_file(part)
        have = self._have(wanted)
        if have >= wanted.length and part.exists():
            if have == wanted.length and sha256_file(part) == wanted.sha256:
                return 0
            self._drop(wanted)
            have = 0
        try:
            received = self._receive(wanted, have)
        except DownloadError as error:
            if self._have(wanted) > have:
                raise self._truncated(wanted) from error
            raise
        if self._have(wanted) < wanted.length:
            raise self._truncated(wanted)
        if sha256_file(part) != wanted.sha256:
            self._drop(wanted)
            if have:  # The part from before may have been the wrong half: once more, from the beginning.
                return received + self.fetch(wanted)
            raise UpdateError(f"{wanted.name}: tampered or damaged: its SHA-256 is not the signed one")
        return received

    def _truncated(self, wanted: Wanted) -> TruncatedError:
        size = self._have(wanted)
        return TruncatedError(
            f"{wanted.name}: {size} of {wanted.length} bytes came; the rest is fetched next time"
        )

    def keep_only(self, sha256s: set[str]) -> None:
        """Forget all contents but these: what an update that never finished left behind."""
        for sha256 in self.begun() - sha256s:
            remove(self.part(sha256))

    def begun(self) -> set[str]:
        """The contents of which something is here."""
        return {path.name.removesuffix(".part") for path in self.folder.glob("*.part")}

    def read(self, sha256: str, most_bytes: int) -> bytes:
        """What is here of a content, unchecked; nothing where it is no file or too long. Raises OSError."""
        part = self.part(sha256)
        if part.is_symlink() or not part.is_file() or part.stat().st_size > most_bytes:
            return b""
        return part.read_bytes()

    def _receive(self, wanted: Wanted, have: int) -> int:
        """Append to the part what is missing; return the bytes that came over the wire.

        A server that knows no ranges, or answers 416, sends all of it again: what is here already is passed
        over, so that a connection that breaks once more costs nothing.
        """
        received = 0
        try:
            start, pieces = self.reader.read(wanted.url, have)
        except DownloadHTTPError as error:
            if error.status_code != 416 or not have:
                raise
            start, pieces = self.reader.read(wanted.url)
        part = self.part(wanted.sha256)
        with contextlib.ExitStack() as stack:
            stack.callback(getattr(pieces, "close", lambda: None))
            file = stack.enter_context(part.open("ab"))
            for piece in pieces:
                fresh = piece[max(0, have - start - received) :]
                received += len(piece)
                if start + received > wanted.length:
                    file.close()
                    self._drop(wanted)
                    raise UpdateError(f"{wanted.name}: more than the signed {wanted.length} bytes")
                file.write(fresh)
                self.meter.add(len(fresh))
            file.flush()
            os.fsync(file.fileno())
        return received

    def _drop(self, wanted: Wanted) -> None:
        """Forget a part whose content is wrong."""
        self.meter.add(-min(self._have(wanted), wanted.length))
        self.part(wanted.sha256).unlink()

    def _have(self, wanted: Wanted) -> int:
        try:
            about = self.part(wanted.sha256).lstat()
        except FileNotFoundError:
            return 0
        return about.st_size if stat.S_ISREG(about.st_mode) else 0
