"""Content of files and folders as BLAKE3 digests, without reading again what has not changed.

The digest of a folder is BLAKE3 over its sorted (path, digest of the file) list. A file counts with its
content and its executable bit; an empty folder counts, a time stamp does not. Links count as what they
point at, wherever that is, because that is what a step reads; a broken link, a circle of links, and
anything that is neither file nor folder is refused.

A file is not read again while its size, inode, mtime and ctime are what they were. That is only safe for
files that were still for a while when they were hashed: a change within one tick of the file system's
clock leaves the times as they are. So nothing younger than `SETTLED_NS` is remembered.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3

from coremlops.errors import InputError
from coremlops.pipeline.disk import keep_json, read_table

FORMAT = 1
SETTLED_NS = 2_000_000_000  # the coarsest clocks (FAT) tick every two seconds
MAX_FILES = 1_000_000
MAX_DEPTH = 64
_MMAP_FROM_BYTES = 1 << 20

# size, mtime_ns, ctime_ns, inode, digest of the file
Stamp = tuple[int, int, int, int, str]
Skip = Callable[[str], bool]


class Tree(NamedTuple):
    """A folder or file by content.

    `files`: POSIX path to digest (an executable file's ends in `+x`, an empty folder's path in `/` with an
    empty digest); a tree that is one file has the one path `.`. `size_bytes`: of all files together.
    """

    digest: str
    files: Mapping[str, str]
    size_bytes: int


def skip_clutter(name: str) -> bool:
    """What a desktop leaves in data folders, and no step should depend on."""
    return name in (".DS_Store", "Thumbs.db", "desktop.ini")


def skip_not_code(name: str) -> bool:
    """Hidden files and caches in a folder of code."""
    return name.startswith(".") or name == "__pycache__" or name.endswith((".pyc", ".pyo", ".egg-info"))


def skip_nothing(name: str) -> bool:
    return False


def digest_of(files: Mapping[str, str]) -> str:
    """The digest of a folder from the digests of its files."""
    # NUL cannot occur in a path, so the list is unambiguous; a lone "." is a file, not a folder.
    lines = "".join(f"{digest}\0{path}\0" for path, digest in sorted(files.items()))
    return blake3(lines.encode("utf-8", "surrogateescape")).hexdigest()


def subtree(tree: Tree, path: str) -> Tree | None:
    """The part of `tree` at `path` (a folder or a file), or None when there is none."""
    if path in tree.files:
        files: dict[str, str] = {".": tree.files[path]}
    elif f"{path}/" in tree.files:
        files = {}
    else:
        head = f"{path}/"
        files = {name[len(head) :]: digest for name, digest in tree.files.items() if name.startswith(head)}
        if not files:
            return None
    return Tree(digest_of(files), files, 0)


def hash_file(path: str) -> Stamp:
    """Hash one file and stamp it. Raises `InputError` when it keeps changing under our eyes."""
    for _ in range(3):
        with open(path, "rb") as file:  # noqa: PTH123 (a hot path)
            before = os.fstat(file.fileno())
            if before.st_size >= _MMAP_FROM_BYTES:
                digest = blake3(max_threads=blake3.AUTO).update_mmap(path).hexdigest()
            else:
                digest = blake3(file.read()).hexdigest()
            after = os.fstat(file.fileno())
        if (before.st_size, before.st_mtime_ns, before.st_ctime_ns) == (
            after.st_size,
            after.st_mtime_ns,
            after.st_ctime_ns,
        ):
            return stamp_of(after, digest)
    raise InputError(
        f"{path} changes while it is being read", hint="wait until it is written, then run again"
    )


def stamp_of(st: os.stat_result, digest: str) -> Stamp:
    if st.st_mode & stat.S_IXUSR:
        digest += "+x"
    return (st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, digest)


def read_stamps(path: Path) -> dict[str, Any]:
    """The stamps kept in `path`, by path; none when the file is missing, of another format or damaged."""
    found = read_table(path, FORMAT, "files")
    return found if all(type(stamp) is list and len(stamp) == 5 for stamp in found.values()) else {}


def walk(root: str, skip: Skip) -> Iterator[tuple[str, str, os.stat_result | None]]:
    """Every file under `root` as (relative path, path, stat); an empty folder as (`path/`, path, None)."""
    count = 0
    pending = [("", root, 0)]
    while pending:
        head, folder, depth = pending.pop()
        if depth > MAX_DEPTH:
            raise InputError(
                f"{root} is deeper than {MAX_DEPTH} folders at {head}", hint="do links go in a circle?"
            )
        empty = True
        with os.scandir(folder) as entries:
            for entry in entries:
                if skip(entry.name):
                    continue
                empty = False
                count += 1
                if count > MAX_FILES:
                    raise InputError(f"{root} holds more than {MAX_FILES} files")
                try:
                    st = entry.stat()
                except FileNotFoundError:
                    if entry.is_symlink():
                        raise InputError(
                            f"{entry.path} is a link to {Path(entry.path).readlink()}, which does not exist"
                        ) from None
                    raise
                if stat.S_ISDIR(st.st_mode):
                    pending.append((f"{head}{entry.name}/", entry.path, depth + 1))
                elif stat.S_ISREG(st.st_mode):
                    yield head + entry.name, entry.path, st
                else:
                    raise InputError(f"{entry.path} is neither a file nor a folder")
        if empty and head:
            yield head, folder, None


def scan(
    root: Path, known: Mapping[str, Any], skip: Skip = skip_nothing
) -> tuple[Tree, dict[str, Stamp], bool]:
    """Hash `root`, taking from `known` (path to stamp) what did not change.

    Returns the tree, all stamps, and whether every stamp was known and none is gone.
    Raises `InputError` when the path is missing, cannot be read or holds what we refuse.
    """
    stamps: dict[str, Stamp] = {}
    size = 0
    hits = 0
    try:
        found: Any = walk(str(root), skip)
        if not stat.S_ISDIR((top := root.stat()).st_mode):
            if not stat.S_ISREG(top.st_mode):
                raise InputError(f"{root} is neither a file nor a folder")
            found = [(".", str(root), top)]
        for name, path, st in found:
            if st is None:
                stamps[name] = (0, 0, 0, 0, "")
                hits += name in known
                continue
            old = known.get(name)
            if (
                old
                and old[0] == st.st_size
                and old[1] == st.st_mtime_ns
                and old[2] == st.st_ctime_ns
                and old[3] == st.st_ino
            ):
                stamps[name] = old
                hits += 1
            else:
                stamps[name] = hash_file(path)
            size += st.st_size
    except FileNotFoundError as error:
        raise InputError(f"{error.filename} does not exist") from error
    except OSError as error:
        raise InputError(f"cannot read {error.filename or root}: {error.strerror}") from error
    files = {name: stamp[4] for name, stamp in stamps.items()}
    return Tree(digest_of(files), files, size), stamps, hits == len(stamps) == len(known)


class TreeCache:
    """Remembers the stamps of folders in `folder` (one JSON file for each), across processes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def tree(self, root: Path, skip: Skip = skip_nothing) -> Tree:
        """The content of `root` now. Raises `InputError` as `scan` does."""
        name = blake3(f"{root}\0{skip.__name__}".encode("utf-8", "surrogateescape")).hexdigest(length=16)
        path = self._folder / f"{name}.json"
        known = read_stamps(path)
        limit = time.time_ns() - SETTLED_NS
        tree, stamps, unchanged = scan(root, known, skip)
        if not unchanged:
            settled = {name: s for name, s in stamps.items() if s[1] < limit and s[2] < limit}
            if settled != known:
                keep_json(path, {"format": FORMAT, "root": str(root), "files": settled})
        return tree
