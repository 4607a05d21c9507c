"""The signed repository: publish, promote, roll back, list. Static files that any web server can serve."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from coremlops.collection import (
    CHANNELS,
    MAX_PACKAGE_BYTES,
    Entry,
    Index,
    Manifest,
    Member,
    channel_role,
    check_channel,
    check_collection,
    index_path,
    member_path,
    members_role,
    next_version,
)
from coremlops.digest import sha256_bytes
from coremlops.errors import RepositoryError
from coremlops.files import TEMPORARY_SUFFIX, exclusive_lock, write_atomic
from coremlops.model import model_digest
from coremlops.release.expiry import Clock, Expiry, utc_now
from coremlops.release.keys import KeyFolder, config_folder, create_keys
from coremlops.release.payload import read_payload
from coremlops.release.roles import Roles, RoleStatus
from coremlops.release.signing import first_files
from coremlops.release.targets import as_target, file_of, read_target, store_member

IDENTITY = "coremlops.json"


@dataclass(frozen=True, slots=True)
class Repository:
    """One collection of a signed repository on disk. Make one with `init` or `open`.

    `folder`: the repository. `keys`: the keys that this machine may have. `clock`: the time, UTC.
    `lock_wait_s`: how long to wait for another publisher. `most_bytes`: the limit of one version.
    """

    folder: Path
    collection: str
    keys: KeyFolder
    clock: Clock = field(default=utc_now, repr=False)
    expiry: Expiry = field(default_factory=Expiry)
    lock_wait_s: float = 10.0
    most_bytes: int = MAX_PACKAGE_BYTES

    @staticmethod
    def init(
        folder: Path,
        collection: str = "faces",
        *,
        config: Path | None = None,
        clock: Clock = utc_now,
        expiry: Expiry | None = None,
    ) -> Repository:
        """A new repository with new keys, both channels empty.

        `config`: our configuration folder; `config_folder()` unless given. Raises `RepositoryError` when the
        folder holds something already, or the keys would not be private.
        """
        check_collection(collection)
        folder = folder.absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RepositoryError(f"{folder} exists already and is not empty")
        lifetimes = expiry or Expiry()
        with _disk("the keys cannot be written"):
            keys = create_keys((config or config_folder()).absolute())
        growing = folder.with_name(f".{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        try:
            files = first_files(collection, keys, clock=clock, expiry=lifetimes)
            identity = {"format": 0, "id": keys.repository_id, "collections": [collection]}
            files[IDENTITY] = (json.dumps(identity, indent=1, sort_keys=True) + "\n").encode()
            with _disk(f"{folder} cannot be written"):
                for name, data in files.items():
                    (growing / name).parent.mkdir(parents=True, exist_ok=True)
                    write_atomic(growing / name, data)
                os.replace(growing, folder)  # noqa: PTH105 - a folder appears whole or not at all
        except BaseException:
            shutil.rmtree(growing, ignore_errors=True)
            shutil.rmtree(keys.folder, ignore_errors=True)
            raise
        return Repository(folder, collection, keys, clock, lifetimes)

    @staticmethod
    def open(
        folder: Path, collection: str | None = None, *, config: Path | None = None, clock: Clock = utc_now
    ) -> Repository:
        """An existing repository. `collection`: needed only when it has several. Raises `RepositoryError`."""
        folder = folder.absolute()
        repository_id = _identity(folder)
        keys = KeyFolder((config or config_folder()).absolute(), repository_id)
        known = Roles(folder, keys, clock=clock, expiry=Expiry()).collections
        if collection is None and len(known) != 1:
            raise RepositoryError(f"{folder} has several collections: {', '.join(known)}", hint="name one")
        if collection is not None and collection not in known:
            raise RepositoryError(f"{folder} has no collection {collection!r:.60}; it has {', '.join(known)}")
        return Repository(folder, collection or known[0], keys, clock)

    def publish(self, model: Path, golden: Path, channel: str = "staging", *, again: bool = False) -> Entry:
        """Make a model the channel's current version, with its golden set, and return its entry.

        A model whose digest is the channel's newest or current version is published already: nothing happens,
        also after a rollback, which a repeated pipeline run must not undo. `again` says otherwise: it returns
        to the newest version, or makes a new one when a file (of the golden set, say) differs.
        Raises `RepositoryError`.
        """
        check_channel(channel)
        with _disk("the model or its golden set cannot be read"):
            payload = read_payload(model, golden, most_bytes=self.most_bytes)
        digest = model_digest(model)
        with self._change() as roles:
            index = self._index(roles, channel)
            known = self._known(roles, index, digest, payload.members, again=again)
            if known is not None and (not again or known == index.current):
                self._renew(roles, all_due=False)
                return known
            role, members = channel_role(self.collection, channel), members_role(self.collection)
            if known is not None:
                self._point(roles, index.with_current(known))
                roles.commit([role])
                return known
            roles.require_keys(_signing(self.collection, channel))
            everything = [self._index(roles, each) for each in CHANNELS]
            version = next_version(everything)
            manifest = Manifest(self.collection, version, digest, payload.kind, payload.members)
            data = manifest.to_bytes()
            Manifest.from_bytes(data, most_bytes=self.most_bytes)
            targets = roles.targets(members).signed.targets
            for member, source in zip(payload.members, payload.sources, strict=True):
                path = member_path(self.collection, member.sha256)
                store_member(source, member, self._targets / file_of(path, member.sha256))
                targets[path] = as_target(path, b"")[0]
                targets[path].length, targets[path].hashes = member.length, {"sha256": member.sha256}
            sha256 = sha256_bytes(data)
            target, file = as_target(member_path(self.collection, sha256), data)
            write_atomic(self._targets / file, data)
            targets[target.path] = target
            entry = Entry(version, digest, sha256, self.clock())
            self._point(roles, index.with_current(entry))
            roles.commit([members, role])
            return entry

    def promote(self, version: int | None = None, from_: str = "staging", to: str = "release") -> Entry:
        """Make a version of one channel the current one of another, and return its entry.

        `version`: the current one of `from_` unless given. Needs the key of `to`. A version that `to` rolled
        back from returns only when it is named. Raises `RepositoryError`.
        """
        with self._change() as roles:
            source = self._index(roles, check_channel(from_))
            target = self._index(roles, check_channel(to))
            entry = source.current if version is None else source.find(version)
            if entry is None:
                what = "no version yet" if version is None else f"no version {version}"
                raise RepositoryError(f"{from_} has {what}", hint="see `coremlops release list`")
            if entry == target.current:
                self._renew(roles, all_due=False)
                return entry
            if version is None and target.find(entry.version) is not None:
                raise RepositoryError(
                    f"{to} was rolled back from version {entry.version}",
                    hint=f"to return to it, name it: coremlops release promote --version {entry.version}",
                )
            role = channel_role(self.collection, to)
            roles.require_keys([role, "snapshot", "timestamp"])
            self._check_whole(roles, entry)
            self._point(roles, target.with_current(entry))
            roles.commit([role])
            return entry

    def rollback(self, channel: str, to_version: int | None = None) -> Entry:
        """Make an older version current again, by newer metadata, and return its entry.

        `to_version`: the one before the current unless given. Raises `RepositoryError`.
        """
        with self._change() as roles:
            index = self._index(roles, check_channel(channel))
            if index.current is None:
                raise RepositoryError(f"{channel} has no version yet")
            entry = index.before_current() if to_version is None else index.find(to_version)
            if entry is None:
                missing = "none before it" if to_version is None else f"no version {to_version}"
                raise RepositoryError(
                    f"{channel} is at version {index.current.version} and has {missing}",
                    hint="see `coremlops release list`",
                )
            if entry.version > index.current.version:
                raise RepositoryError(
                    f"version {entry.version} is newer than {channel}'s current {index.current.version}",
                    hint="to go forward: `coremlops release publish --again` or `promote --version`",
                )
            if entry == index.current:
                self._renew(roles, all_due=False)
                return entry
            role = channel_role(self.collection, channel)
            roles.require_keys([role, "snapshot", "timestamp"])
            self._check_whole(roles, entry)
            self._point(roles, index.with_current(entry))
            roles.commit([role])
            return entry

    def renew(self) -> tuple[str, ...]:
        """Sign anew what is due and whose key is here, root excepted; return those roles."""
        with self._change() as roles:
            return self._renew(roles, all_due=True)

    def renew_online(self) -> tuple[str, ...]:
        """Sign snapshot and timestamp anew if they are due and their keys are here; return those roles."""
        if not any(each.due for each in self.status() if each.role in ("snapshot", "timestamp")):
            return ()
        with self._change() as roles:
            return self._renew(roles, all_due=False)

    def require_keys(self, channel: str) -> None:
        """Raise `RepositoryError` unless this machine has all that publishing to the channel takes."""
        self._roles().require_keys(_signing(self.collection, check_channel(channel)))

    def index(self, channel: str) -> Index:
        """A channel as it stands."""
        return self._index(self._roles(), check_channel(channel))

    def list(self) -> tuple[Index, ...]:
        """Both channels as they stand."""
        roles = self._roles()
        return tuple(self._index(roles, channel) for channel in CHANNELS)

    def status(self) -> tuple[RoleStatus, ...]:
        """Every role with its version and its end, in the order of trust."""
        return self._roles().status()

    def manifest(self, entry: Entry) -> Manifest:
        """The manifest of a version."""
        return self._manifest(self._roles(), entry)

    @property
    def root_file(self) -> Path:
        """The newest root: what a device is given to start from."""
        return self.folder / "metadata" / f"{self._roles().root.signed.version}.root.json"

    @property
    def _targets(self) -> Path:
        return self.folder / "targets"

    def _roles(self) -> Roles:
        return Roles(self.folder, self.keys, clock=self.clock, expiry=self.expiry)

    @contextlib.contextmanager
    def _change(self) -> Iterator[Roles]:
        """The committed roles, while no other publisher changes them."""
        with _disk(f"{self.folder} cannot be changed"), contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive_lock(self.folder / ".lock", wait_s=self.lock_wait_s))
            except BlockingIOError:
                raise RepositoryError(
                    f"another process is publishing to {self.folder}", hint="try again when it is done"
                ) from None
            for pattern in ("metadata/.*", f"targets/{self.collection}/*/.*"):
                for leftover in self.folder.glob(f"{pattern}{TEMPORARY_SUFFIX}"):
                    leftover.unlink(missing_ok=True)
            yield self._roles()

    def _index(self, roles: Roles, channel: str) -> Index:
        path = index_path(self.collection, channel)
        target = roles.targets(channel_role(self.collection, channel)).signed.targets.get(path)
        if target is None:
            raise RepositoryError(f"{self.folder} has no {path}")
        data = read_target(self._targets, target)
        return Index.from_bytes(data, collection=self.collection, channel=channel)

    def _manifest(self, roles: Roles, entry: Entry) -> Manifest:
        path = member_path(self.collection, entry.manifest)
        target = roles.targets(members_role(self.collection)).signed.targets.get(path)
        if target is None:
            raise RepositoryError(f"version {entry.version} has no manifest in {self.folder}")
        return Manifest.from_bytes(read_target(self._targets, target))

    def _check_whole(self, roles: Roles, entry: Entry) -> None:
        """Raise `RepositoryError` unless a version's manifest is its own and all its files are here.

        Whoever signs a channel's index vouches for what it names; another key may have written the entry.
        """
        manifest = self._manifest(roles, entry)
        named = (manifest.collection, manifest.version, manifest.model)
        if named != (self.collection, entry.version, entry.model):
            raise RepositoryError(
                f"the manifest of version {entry.version} ({entry.model[:12]}) is of "
                f"{named[0]} version {named[1]} ({named[2][:12]})"
            )
        signed = roles.targets(members_role(self.collection)).signed.targets
        for member in manifest.members:
            path = member_path(self.collection, member.sha256)
            file = self._targets / file_of(path, member.sha256)
            if path not in signed or not file.is_file() or file.stat().st_size != member.length:
                raise RepositoryError(
                    f"version {entry.version}: {member.path} is not whole in the repository: {file}",
                    hint="publish that model again, or restore the repository's files",
                )

    def _known(
        self, roles: Roles, index: Index, digest: str, members: tuple[Member, ...], *, again: bool
    ) -> Entry | None:
        """The entry that has this model already, if publishing it would say nothing new."""
        latest = index.latest
        if latest is not None and latest.model == digest:
            return latest if not again or self._manifest(roles, latest).members == members else None
        if index.current is not None and index.current.model == digest and not again:
            return index.current
        return None

    def _point(self, roles: Roles, index: Index) -> None:
        """Write the channel's new index and name it in its role; nothing is seen before the commit."""
        data = index.to_bytes()
        target, file = as_target(index_path(index.collection, index.channel), data)
        write_atomic(self._targets / file, data)
        roles.targets(channel_role(index.collection, index.channel)).signed.targets = {target.path: target}

    def _renew(self, roles: Roles, *, all_due: bool) -> tuple[str, ...]:
        """Sign anew what is due; without `all_due` only if snapshot or timestamp are. No key is no error."""
        due = [each.role for each in roles.status() if each.due and each.key_present and each.role != "root"]
        online = [role for role in due if role in ("snapshot", "timestamp")]
        if not due or (not all_due and not online):
            return ()
        roles.commit(role for role in due if role not in ("snapshot", "timestamp"))
        return tuple(due)


def _signing(collection: str, channel: str) -> tuple[str, ...]:
    """The roles that sign when a version is published."""
    return members_role(collection), channel_role(collection, channel), "snapshot", "timestamp"


@contextlib.contextmanager
def _disk(what: str) -> Iterator[None]:
    """What the disk refuses is a `RepositoryError`: a full disk, a folder of somebody else's."""
    try:
        yield
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise RepositoryError(f"{what}: {error.strerror or error}{name}") from error


def _identity(folder: Path) -> str:
    """The id in `coremlops.json`. It chooses a key folder and is trusted for nothing else."""
    path = folder / IDENTITY
    try:
        value = json.loads(path.read_bytes()[:65_536])
    except FileNotFoundError:
        raise RepositoryError(
            f"no signed repository at {folder}", hint=f"coremlops repo init {folder}"
        ) from None
    except (OSError, ValueError, RecursionError):
        raise RepositoryError(f"{path} cannot be read") from None
    identity = value.get("id") if isinstance(value, dict) else None
    if not isinstance(identity, str):
        raise RepositoryError(f"{path} names no id")
    return identity
