"""What one collection holds, as its committed roles name it: its models, their documents and members."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tuf.api.metadata import Metadata, TargetFile, Targets

from coremlops.collection import (
    CHANNELS,
    Entry,
    Halts,
    History,
    Index,
    Line,
    Manifest,
    Variant,
    channel_role,
    check_name,
    halt_path,
    halt_role,
    history_path,
    index_path,
    member_path,
)
from coremlops.errors import RepositoryError
from coremlops.release.members import Members
from coremlops.release.payload import Payload
from coremlops.release.roles import Roles
from coremlops.release.targets import as_target, file_of, read_target, store_member, write_served


@dataclass(frozen=True, slots=True)
class Contents:
    """One collection of a repository, read and changed through `roles`; nothing is seen before they commit.

    `folder`: the repository. `asked`: the model that is meant, where one was named; see `name`.
    Raises `RepositoryError` for what its metadata did not sign.
    """

    roles: Roles
    folder: Path
    collection: str
    asked: str | None = None
    members: Members = field(init=False)
    _indexes: dict[str, Index] = field(init=False, repr=False, default_factory=dict)
    _histories: dict[tuple[str, str], History] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "members", Members(self.roles, self.collection))

    @property
    def targets(self) -> Path:
        """The folder of target files."""
        return self.folder / "targets"

    @property
    def names(self) -> tuple[str, ...]:
        """The models that the collection holds.

        Those of the other channel where one cannot be read: whoever has staging's key must not be able to
        keep release from being halted.
        """
        found: set[str] = set()
        errors = []
        for channel in CHANNELS:
            try:
                found |= {*self.index(channel).names}
            except RepositoryError as error:
                errors.append(error)
        if len(errors) == len(CHANNELS):
            raise errors[0]
        return tuple(sorted(found))

    @property
    def name(self) -> str:
        """The model that is meant: the one that was named, else the collection's only one, else, in an empty
        collection, one of the collection's own name. Raises `RepositoryError` where there are several."""
        if self.asked is not None:
            return check_name(self.asked)
        names = self.names
        if len(names) > 1:
            raise RepositoryError(
                f"{self.collection} holds several models: {', '.join(names)}", hint="name one: --model NAME"
            )
        return names[0] if names else self.collection

    def known_name(self) -> str:
        """`name`, when the collection holds a model of that name, or none at all yet. Raises
        `RepositoryError`."""
        names = self.names
        if self.asked is not None and self.asked not in names:
            raise RepositoryError(
                f"{self.collection} holds no model {self.asked!r:.60}; it holds {', '.join(names) or 'none'}",
                hint="coremlops release publish MODEL --model NAME   makes one",
            )
        return self.name

    def line(self, channel: str) -> Line:
        """What a channel offers of the model that is meant."""
        return self.index(channel).line(self.name)

    def index(self, channel: str) -> Index:
        """What a channel offers."""
        if channel not in self._indexes:
            role, path = channel_role(self.collection, channel), index_path(self.collection, channel)
            data = self._document(role, path)
            try:
                index = Index.from_bytes(data, collection=self.collection, channel=channel)
            except RepositoryError as error:
                raise RepositoryError(f"{path}: {error.message}", hint=error.hint) from None
            self._indexes[channel] = index
        return self._indexes[channel]

    def history(self, channel: str, name: str | None = None) -> History:
        """Every version that a channel had of a model: of this one, or of the one that is meant."""
        name = self.name if name is None else name
        role, path = channel_role(self.collection, channel), history_path(self.collection, channel, name)
        if not self.index(channel).line(name).last_version:
            return History(self.collection, channel, name)
        if (channel, name) not in self._histories:  # a full one takes 13 ms to read
            data = self._document(role, path)
            self._histories[channel, name] = History.from_bytes(
                data, collection=self.collection, channel=channel, name=name
            )
        return self._histories[channel, name]

    def latest(self, line: Line) -> Entry | None:
        """The newest version that a channel ever had; its history is read only after a rollback."""
        if line.current is not None and line.current.version == line.last_version:
            return line.current
        history = self.history(line.channel, line.name)
        return history.find(line.last_version) if line.last_version else None

    def halts(self, channel: str) -> Halts:
        """What is halted in a channel."""
        data = self._document(halt_role(self.collection), halt_path(self.collection, channel))
        return Halts.from_bytes(data, collection=self.collection, channel=channel)

    def clear(self, channel: str) -> None:
        """Let a channel offer nothing and have no history, whatever it says now."""
        role, index = channel_role(self.collection, channel), Index(self.collection, channel)
        self.roles.add(role, Metadata(Targets()))
        self._write(role, index_path(self.collection, channel), index.to_bytes())
        self._indexes[channel] = index

    def put_line(self, line: Line, history: History) -> None:
        """Write what a channel offers of a model, and its history."""
        role, index = channel_role(self.collection, line.channel), self.index(line.channel).having(line)
        self._write(role, index_path(self.collection, line.channel), index.to_bytes())
        self._indexes[line.channel] = index
        # No device reads the history, so nobody asks for its gzip.
        path = history_path(self.collection, line.channel, line.name)
        self._write(role, path, history.to_bytes(), packed=False)
        self._histories[line.channel, line.name] = history

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

    def check_whole(self, name: str, entry: Entry) -> None:
        """Raise `RepositoryError` unless the manifests of a model's version are its own and all its files
        are here.

        Whoever signs a channel's index vouches for what it names; another key may have written the entry.
        """
        for variant in entry.variants:
            manifest = self.manifest(entry, variant)
            if manifest.about != (self.collection, name, entry.version, variant.name, variant.model):
                raise RepositoryError(
                    f"the manifest of {name} version {entry.version}, {variant.name} ({variant.model[:12]}),"
                    f" is of {manifest.collection}'s {manifest.name} version {manifest.version}, "
                    f"{manifest.variant} ({manifest.model[:12]})"
                )
            if (manifest.kind, manifest.length) != (variant.kind, variant.length):
                raise RepositoryError(
                    f"{name} version {entry.version}, {variant.name}: the index says {variant.kind} of "
                    f"{variant.length} bytes, the manifest {manifest.kind} of {manifest.length}"
                )
            for member in manifest.members:
                path = member_path(self.collection, member.sha256)
                file = self.targets / file_of(path, member.sha256)
                if not (self.members.get(path) and file.is_file() and file.stat().st_size == member.length):
                    raise RepositoryError(
                        f"version {entry.version}: {member.path} is not whole in the repository: {file}",
                        hint="publish that model again, or restore the repository's files",
                    )

    def store(self, manifest: Manifest, payload: Payload, *, most_bytes: int) -> None:
        """Put a variant's files and its manifest in place and name them as targets."""
        data = manifest.to_bytes()
        Manifest.from_bytes(data, most_bytes=most_bytes)
        for member, source in zip(payload.members, payload.sources, strict=True):
            path = member_path(self.collection, member.sha256)
            store_member(source, member, self.targets / file_of(path, member.sha256))
            self.members.put(TargetFile(member.length, {"sha256": member.sha256}, path))
        target, file = as_target(member_path(self.collection, manifest.sha256), data)
        write_served(self.targets / file, data, packed=False)
        self.roles.written.add((self.targets / file).parent)
        self.members.put(target)

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
