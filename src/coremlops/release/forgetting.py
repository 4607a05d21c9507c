"""Versions that nobody goes back to: the history lets go of them, and `gc` removes their files later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from coremlops.collection import CHANNELS, Entry, History, Line, channel_role, member_path
from coremlops.errors import RepositoryError
from coremlops.release.audit import Act
from coremlops.release.contents import Contents
from coremlops.release.repository import Repository


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A model's versions that a channel named until now, and none names any more."""

    name: str
    versions: tuple[int, ...]


def forget(repository: Repository, keep: int, *, dry_run: bool = False) -> tuple[Forgotten, ...]:
    """Let a collection name no more versions than those on offer and the `keep` newest of each model and
    channel, and their files.

    What is let go of cannot be gone back to; a device that runs it keeps it, and one that is fetching it has
    as long as `collect` leaves the files. Nothing is signed when nothing changes. Raises `RepositoryError`
    for a missing key, `PendingError` when further signatures are wanted.
    """
    if keep < 1:
        raise RepositoryError(f"1 or more versions are kept, got {keep}")
    with repository.changing() as contents:
        kept: list[Entry] = []
        shorter: list[tuple[Line, History]] = []
        named: dict[str, set[int]] = {}
        rest: dict[str, set[int]] = {}
        for channel in CHANNELS:
            for line in contents.index(channel).lines:
                history = contents.history(channel, line.name)
                stay = tuple(
                    entry
                    for entry in history.entries
                    if line.find(entry.version) or entry in history.entries[-keep:]
                )
                kept += [*line.offers, *stay]
                named.setdefault(line.name, set()).update(each.version for each in history.entries)
                rest.setdefault(line.name, set()).update(each.version for each in stay)
                if stay != history.entries:
                    shorter.append((line, replace(history, entries=stay)))
        gone = {name: tuple(sorted(named[name] - rest[name])) for name in sorted(named)}
        found = tuple(Forgotten(name, versions) for name, versions in gone.items() if versions)
        if shorter and not dry_run:
            for line, history in shorter:
                contents.put_line(line, history)
            for path in set(contents.members.paths()) - set(_paths(contents, kept)):
                contents.members.drop(path)
            channels = dict.fromkeys(line.channel for line, _ in shorter)
            roles = [channel_role(repository.collection, channel) for channel in channels]
            detail = {"keep": keep, "versions": {each.name: len(each.versions) for each in found}}
            act = Act("forget", repository.collection, detail=detail)
            contents.roles.commit([*contents.members.changed, *roles], act)
    return found


def _paths(contents: Contents, entries: list[Entry]) -> Iterator[str]:
    """The members of versions: their manifests, and the files that these name."""
    variants = {variant.manifest: (entry, variant) for entry in entries for variant in entry.variants}
    for entry, variant in variants.values():
        yield member_path(contents.collection, variant.manifest)
        for member in contents.manifest(entry, variant).members:
            yield member_path(contents.collection, member.sha256)
