"""Files that survive a crash: durable replacement, and a lock between processes."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import stat
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

TEMPORARY_SUFFIX = ".tmp"


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable. A file system that cannot sync a folder is left as it is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, lasting: bool = True) -> None:
    """Put `data` at `path` so that a reader, or a crash, sees the old content or the new, whole.

    The temporary name ends in `.tmp` beside the file; a crash can leave one behind, which is harmless.
    Without `lasting` the caller makes the new name durable, with `sync_folder`, once for several files.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
    try:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - tests make exactly this call fail
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if lasting:
        sync_folder(path.parent)


def files_below(folder: Path, suffix: str = "") -> Iterator[Path]:
    """Every file below a folder whose name ends so, none when it is not there. No link to a folder is
    followed, nor is `folder` itself if it is one: what is removed lies where it seems to."""
    if not folder.is_symlink():
        for place, _, names in os.walk(folder):
            yield from (Path(place, name) for name in names if name.endswith(suffix))


def read_regular(path: Path, most_bytes: int) -> bytes:
    """The first `most_bytes` of a regular file.

    Raises `OSError`, also for what is none: whoever opens a pipe waits until somebody writes to it.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file", str(path))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(most_bytes)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove what is at `path`, if anything is: a folder with all in it, a link but not what it leads to.

    Raises `OSError`.
    """
    if os.path.lexists(path):
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def clear_unless_file(path: Path) -> None:
    """Remove what is at `path` unless it is a regular file: nothing is then read or written through a link.

    Raises `OSError`.
    """
    if os.path.lexists(path) and not stat.S_ISREG(path.lstat().st_mode):
        remove(path)


def make_folder(path: Path) -> None:
    """Make the folder `path`, in place of what may be there and is none. Raises `OSError`."""
    if not path.is_dir():
        remove(path)
    path.mkdir(exist_ok=True)


def replace_folder(new: Path, target: Path) -> None:
    """Put the folder `new` where the folder `target` may be, and remove what was there.

    Where the system can exchange two names (Linux, macOS), a kill at any moment leaves the old folder at
    `target` or the new one. Elsewhere there is a moment with neither, and the old one is called
    `.<name>.old.tmp` meanwhile. Both lie on one file system. Raises `OSError`; then the old one is in place.
    """
    aside = target.with_name(f".{target.name}.old{TEMPORARY_SUFFIX}")
    if not os.path.lexists(target):
        os.replace(new, target)  # noqa: PTH105 - tests make exactly this call fail
    elif _exchange(new, target):
        aside = new
    else:
        remove(aside)
        os.replace(target, aside)  # noqa: PTH105
        try:
            os.replace(new, target)  # noqa: PTH105
        except BaseException:
            os.replace(aside, target)  # noqa: PTH105
            raise
    sync_folder(target.parent)
    with contextlib.suppress(OSError):
        remove(aside)


def _exchange(one: Path, other: Path) -> bool:
    """Let two names change places in one step; False when the system or the file system cannot."""
    import ctypes

    names = os.fsencode(one), os.fsencode(other)
    library = ctypes.CDLL(None, use_errno=True)
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, ctypes.c_uint(2))  # RENAME_SWAP, <sys/stdio.h>
        else:
            here = ctypes.c_int(-100)  # AT_FDCWD, <fcntl.h>
            failed = library.renameat2(here, names[0], here, names[1], ctypes.c_uint(2))  # RENAME_EXCHANGE
    except AttributeError:  # a C library without the call
        return False
    code = ctypes.get_errno()
    if failed and code not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP):
        raise OSError(code, os.strerror(code), str(one), None, str(other))
    return not failed


@contextlib.contextmanager
def exclusive_lock(path: Path, *, wait_s: float) -> Iterator[None]:
    """Hold the lock file at `path`; the system releases it when the process dies.

    Raises `BlockingIOError` when another process still holds it after `wait_s` seconds.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


_UNFINISHED: set[Path] = set()


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[Path]:
    """A file or folder that is nobody's while the block fills it: `ended_cleanly` removes it."""
    _UNFINISHED.add(path)
    try:
        yield path
    finally:
        _UNFINISHED.discard(path)


@contextlib.contextmanager
def working_folder(beside: Path, prefix: str) -> Iterator[Path]:
    """A folder in `beside`, on its file system, that is gone after the block; hidden by a `prefix` with a
    dot."""
    folder = beside / f"{prefix}{uuid.uuid4().hex}"
    with unfinished(folder):  # before it is there, or a signal in between would leave it
        folder.mkdir(mode=0o700)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def ended_cleanly() -> Iterator[None]:
    """Let SIGTERM end the process in the block, without what is `unfinished`.

    It does so by itself: an exception would be lost, since libraries catch all of them here and there.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: object) -> None:
        for path in _UNFINISHED:
            shutil.rmtree(path, ignore_errors=True)
        os._exit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
