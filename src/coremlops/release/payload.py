"""The files of a model and of its golden set, read from disk for publishing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coremlops.collection import MAX_MEMBERS, Member, check_members
from coremlops.digest import sha256_file
from coremlops.errors import RepositoryError

FOLDER_KINDS = ("mlpackage", "mlmodelc", "aimodel")
FILE_KINDS = ("mlmodel",)


@dataclass(frozen=True, slots=True)
class Payload:
    """A model and its golden set: the members in order, and the file on disk behind each."""

    kind: str
    members: tuple[Member, ...]
    sources: tuple[Path, ...]


def read_payload(model: Path, golden: Path, *, most_bytes: int) -> Payload:
    """The files of a version, with lengths and SHA-256.

    Raises `RepositoryError` for a kind that cannot be published yet, a missing or empty part, a symbolic link
    or a special file, names that not every file system takes, and more than `most_bytes` together.
    """
    kind = check_model(model, most_bytes=most_bytes)
    if not golden.is_dir():
        raise RepositoryError(f"no golden set at {golden}: expected a folder with golden.json")
    found = {f"model.{kind}" + path: source for path, source in _files(model)}
    found |= {"golden" + path: source for path, source in _files(golden)}
    total = sum(source.stat().st_size for source in found.values())
    if total > most_bytes:
        raise RepositoryError(
            f"{model} and its golden set have {total} bytes, at most {most_bytes} are allowed"
        )
    members = tuple(
        Member(path, sha256_file(source), source.stat().st_size) for path, source in sorted(found.items())
    )
    check_members(members, payload=f"model.{kind}", most_bytes=most_bytes)
    return Payload(kind, members, tuple(found[member.path] for member in members))


def check_model(model: Path, *, most_bytes: int) -> str:
    """The kind of a model. Raises `RepositoryError` for what no version can be made of, before it is read:
    another kind, a link, and more than `most_bytes`."""
    kind = _kind(model)
    total = sum(source.stat().st_size for _, source in _files(model))
    if total > most_bytes:
        raise RepositoryError(f"{model} has {total} bytes, at most {most_bytes} are allowed")
    return kind


def _kind(model: Path) -> str:
    kind = model.suffix.removeprefix(".")
    if not model.exists():
        raise RepositoryError(f"no model at {model}")
    if kind not in FOLDER_KINDS + FILE_KINDS:
        raise RepositoryError(
            f"{model.name}: expected {' or '.join('.' + each for each in FOLDER_KINDS + FILE_KINDS)}, "
            f"got {model.suffix or 'no suffix'}"
        )
    if model.is_symlink() or model.is_dir() != (kind in FOLDER_KINDS):
        shape = "a folder" if kind in FOLDER_KINDS else "a file"
        raise RepositoryError(f"{model}: expected {shape} and no link")
    return kind


def _files(top: Path) -> Iterator[tuple[str, Path]]:
    """Each file below `top` as ("/relative/path", path); a file at `top` itself is ("", path)."""
    if top.is_file():
        yield "", top
        return
    count = 0
    pending = [(top, "")]
    while pending:
        folder, prefix = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                name = f"{prefix}/{entry.name}"
                mode = entry.stat(follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    pending.append((Path(entry.path), name))
                elif stat.S_ISREG(mode):
                    count += 1
                    if count > MAX_MEMBERS:
                        raise RepositoryError(f"{top} has more than {MAX_MEMBERS} files")
                    yield name, Path(entry.path)
                else:
                    what = "a symbolic link" if stat.S_ISLNK(mode) else "a special file"
                    raise RepositoryError(f"{entry.path} is {what}; only plain files are published")
