"""What one collection holds, as its committed roles name it: its documents, manifests and members."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tuf.api.metadata import TargetFile

from coremlops.collection import (
    Entry,
    Halts,
    History,
    Index,
    Manifest,
    Variant,
    channel_role,
    halt_path,
    halt_role,
    history_path,
    index_path,
    member_path,
)
from coremlops.digest import sha256_bytes
from coremlops.errors import RepositoryError
from coremlops.release.members import Members
from coremlops.release.payload import Payload
from coremlops.release.roles import Roles
from coremlops.release.targets import as_target, file_of, read_target, store_member, write_served


@dataclass(frozen=True, slots=True)
class Contents:
    """One collection of a repository, read and changed through `roles`; nothing is seen before they commit.

    `folder`: the repository. Raises `RepositoryError` for what its metadata did not sign.
    """

    roles: Roles
    folder: Path
    collection: str
    members: Members = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", Members(self.roles, self.collection))

    @property
    def targets(self) -> Path:
        """The folder of target files."""
        return self.folder / "targets"

    def index(self, channel: str) -> Index:
        """What a channel offers."""
        data = self._document(channel_role(self.collection, channel), index_path(self.collection, channel))
        return Index.from_bytes(data, collection=self.collection, channel=channel)

    def history(self, channel: str) -> History:
        """Every version that a channel had."""
        data = self._document(channel_role(self.collection, channel), history_path(self.collection, channel))
        return History.from_bytes(data, collection=self.collection, channel=channel)

    def latest(self, index: Index) -> Entry | None:
        """The newest version that a channel ever had; its history is read only after a rollback."""
        if index.current is not None and index.current.version == index.last_version:
            return index.current
        return self.history(index.channel).find(index.last_version) if index.last_version else None

    def halts(self, channel: str) -> Halts:
        """What is halted in a channel."""
        data = self._document(halt_role(self.collection), halt_path(self.collection, channel))
        return Halts.from_bytes(data, collection=self.collection, channel=channel)

    def put_index(self, index: Index, history: History) -> None:
        """Write what a channel offers, and its history."""
        role = channel_role(self.collection, index.channel)
        self._write(role, index_path(self.collection, index.channel), index.to_bytes())
        # No device reads the history, so nobody asks for its gzip.
        path = history_path(self.collection, index.channel)
        self._write(role, path, history.to_bytes(), packed=False)

    def put_halts(self, halts: Halts) -> None:
        """Write what is halted in a channel."""
        path = halt_path(self.collection, halts.channel)
        self._write(halt_role(self.collection), path, halts.to_bytes())

    def manifest(self, entry: Entry, variant: Variant) -> Manifest:
        """The manifest of a version's variant; that it speaks of this one is `check_whole`'s to see."""
        target = self.members.get(member_path(self.collection, variant.manifest))
        if target is None:
            raise RepositoryError(
                f"version {entry.version}, {variant.name}, has no manifest in {self.folder}"
            )
        return Manifest.from_bytes(read_target(self.targets, target))

    def check_whole(self, entry: Entry) -> None:
        """Raise `RepositoryError` unless a version's manifests are its own and all its files are here.

        Whoever signs a channel's index vouches for what it names; another key may have written the entry.
        """
        for variant in entry.variants:
            manifest = self.manifest(entry, variant)
            named = (manifest.collection, manifest.version, manifest.variant, manifest.model)
            if named != (self.collection, entry.version, variant.name, variant.model):
                raise RepositoryError(
                    f"the manifest of version {entry.version}, {variant.name} ({variant.model[:12]}), is of "
                    f"{named[0]} version {named[1]}, {named[2]} ({named[3][:12]})"
                )
            for member in manifest.members:
                path = member_path(self.collection, member.sha256)
                file = self.targets / file_of(path, member.sha256)
                if not (self.members.get(path) and file.is_file() and file.stat().st_size == member.length):
                    raise RepositoryError(
                        f"version {entry.version}: {member.path} is not whole in the repository: {file}",
                        hint="publish that model again, or restore the repository's files",
                    )

    def store(self, manifest: Manifest, payload: Payload, *, most_bytes: int) -> str:
        """Put a variant's files and its manifest in place and name them as targets; the manifest's
        SHA-256."""
        data = manifest.to_bytes()
        Manifest.from_bytes(data, most_bytes=most_bytes)
        for member, source in zip(payload.members, payload.sources, strict=True):
            path = member_path(self.collection, member.sha256)
            store_member(source, member, self.targets / file_of(path, member.sha256))
            self.members.put(TargetFile(member.length, {"sha256": member.sha256}, path))
        sha256 = sha256_bytes(data)
        target, file = as_target(member_path(self.collection, sha256), data)
        write_served(self.targets / file, data, packed=False)
        self.roles.written.add((self.targets / file).parent)
        self.members.put(target)
        return sha256

    def _document(self, role: str, path: str) -> bytes:
        target = self.roles.targets(role).signed.targets.get(path)
        if target is None:
            raise RepositoryError(f"{self.folder} has no {path}")
        return read_target(self.targets, target)

    def _write(self, role: str, path: str, data: bytes, *, packed: bool = True) -> None:
        target, file = as_target(path, data)
        write_served(self.targets / file, data, packed=packed)
        self.roles.written.add((self.targets / file).parent)
        self.roles.targets(role).signed.targets[path] = target
