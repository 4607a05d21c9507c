"""A staging channel that a thief of its key wrote, or that cannot be read: it begins anew from release."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from tuf.api.metadata import Metadata, TargetFile, Targets

from coremlops.collection import (
    MAX_MANIFEST_BYTES,
    Entry,
    History,
    Line,
    Manifest,
    channel_role,
    member_path,
    members_role,
)
from coremlops.digest import sha256_bytes
from coremlops.errors import RepositoryError
from coremlops.files import read_regular
from coremlops.release.audit import Act
from coremlops.release.contents import Contents
from coremlops.release.targets import file_of

if TYPE_CHECKING:
    from coremlops.release.keeping import Keeper


def reset(repository: Keeper, collection: str) -> tuple[Line, ...]:
    """Give staging what release offers, and return its lines: nothing that staging's key signed is believed.

    Models and versions that release never had go; of the others, numbers go on after those of the audit log.
    Shares and starts are release's own: all testers get what it offers. The members are named anew from the
    manifests that release's index and histories name. Raises `RepositoryError`, `PendingError` when it waits
    for signatures.
    """
    with repository.locked() as roles:
        contents = Contents(roles, repository.folder, collection)
        begun = anew(contents)
        staging, members = channel_role(collection, "staging"), members_role(collection)
        roles.require_keys([staging, members])
        contents.clear("staging")
        for line, history in begun:
            contents.put_line(line, history)
        roles.add(members, Metadata(Targets(targets=_members(contents, begun))))
        contents.members.changed = {members}
        contents.members.grow()
        roles.commit([*contents.members.changed, staging], Act("reset", collection, channel="staging"))
    return tuple(line for line, _ in begun)


def check_reset(after: Contents) -> None:
    """Raise `RepositoryError` unless staging, and the members, are as `reset` makes them."""
    begun = anew(after)
    if after.index("staging").lines != tuple(line for line, _ in begun):
        raise RepositoryError(f"staging of {after.collection} would have other offers than release has")
    for line, history in begun:
        if after.history("staging", line.name) != history:
            raise RepositoryError(f"the history of {line.name} would be another than release has")
    for path, target in _members(after, begun).items():
        if after.members.get(path) != target:
            raise RepositoryError(f"{path}, which release has, would be named no longer")


def anew(contents: Contents) -> list[tuple[Line, History]]:
    """What staging has when it begins anew: of each model that release has, what is offered and was."""
    published: Counter[str] = Counter()  # as many as were published, however high a thief set a number
    with contextlib.suppress(RepositoryError):  # a damaged log must not keep a theft from being mended
        published.update(
            str(line.name)
            for line, _, _ in contents.roles.log.lines()
            if line.collection == contents.collection and line.action in ("publish", "embedded")
        )
    found = []
    for line in contents.index("release").lines:
        had = contents.history("release", line.name)
        offers, entries = (_for_testers(contents, line.name, each) for each in (line.offers, had.entries))
        last = max(line.last_version, published[line.name])
        line = replace(line, channel="staging", offers=offers, last_version=last)
        found.append((line, replace(had, channel="staging", entries=entries)))
    return found


def _for_testers(contents: Contents, name: str, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """To all of them, at once; a halt on staging stands where release halted that version, too."""
    halts, released = contents.halts("staging"), contents.halts("release")
    return tuple(
        replace(
            each,
            rollout=None,
            start=None,
            resumed=0 if released.halted(name, each) else halts.count(name, each.version),
        )
        for each in entries
    )


def _members(contents: Contents, begun: list[tuple[Line, History]]) -> dict[str, TargetFile]:
    entries = [each for line, history in begun for each in (*line.offers, *history.entries)]
    return {each.path: each for each in _targets(contents, entries)}


def _targets(contents: Contents, entries: list[Entry]) -> Iterator[TargetFile]:
    """The members of versions, by what their manifests say; each manifest is known by its hash."""
    for sha256 in dict.fromkeys(variant.manifest for entry in entries for variant in entry.variants):
        path = member_path(contents.collection, sha256)
        file = contents.targets / file_of(path, sha256)
        try:
            data = read_regular(file, MAX_MANIFEST_BYTES + 1)
        except OSError as error:
            raise RepositoryError(f"{file} cannot be read: {error.strerror}") from None
        if sha256_bytes(data) != sha256:
            raise RepositoryError(f"{file} is damaged", hint="restore the repository's files")
        yield TargetFile(len(data), {"sha256": sha256}, path)
        for member in Manifest.from_bytes(data).members:
            own = member_path(contents.collection, member.sha256)
            yield TargetFile(member.length, {"sha256": member.sha256}, own)
