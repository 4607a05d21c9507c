"""A staging channel that a thief of its key wrote, or that cannot be read: it begins anew from release."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from tuf.api.metadata import Metadata, TargetFile, Targets

from coremlops.collection import (
    MAX_MANIFEST_BYTES,
    Entry,
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
from coremlops.release.keeping import Keeper
from coremlops.release.targets import file_of


def reset(repository: Keeper, collection: str) -> tuple[Line, ...]:
    """Give staging what release offers, and return its lines: nothing that staging's key signed is believed.

    Models and versions that release never had go; of the others, numbers go on after those of the audit log.
    Shares and starts are release's own: all testers get what it offers. The members are named anew from the
    manifests that release's index and histories name. Raises `RepositoryError`, `PendingError` when it waits
    for signatures.
    """
    with repository.locked() as roles:
        contents = Contents(roles, repository.folder, collection)
        index = contents.index("release")
        staging, members = channel_role(collection, "staging"), members_role(collection)
        roles.require_keys([staging, members])
        # As many as were published, however high a thief set a number.
        published = Counter(
            line.name
            for line, _, _ in roles.log.lines()
            if line.collection == collection and line.action in ("publish", "embedded")
        )
        entries: list[Entry] = []
        lines = []
        contents.clear("staging")
        for line in index.lines:
            history = contents.history("release", line.name)
            entries += [*line.offers, *history.entries]
            last = max(line.last_version, published[line.name])
            offers, had = (_for_testers(contents, line.name, each) for each in (line.offers, history.entries))
            lines.append(replace(line, channel="staging", offers=offers, last_version=last))
            contents.put_line(lines[-1], replace(history, channel="staging", entries=had))
        named = {each.path: each for each in _targets(contents, entries)}
        roles.add(members, Metadata(Targets(targets=named)))
        contents.members.changed = {members}
        contents.members.grow()
        roles.commit([*contents.members.changed, staging], Act("reset", collection, channel="staging"))
    return tuple(lines)


def _for_testers(contents: Contents, name: str, entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    halts = contents.halts("staging")
    return tuple(
        replace(each, rollout=None, start=None, resumed=halts.count(name, each.version)) for each in entries
    )


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
