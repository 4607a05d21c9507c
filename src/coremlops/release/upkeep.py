"""Looking after a repository: an audit of all of it, and removing what no live metadata names."""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tuf.api.metadata import Metadata, Root, TargetFile, Targets

from coremlops.collection import CHANNELS, Entry, Variant
from coremlops.digest import sha256_file
from coremlops.errors import RepositoryError
from coremlops.files import TEMPORARY_SUFFIX, files_below
from coremlops.release.change import named_files
from coremlops.release.contents import Contents
from coremlops.release.keeping import PARTS, Keeper
from coremlops.release.roles import Roles
from coremlops.release.signing import read_metadata, verify
from coremlops.release.targets import file_of

GRACE = timedelta(days=30)
MOST_PROBLEMS = 100
_VERSIONED = re.compile(r"([1-9][0-9]{0,9})\.([A-Za-z0-9._-]+)\.json")
_FOREVER = ("root", "targets")  # devices follow every root; the audit log is verified by keys of old targets
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Audit:
    """What an audit found. `problems`: what is wrong, at most 100; `unneeded`: files that `gc` may remove one
    day."""

    roles: int
    targets: int
    bytes: int
    versions: int
    lines: int
    problems: tuple[str, ...]
    unneeded: int


def audit(repository: Keeper, progress: Progress = lambda line: None) -> Audit:
    """Verify each signature from the first root on, each target's length and hash, each document and
    `.gz`, and the audit log. Raises `RepositoryError` when not even the metadata of now can be read."""
    problems: list[str] = []
    roles = repository.roles()
    with _noted(problems):
        _roots(repository.folder / "metadata")
    names = _names(roles)
    targets: dict[str, TargetFile] = {}
    for place, name in enumerate(names):
        progress(f"role {place + 1} of {len(names)}")
        with _noted(problems):
            for each in roles.targets(name).signed.targets.values():
                targets[file_of(each.path, each.hashes.get("sha256", ""))] = each
    for place, (file, target) in enumerate(targets.items()):
        progress(f"target {place + 1} of {len(targets)}")
        with _noted(problems):
            _check_file(repository.folder / "targets" / file, target)
    versions = 0
    for collection in roles.collections:
        versions += _documents(Contents(roles, repository.folder, collection), problems)
    for part in PARTS:
        for path in _links(repository.folder / part):
            problems.append(f"{path} is a link, which gc does not follow: put there what it leads to")
    for path in _files(repository.folder):
        if path.name.endswith(".json.gz"):
            with _noted(problems):
                _check_packed(path)
    lines = 0
    with _noted(problems):
        lines = roles.log.verify(roles.public_keys(), roles.timestamp.signed.version)
    return Audit(
        roles=len(names) + 3,
        targets=len(targets),
        bytes=sum(each.length for each in targets.values()),
        versions=versions,
        lines=lines,
        problems=tuple(problems[:MOST_PROBLEMS]),
        unneeded=len(_unneeded(repository.folder, roles, timedelta(0), repository.clock())),
    )


@dataclass(frozen=True, slots=True)
class Removed:
    """Files that were removed, or would be, relative to the repository, and their bytes together."""

    files: tuple[str, ...]
    bytes: int


def collect(repository: Keeper, *, grace: timedelta = GRACE, dry_run: bool = False) -> Removed:
    """Remove files that nothing names which was current within `grace`, and which are older than that.

    Every version of a channel's history keeps its files, since it can be gone back to. A device that began an
    update before a newer release finishes it within `grace`. Raises `RepositoryError`.
    """
    if grace < timedelta(0):
        raise RepositoryError(f"a grace period of 0 or more is needed, got {grace}")
    with repository.locked() as roles:
        files = _unneeded(repository.folder, roles, grace, repository.clock())
        total = sum(path.stat().st_size for path in files)
        for path in () if dry_run else files:
            path.unlink()
    return Removed(tuple(path.relative_to(repository.folder).as_posix() for path in files), total)


def _unneeded(folder: Path, roles: Roles, grace: timedelta, now: datetime) -> list[Path]:
    """Files that metadata of the last `grace` does not lead to, each of them older than that."""
    kept = _kept_metadata(folder, roles, now - grace)
    named: set[str] = set(named_files(folder))
    for path in kept:
        if path.name.count(".") == 2 and not path.name.endswith((".root.json", ".snapshot.json")):
            named |= _targets_of(path)
    found = []
    for path in _files(folder):
        plain = path.with_suffix("") if path.name.endswith(".json.gz") else path
        if not path.is_file() or path.is_symlink():
            continue
        wanted = (
            plain in kept
            if path.is_relative_to(folder / "metadata")
            else plain.relative_to(folder / "targets").as_posix() in named
        )
        if not wanted and (path.name.endswith(TEMPORARY_SUFFIX) or _written(path) <= now - grace):
            found.append(path)
    return found


def _files(folder: Path) -> list[Path]:
    """The files that a repository serves."""
    return sorted(path for part in ("metadata", "targets") for path in files_below(folder / part))


def _links(folder: Path) -> list[Path]:
    """The folder if it is a link, or the links to folders below it; no file is looked for there."""
    if folder.is_symlink():
        return [folder]
    below = (Path(place, name) for place, names, _ in os.walk(folder) for name in names)
    return sorted(path for path in below if path.is_symlink())


def _kept_metadata(folder: Path, roles: Roles, since: datetime) -> set[Path]:
    """Metadata files that are current, or were after `since`: a version ends when the next one is written."""
    metadata = folder / "metadata"
    versions: dict[str, list[int]] = {}
    for path in metadata.iterdir():
        match = _VERSIONED.fullmatch(path.name)
        if match:
            versions.setdefault(match[2], []).append(int(match[1]))
    current = {name: roles.version(name) for name in versions if name not in ("root", "snapshot")}
    current["snapshot"] = roles.snapshot.signed.version
    kept = {metadata / "timestamp.json"}
    for name, each in versions.items():
        each.sort()
        for place, version in enumerate(each):
            path = metadata / f"{version}.{name}.json"
            after = metadata / f"{each[place + 1]}.{name}.json" if place + 1 < len(each) else None
            lives = version == current.get(name) or name in _FOREVER
            if lives or (after is not None and version < current.get(name, 0) and _written(after) > since):
                kept.add(path)
    return kept


def _targets_of(path: Path) -> set[str]:
    """The files below `targets/` that a role's metadata names; none for what cannot be read."""
    with contextlib.suppress(RepositoryError):
        targets = read_metadata(path, Targets).signed.targets.values()
        return {file_of(each.path, each.hashes.get("sha256", "")) for each in targets}
    return set()


def _written(path: Path) -> datetime:
    """When, in whole seconds, as a repository's clock has it."""
    return datetime.fromtimestamp(int(path.stat().st_mtime), UTC)


def _names(roles: Roles) -> list[str]:
    """Every targets role that the snapshot names and something delegates to.

    Bins that were split further stay in the snapshot, since TUF lets nothing leave it, and count no longer.
    """
    bins = {each for collection in roles.collections for each in roles.bins(collection)}
    named = (name.removesuffix(".json") for name in roles.snapshot.signed.meta)
    return sorted(name for name in named if name in bins or not roles.is_bin(name))


def _roots(metadata: Path) -> None:
    """Raise `RepositoryError` unless each root is signed by its own keys and those of the one before."""
    versions = sorted(int(path.name.split(".")[0]) for path in metadata.glob("[0-9]*.root.json"))
    if versions != list(range(1, len(versions) + 1)):
        raise RepositoryError(f"{metadata}: roots 1 to {len(versions)} expected, got {versions}")
    before: Metadata[Root] | None = None
    for version in versions:
        root: Metadata[Root] = read_metadata(metadata / f"{version}.root.json", Root)
        for by in (root, before or root):
            verify(by.signed, "root", root)
        before = root


def _check_file(path: Path, target: TargetFile) -> None:
    """Raise `RepositoryError` unless the file has the signed length and hash."""
    try:
        size = path.stat().st_size
        found = sha256_file(path) if size == target.length else ""
    except OSError as error:
        raise RepositoryError(f"{path}: {error.strerror}") from None
    if size != target.length:
        raise RepositoryError(f"{path}: {target.length} bytes are signed, it has {size}")
    if found != target.hashes.get("sha256"):
        raise RepositoryError(f"{path}: its SHA-256 is not the signed one")


def _check_packed(path: Path) -> None:
    """Raise `RepositoryError` unless a `.gz` holds the file beside it."""
    plain = path.with_suffix("")
    if not plain.is_file():
        return  # a crash's; the next command that writes that name takes it along
    data = plain.read_bytes()
    try:
        same = zlib.decompressobj(wbits=31).decompress(path.read_bytes(), len(data) + 1) == data
    except zlib.error:
        same = False
    if not same:
        raise RepositoryError(f"{path} is no gzip of {plain.name}: remove it, or devices are refused")


def _documents(contents: Contents, problems: list[str]) -> int:
    """Read what both channels say, and each version's manifests; how many versions there are."""
    entries: dict[tuple[str, int, tuple[Variant, ...]], Entry] = {}
    for channel in CHANNELS:
        with _noted(problems):
            contents.halts(channel)
        with _noted(problems):
            for line in contents.index(channel).lines:
                found = list(line.offers)
                with _noted(problems):
                    found += contents.history(channel, line.name).entries
                entries |= {(line.name, each.version, each.variants): each for each in found}
    for (name, _, _), entry in entries.items():
        with _noted(problems):
            contents.check_whole(name, entry)
    return len(entries)


@contextlib.contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except RepositoryError as error:
        problems.append(error.message)
