"""Fires once for each distinct content of some folders, when that content is complete.

    trigger = FolderTrigger([photos], state_file, ready=PictureCheck())
    for change in trigger.changes():
        ok = work()
        trigger.done(change, "ok" if ok else "failed")

What the operating system says of changes is a hint, and a scan is the truth. A content is noted as started
before it is handed out and as done after, so one whose work was killed is handed out again by the next
process, and one that was done, well or not, never is.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coremlops.digest import members_digest, sha256_file
from coremlops.errors import DataError, InputError, StoreError, UsageError
from coremlops.files import write_atomic

FORMAT = 1
MAX_REMEMBERED = 100_000
MAX_ENTRIES = 1_000_000
_POLL_S = 1.0
_CLUTTER = frozenset((".DS_Store", "Thumbs.db", "desktop.ini"))

# path -> (size, mtime_ns, inode)
Listing = dict[Path, tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class Change:
    """A content that was not seen before. `digest` names it; `again`: its work was begun once and killed."""

    digest: str
    files: int
    again: bool


def folder_digest(paths: Sequence[Path]) -> str:
    """The content of some files and folders, SHA-256."""
    members = {}
    for path, _ in sorted(list_files(paths).items()):
        members[path.as_posix()] = sha256_file(path)
    return members_digest(members)


def list_files(paths: Sequence[Path]) -> Listing:
    """Every file below `paths` with what tells a change. Files that vanish meanwhile are left out.

    Raises `InputError` for folders too deep or too many, as links in circles make them.
    """
    found: Listing = {}
    entries = 0
    for top in paths:
        if top.is_file():
            _stamp(top, found)
        for folder, folders, files in os.walk(top, followlinks=True):
            folders.sort()
            if len(Path(folder).relative_to(top).parts) > 64:
                raise InputError(f"{top} is deeper than 64 folders", hint="do links go in a circle?")
            entries += 1 + len(files)
            if entries > MAX_ENTRIES:
                raise InputError(
                    f"{top} holds more than {MAX_ENTRIES} files", hint="do links go in a circle?"
                )
            for name in files:
                if name not in _CLUTTER:
                    _stamp(Path(folder, name), found)
    return found


def _stamp(path: Path, found: Listing) -> None:
    try:
        st = path.stat()
    except OSError:
        return
    if stat.S_ISREG(st.st_mode):  # reading a pipe would wait for ever
        found[path] = (st.st_size, st.st_mtime_ns, st.st_ino)


class FolderTrigger:
    """Watches `paths` and remembers in `state_file` which contents were handed out.

    A content counts when sizes and times were still for `settle_s` seconds and `ready(file)` is true for all
    its files. `digest` names a content (default: SHA-256 of all files). Only one process at a time can hold a
    state file. Raises `UsageError` when another does, `InputError` for a path that does not exist.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        state_file: Path,
        *,
        settle_s: float = 2.0,
        ready: Callable[[Path], bool] = lambda path: True,
        digest: Callable[[Sequence[Path]], str] = folder_digest,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        for path in paths:
            if not path.exists():
                raise InputError(f"there is no {path} to watch")
        self._paths = [path.absolute() for path in paths]
        self._state_file = state_file
        self._settle_s = settle_s
        self._ready = ready
        self._digest = digest
        self._tell = tell
        self._told: set[str] = set()
        self._lock = self._hold()
        self._done, self._started = self._read()

    def changes(self) -> Iterator[Change]:
        """Wait for contents that are new, for ever, and hand out each once; call `done` for each."""
        with _Hints(self._paths) as hints:
            seen: Listing | None = None
            while True:
                listing = self._settled(hints)
                if listing != seen:
                    change = self._new(listing)
                    if change is None and self._waiting:
                        hints.wait(_POLL_S)
                        continue
                    seen = listing
                    if change is not None:
                        yield change
                        continue  # it may have changed while the work was done
                hints.wait(_POLL_S if hints.polling else 10 * _POLL_S)

    def check(self) -> Change | None:
        """Wait until the content is still, and hand it out if it is new; None when it is not.

        Raises `DataError` when a file is not whole although nothing changes any more.
        """
        with _Hints(self._paths) as hints:
            while True:
                listing = self._settled(hints)
                change = self._new(listing)
                if change is None and self._waiting:
                    if self._scan() != listing:
                        continue
                    raise DataError(self._waiting, hint="copy it again, or take it out")
                return change

    def done(self, change: Change, outcome: str) -> None:
        """Note that the work for a content ended, `ok` or `failed`; it is not handed out again."""
        self._done[change.digest] = outcome
        if self._started == change.digest:
            self._started = None
        self._write()

    def close(self) -> None:
        """Let another process watch."""
        os.close(self._lock)

    # scanning

    def _scan(self) -> Listing:
        """The files now; none when they cannot be listed (`_unlisted` then says why)."""
        try:
            listing = list_files(self._paths)
        except InputError as error:
            self._unlisted = error.message
            return {}
        self._unlisted = ""
        return listing

    def _settled(self, hints: _Hints) -> Listing:
        """The listing, once it has not changed for `settle_s`."""
        listing = self._scan()
        since = time.monotonic()
        # A file written within the last moments may still be being written.
        while (left := self._settle_s - (time.monotonic() - since)) > 0:
            newest = max((stamp[1] for stamp in listing.values()), default=0)
            if listing == self._last and time.time_ns() - newest > self._settle_s * 1e9:
                break  # unchanged since the last scan, which was long enough ago
            time.sleep(min(left, 0.25))
            now = self._scan()
            if now != listing:
                listing, since = now, time.monotonic()
        self._last = listing
        hints.clear()
        return listing

    _last: Listing | None = None
    _waiting: str = ""
    _unlisted: str = ""

    def _new(self, listing: Listing) -> Change | None:
        """The content as a change, None when it is known or not whole (`_waiting` then says why)."""
        self._waiting = self._unlisted or self._problem(listing)
        if not self._waiting:
            try:
                digest = self._digest(self._paths)
            except InputError as error:
                self._waiting = error.message
        if self._waiting:
            if self._waiting not in self._told:
                self._told.add(self._waiting)
                self._tell(f"waiting: {self._waiting}")
            return None
        self._told.clear()
        if self._scan() != listing:
            self._last = None
            return None  # changed while it was read: the next scan settles again
        if digest in self._done:
            return None
        again = self._started == digest
        self._started = digest
        self._write()
        return Change(digest, len(listing), again)

    def _problem(self, listing: Listing) -> str:
        """The first file that is not whole, in words; empty when all are."""
        return next((f"{path} is not whole" for path in listing if not self._ready(path)), "")

    # the state file

    def _hold(self) -> int:
        lock = self._state_file.with_suffix(".lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"cannot write {lock}: {error.strerror}") from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(fd, 64, 0).decode("ascii", "replace") or "?"
            os.close(fd)
            raise UsageError(
                f"another process ({holder}) is watching already", hint="end it, or let it watch"
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        return fd

    def _read(self) -> tuple[dict[str, str], str | None]:
        try:
            state = json.loads(self._state_file.read_bytes())
            if state["format"] != FORMAT:
                return {}, None
            return dict(state["done"]), state["started"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}, None  # at worst a content is handed out again, and its work finds nothing to do

    def _write(self) -> None:
        done = dict(list(self._done.items())[-MAX_REMEMBERED:])
        state = {"format": FORMAT, "done": done, "started": self._started}
        try:
            write_atomic(self._state_file, json.dumps(state).encode())
        except OSError as error:
            raise StoreError(f"cannot write {self._state_file}: {error.strerror}") from error


class _Hints:
    """Wakes a waiting scan early when watchfiles is installed; without it, waiting is polling."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._event = threading.Event()
        self._stop = threading.Event()
        self.polling = True

    def __enter__(self) -> _Hints:
        try:
            from watchfiles import watch
        except ImportError:
            return self
        self.polling = False

        def follow() -> None:
            try:
                for _ in watch(*self._paths, stop_event=self._stop, debounce=200, rust_timeout=1000):
                    self._event.set()
            except (OSError, RuntimeError):
                self.polling = True  # no more inotify watches, say

        threading.Thread(target=follow, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()

    def wait(self, timeout_s: float) -> None:
        self._event.wait(timeout_s)
        self._event.clear()

    def clear(self) -> None:
        self._event.clear()
