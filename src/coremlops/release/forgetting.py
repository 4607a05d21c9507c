"""Versions that nobody goes back to: the histories let go of them, and `gc` removes their files later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from coremlops.collection import CHANNELS, Entry, channel_role, member_path
from coremlops.errors import RepositoryError
from coremlops.release.audit import Act
from coremlops.release.contents import Contents
from coremlops.release.keeping import Keeper


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Versions of a collection's model that a channel named until now, and none names any more."""

    collection: str
    name: str
    versions: tuple[int, ...]


def forget(repository: Keeper, keep: int, *, dry_run: bool = False) -> tuple[Forgotten, ...]:
    """Let each collection name no more versions than those on offer and the `keep` newest of each model and
    channel, nor their files.

    What is let go of cannot be gone back to; a device that runs it keeps it, and one that is fetching it has
    as long as `collect` leaves the files. Nothing is signed when nothing changes. Raises `RepositoryError`
    for a missing key, `PendingError` when further signatures are wanted.
    """
    if keep < 1:
        raise RepositoryError(f"1 or more versions are kept, got {keep}")
    found: list[Forgotten] = []
    changed: list[str] = []
    with repository.locked() as roles:
        for collection in roles.collections:
            contents = Contents(roles, repository.folder, collection)
            forgotten, signed = _shorten(contents, keep, dry_run=dry_run)
            found += forgotten
            changed += signed
        if changed:
            versions = {f"{each.collection}/{each.name}": len(each.versions) for each in found}
            roles.commit(changed, Act("forget", detail={"keep": keep, "versions": versions}))
    return tuple(found)


def _shorten(contents: Contents, keep: int, *, dry_run: bool) -> tuple[list[Forgotten], list[str]]:
    """What a collection lets go of, and the roles to sign for it; without `dry_run` it is done."""
    before: dict[str, set[int]] = {}
    after: dict[str, set[int]] = {}
    kept: list[Entry] = []
    shorter = []
    for channel in CHANNELS:
        for line in contents.index(channel).lines:
            history = contents.history(channel, line.name)
            newest = history.entries[-keep:]
            stay = tuple(each for each in history.entries if each in newest or line.find(each.version))
            kept += [*line.offers, *stay]
            before.setdefault(line.name, set()).update(each.version for each in history.entries)
            after.setdefault(line.name, set()).update(each.version for each in stay)
            if stay != history.entries:
                shorter.append((line, replace(history, entries=stay)))
    gone = {name: tuple(sorted(before[name] - after[name])) for name in sorted(before)}
    found = [Forgotten(contents.collection, name, versions) for name, versions in gone.items() if versions]
    if dry_run or not shorter:
        return found, []
    for line, history in shorter:
        contents.put_line(line, history)
    for path in set(contents.members.paths()) - set(_paths(contents, kept)):
        contents.members.drop(path)
    channels = dict.fromkeys(line.channel for line, _ in shorter)
    return found, [*contents.members.changed, *(channel_role(contents.collection, each) for each in channels)]


def _paths(contents: Contents, entries: list[Entry]) -> Iterator[str]:
    """The members of versions: their manifests, and the files that these name."""
    variants = {variant.manifest: (entry, variant) for entry in entries for variant in entry.variants}
    for entry, variant in variants.values():
        yield member_path(contents.collection, variant.manifest)
        for member in contents.manifest(entry, variant).members:
            yield member_path(contents.collection, member.sha256)
