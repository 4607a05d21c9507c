"""What a search measured, a line each, so that one that was killed goes on where it stopped."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from coremlops.errors import InputError, UsageError, WriteError

FORMAT = 1
MAX_BYTES = 256 << 20


class Journal:
    """JSON Lines: what it is about, then what was measured, by key. Several threads may add to it.

    A line that a crash cut short is dropped. `reused`: how many lines were there.
    """

    def __init__(self, path: Path, about: dict[str, Any]) -> None:
        """Open or begin it. Raises UsageError when it is of another search, InputError for another file."""
        self._path = path
        self._lock = threading.Lock()
        self._known: dict[str, dict[str, Any]] = {}
        header = {"format": FORMAT, **about}
        size = self._read(header) if path.exists() else 0
        self.reused = len(self._known)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = path.open("r+b" if path.exists() else "xb")
            self._file.truncate(size)
            self._file.seek(size)
        except OSError as error:
            raise WriteError(f"{path} cannot be written: {error.strerror}") from None
        if not size:
            self._write(header)

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def get(self, key: str) -> dict[str, Any] | None:
        """What was measured under this key."""
        return self._known.get(key)

    def add(self, key: str, found: dict[str, Any]) -> dict[str, Any]:
        """Keep it on the disk."""
        with self._lock:
            self._known[key] = found
            self._write({"key": key, **found})
        return found

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, sort_keys=True).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, header: dict[str, Any]) -> int:
        """Fill what is known; how many bytes of the file are whole lines."""
        try:
            if self._path.stat().st_size > MAX_BYTES:
                raise InputError(f"{self._path}: a journal of at most {MAX_BYTES} bytes expected")
            data = self._path.read_bytes()
        except OSError as error:
            raise InputError(f"{self._path}: cannot be read: {error.strerror}") from None
        whole = data[: data.rfind(b"\n") + 1]
        if not whole:
            return 0
        try:
            first, *lines = [json.loads(line) for line in whole.splitlines()]
            entries = {line.pop("key"): line for line in lines}
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
            raise InputError(f"{self._path}: not the journal of a search; it is left alone") from None
        if first != header:
            other = first if isinstance(first, dict) else {}
            names = [name for name in header if other.get(name) != header[name]]
            raise UsageError(
                f"{self._path}: the journal of another search: {', '.join(names)} differ",
                hint="give another --journal, or remove this one to begin again",
            )
        self._known = entries
        return len(whole)
