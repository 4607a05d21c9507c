"""The signed repository: publish, promote, roll out, halt, roll back. Static files that any server can
serve."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from coremlops.collection import (
    ALL,
    CHANNELS,
    MAX_PACKAGE_BYTES,
    Entry,
    Halts,
    History,
    Index,
    Line,
    Manifest,
    Rollout,
    Variant,
    channel_role,
    check_channel,
    check_collection,
    halt_role,
    members_role,
    next_version,
)
from coremlops.errors import RepositoryError
from coremlops.files import TEMPORARY_SUFFIX, exclusive_lock
from coremlops.model import model_digest
from coremlops.release.audit import Act
from coremlops.release.change import drop, find, load, pending_ids
from coremlops.release.contents import Contents
from coremlops.release.expiry import Clock, Expiry, utc_now
from coremlops.release.keys import KeyFolder, KeyPlan, config_folder, create_keys
from coremlops.release.payload import Payload, read_payload
from coremlops.release.review import Review, review, unreadable
from coremlops.release.roles import Roles, RoleStatus
from coremlops.release.rotation import Rotated, Rotation, retire_untrusted, rotate
from coremlops.release.screen import check
from coremlops.release.signing import first_files
from coremlops.release.targets import write_served
from coremlops.release.terms import Form, Terms, check_forms, check_offer, new_salt

IDENTITY = "coremlops.json"


@dataclass(frozen=True, slots=True)
class Repository:
    """One collection of a signed repository on disk. Make one with `init` or `open`.

    `folder`: the repository. `keys`: the keys that this machine may have. `name`: the model that is meant;
    the collection's only one, or in an empty one that of the collection's name, unless given. `clock`: the
    time, UTC.
    `lock_wait_s`: how long to wait for another publisher. `most_bytes`: the limit of one version.
    `clock_checked`: somebody says that the clock is right, however far it is from the last change.
    """

    folder: Path
    collection: str
    keys: KeyFolder
    name: str | None = None
    clock: Clock = field(default=utc_now, repr=False)
    expiry: Expiry = field(default_factory=Expiry)
    lock_wait_s: float = 60.0
    most_bytes: int = MAX_PACKAGE_BYTES
    clock_checked: bool = False

    @staticmethod
    def init(
        folder: Path,
        collection: str = "faces",
        *,
        config: Path | None = None,
        clock: Clock = utc_now,
        expiry: Expiry | None = None,
        plan: KeyPlan | None = None,
    ) -> Repository:
        """A new repository with new keys, both channels empty.

        `config`: our configuration folder; `config_folder()` unless given. `plan`: how many keys, and how
        many of them must sign. Raises `RepositoryError` when the folder holds something already, or the keys
        would not be private.
        """
        check_collection(collection)
        plan = plan or KeyPlan()
        folder = folder.absolute()
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RepositoryError(f"{folder} exists already and is not empty")
        lifetimes = expiry or Expiry()
        with _disk("the keys cannot be written"):
            keys = create_keys((config or config_folder()).absolute(), plan)
        growing = folder.with_name(f".{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        try:
            files = first_files(collection, keys, clock=clock, expiry=lifetimes, thresholds=plan.thresholds)
            identity = {"format": 0, "id": keys.repository_id, "collections": [collection]}
            files[IDENTITY] = (json.dumps(identity, indent=1, sort_keys=True) + "\n").encode()
            with _disk(f"{folder} cannot be written"):
                for name, data in files.items():
                    (growing / name).parent.mkdir(parents=True, exist_ok=True)
                    write_served(growing / name, data)
                os.replace(growing, folder)  # noqa: PTH105 - a folder appears whole or not at all
        except BaseException:
            shutil.rmtree(growing, ignore_errors=True)
            shutil.rmtree(keys.folder, ignore_errors=True)
            raise
        return Repository(folder, collection, keys, clock=clock, expiry=lifetimes)

    @staticmethod
    def open(
        folder: Path,
        collection: str | None = None,
        name: str | None = None,
        *,
        config: Path | None = None,
        clock: Clock = utc_now,
    ) -> Repository:
        """An existing repository. `collection`: needed only when it has several; `name`: of a model, needed
        only where the collection holds several. Raises `RepositoryError`."""
        folder = folder.absolute()
        repository_id = _identity(folder)
        keys = KeyFolder((config or config_folder()).absolute(), repository_id)
        known = Roles(folder, keys, clock=clock, expiry=Expiry()).collections
        if collection is None and len(known) != 1:
            raise RepositoryError(f"{folder} has several collections: {', '.join(known)}", hint="name one")
        if collection is not None and collection not in known:
            raise RepositoryError(f"{folder} has no collection {collection!r:.60}; it has {', '.join(known)}")
        return Repository(folder, collection or known[0], keys, name, clock)

    def publish(
        self,
        forms: Sequence[Form],
        channel: str = "staging",
        *,
        terms: Terms | None = None,
        again: bool = False,
        detail: Mapping[str, Any] | None = None,
    ) -> Entry:
        """Offer a version in a channel, before all older ones, and return its entry.

        A model that the collection does not hold yet is made. `forms`: of it, in the order in which a device
        tries them. `terms`: for whom, how many, from when. Forms whose digests are those of the channel's
        newest or current version are published already: nothing happens, also after a rollback, which a
        repeated pipeline run must not undo. `again` says otherwise: it returns to the newest version, or
        makes a new one when a file (of the golden set, say) differs. `detail`: what the audit log says
        beside, short.
        Raises `RepositoryError`.
        """
        check_channel(channel)
        terms = terms or Terms()
        with _disk("the model or its golden set cannot be read"):
            payloads = [read_payload(form.model, form.golden, most_bytes=self.most_bytes) for form in forms]
        digests = [model_digest(form.model) for form in forms]
        check_forms(forms, terms)
        with self.changing() as contents:
            line = contents.line(channel)
            known = self._known(contents, line, digests, payloads, again=again)
            if known is not None and (not again or known == line.current):
                self._renew(contents.roles, all_due=False)
                return known
            act = Act("publish", self.collection, line.name, channel, detail=detail or {})
            if known is not None:
                return self._offer(contents, line, terms.applied(known), act)
            contents.roles.require_keys(_signing(self.collection, channel))
            version = next_version(contents.line(each) for each in CHANNELS)
            variants = []
            for form, digest, payload in zip(forms, digests, payloads, strict=True):
                manifest = Manifest(
                    self.collection,
                    line.name,
                    version,
                    form.name,
                    digest,
                    payload.kind,
                    payload.members,
                )
                sha256 = contents.store(manifest, payload, most_bytes=self.most_bytes)
                variants.append(
                    Variant(form.name, payload.kind, digest, sha256, manifest.length, form.requires)
                )
            contents.members.grow()
            entry = terms.applied(Entry(version, self.clock(), tuple(variants)))
            return self._offer(contents, line, entry, act)

    def offer_embedded(self, channel: str, *, terms: Terms | None = None) -> Entry:
        """Offer "use the model that the app carries" as a version of its own. Raises `RepositoryError`."""
        check_channel(channel)
        with self.changing() as contents:
            contents.known_name()
            line = contents.line(channel)
            version = next_version(contents.line(each) for each in CHANNELS)
            entry = (terms or Terms()).applied(Entry(version, self.clock(), embedded=True))
            return self._offer(contents, line, entry, Act("embedded", self.collection, line.name, channel))

    def promote(
        self,
        version: int | None = None,
        from_: str = "staging",
        to: str = "release",
        *,
        terms: Terms | None = None,
        gate: Callable[[Entry], Mapping[str, Any]] | None = None,
    ) -> Entry:
        """Offer a version of one channel in another, and return its entry.

        `version`: the current one of `from_` unless given. `terms`: those of `from_` unless given. Needs the
        key of `to`. A version that `to` rolled back from returns only when it is named. `gate`: is shown the
        entry, raises when it must not be promoted, and says what the audit log keeps of why it may.
        Raises `RepositoryError`, and what `gate` raises.
        """
        with self.changing() as contents:
            name = contents.known_name()
            source = contents.line(check_channel(from_))
            target = contents.line(check_channel(to))
            entry = source.current if version is None else contents.history(from_).find(version)
            if entry is None:
                what = "no version yet" if version is None else f"no version {version}"
                raise RepositoryError(f"{from_} has {what}", hint="see `coremlops release list`")
            evidence = gate(entry) if gate is not None else {}
            current = target.current
            if current is not None and current.version == entry.version and terms is None:
                self._renew(contents.roles, all_due=False)
                return current
            before = contents.history(to).find(entry.version)
            if version is None and before is not None and target.find(entry.version) is None:
                raise RepositoryError(
                    f"{to} was rolled back from version {entry.version}",
                    hint=f"to return to it, name it: coremlops release promote --version {entry.version}",
                )
            contents.roles.require_keys([channel_role(self.collection, to), "snapshot", "timestamp"])
            contents.check_whole(name, entry)
            entry = terms.applied(entry) if terms is not None else entry
            if entry.rollout is not None and before is not None and before.rollout is not None:
                # Another share keeps its devices: a wider one only adds some.
                entry = replace(entry, rollout=replace(entry.rollout, salt=before.rollout.salt))
            _not_fewer(target.find(entry.version), entry, to)
            entry = replace(entry, resumed=contents.halts(to).count(name, entry.version))
            act = Act("promote", self.collection, name, to, detail=evidence)
            return self._offer(contents, target, entry, act)

    def rollback(self, channel: str, to_version: int | None = None) -> Entry:
        """Make an older version the newest on offer again, by newer metadata, and return its entry.

        It is offered to every device that its rule and variants take. `to_version`: the one before the
        current unless given. Raises `RepositoryError`.
        """
        with self.changing() as contents:
            name = contents.known_name()
            line = contents.line(check_channel(channel))
            if line.current is None:
                raise RepositoryError(f"{channel} has no version yet")
            history = contents.history(channel)
            now = line.current.version
            entry = history.before(now) if to_version is None else history.find(to_version)
            if entry is None:
                missing = "none before it" if to_version is None else f"no version {to_version}"
                raise RepositoryError(
                    f"{channel} is at version {now} and has {missing}", hint="see `coremlops release list`"
                )
            if entry.version > now:
                raise RepositoryError(
                    f"version {entry.version} is newer than {channel}'s current {now}",
                    hint="to go forward: `coremlops release publish --again` or `promote --version`",
                )
            if entry.version == now:
                self._renew(contents.roles, all_due=False)
                return line.current
            contents.roles.require_keys([channel_role(self.collection, channel), "snapshot", "timestamp"])
            contents.check_whole(name, entry)
            entry = replace(
                entry, rollout=None, start=None, resumed=contents.halts(channel).count(name, entry.version)
            )
            return self._offer(contents, line, entry, Act("rollback", self.collection, name, channel))

    def rollout(
        self, channel: str, basis_points: int, version: int | None = None, *, lower: bool = False
    ) -> Entry:
        """Offer a version to another share of all devices, and take back a halt of it; return its entry.

        `version`: the current one unless given. Raises `RepositoryError`, for a smaller share unless `lower`
        says that it is meant.
        """
        with self.changing() as contents:
            name = contents.known_name()
            line = contents.line(check_channel(channel))
            entry = self._offered(line, version)
            salt = entry.rollout.salt if entry.rollout is not None else new_salt()
            halts = contents.halts(channel)
            changed = replace(
                entry,
                rollout=None if basis_points >= ALL else Rollout(basis_points, salt),
                resumed=halts.count(name, entry.version),
            )
            if not lower:
                _not_fewer(entry, changed, channel)
            if changed == entry:
                self._renew(contents.roles, all_due=False)
                return entry
            share = {"basis_points": basis_points}
            act = Act("rollout", self.collection, name, channel, entry.version, share)
            return self._offer(contents, line, changed, act, keep=True)

    def halt(self, channel: str, version: int | None = None) -> Entry:
        """Let no further device take a version; those that run it keep it. Needs the halt key alone, with
        those of snapshot and timestamp. Returns its entry. Raises `RepositoryError`."""
        with self.changing() as contents:
            name = contents.known_name()
            entry = self._offered(contents.line(check_channel(channel)), version)
            halts = contents.halts(channel)
            if halts.halted(name, entry):
                self._renew(contents.roles, all_due=False)
                return entry
            role = halt_role(self.collection)
            contents.roles.require_keys([role, "snapshot", "timestamp"])
            contents.put_halts(halts.halting(name, entry))
            contents.roles.commit([role], Act("halt", self.collection, name, channel, entry.version))
            return entry

    def pending(self) -> tuple[Review, ...]:
        """The changes that wait for signatures, those that are stale included."""
        found = []
        for change_id in pending_ids(self.folder):
            roles = self._roles()
            try:
                change = load(self.folder, change_id)
            except RepositoryError as error:
                found.append(unreadable(change_id, error, now=self.clock()))
            else:
                found.append(review(roles, change, expiry=roles.expiry, now=self.clock()))
        return tuple(found)

    def waiting(self) -> tuple[str, ...]:
        """The ids of those changes."""
        return pending_ids(self.folder)

    def sign(self, change_id: str) -> Review:
        """Add this machine's signatures to a pending change, commit it when they suffice; return what it is.

        Raises `PendingError` while it wants more, `RepositoryError` for a change that is stale or that nobody
        may sign, and when no key that it waits for is here.
        """
        with self.changing() as contents:
            roles = contents.roles
            retire_untrusted(roles, self.keys)  # of a rotation that another machine committed
            change = load(self.folder, change_id)
            check(roles, change, expiry=roles.expiry, now=self.clock())
            found = review(roles, change, expiry=roles.expiry, now=self.clock())
            roles.sign(change)
            lacks = roles.lacks(change)
            if lacks and lacks == found.lacks:
                keys = " and ".join(dict.fromkeys(each.key for each in lacks))
                raise RepositoryError(
                    f"change {change.id} waits for a {keys} key, and none that has not signed is here",
                    hint=f"run this where one is; this machine's keys are in {self.keys.folder}",
                )
            roles.finish(change)
        self._retire()
        return found

    def rotate(self, rotation: Rotation) -> Rotated:
        """Give roles other keys: new ones made here, the old ones' files put aside when all of it is done.

        Raises `PendingError` when the change waits for signatures from elsewhere, `RepositoryError` when it
        cannot be.
        """
        with self.changing() as contents:
            made = rotate(contents.roles, self.keys, rotation)
        return Rotated(made, self._retire())

    def drop(self, change_id: str) -> str:
        """Forget a pending change, and return its id. Raises `RepositoryError` when there is none."""
        with self.changing():
            dropped = find(self.folder, change_id)  # a damaged one too
            drop(self.folder, dropped)
        return dropped

    def renew(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Sign anew what is due and whose key is here, root excepted; return those roles.

        `names`: of roles that are signed anew, due or not, root too; raises `RepositoryError` when a key is
        missing, `PendingError` when too few are here.
        """
        with self.changing() as contents:
            if not names:
                return self._renew(contents.roles, all_due=True)
            contents.roles.renew(names, Act("renew", self.collection, detail={"roles": list(names)}))
            return tuple(names)

    def renew_online(self) -> tuple[str, ...]:
        """Sign snapshot and timestamp anew if they are due and their keys are here; return those roles."""
        if not any(each.due for each in self.status() if each.role in ("snapshot", "timestamp")):
            return ()
        with self.changing() as contents:
            return self._renew(contents.roles, all_due=False)

    def published(self, channel: str, models: Sequence[str]) -> Entry | None:
        """The channel's newest or current version, if these are its models' digests."""
        contents = self.contents()
        line = contents.line(check_channel(channel))
        latest = contents.latest(line)
        return next((each for each in (latest, line.current) if each and each.models == tuple(models)), None)

    def require_keys(self, channel: str) -> None:
        """Raise `RepositoryError` unless this machine has all that publishing to the channel takes."""
        self._roles().require_keys(_signing(self.collection, check_channel(channel)), whole=True)

    @property
    def names(self) -> tuple[str, ...]:
        """The models that the collection holds."""
        return self.contents().names

    @property
    def model_name(self) -> str:
        """The model that is meant. Raises `RepositoryError` when the collection holds several, or others."""
        return self.contents().known_name()

    def line(self, channel: str) -> Line:
        """What a channel offers of the model that is meant."""
        return self.contents().line(check_channel(channel))

    def index(self, channel: str) -> Index:
        """A channel as it stands, of all models."""
        return self.contents().index(check_channel(channel))

    def history(self, channel: str) -> History:
        """Every version that a channel had of the model that is meant."""
        return self.contents().history(check_channel(channel))

    def halts(self, channel: str) -> Halts:
        """What is halted in a channel."""
        return self.contents().halts(check_channel(channel))

    def list(self) -> tuple[Index, ...]:
        """Both channels as they stand."""
        contents = self.contents()
        return tuple(contents.index(channel) for channel in CHANNELS)

    def status(self) -> tuple[RoleStatus, ...]:
        """Every role with its version and its end, in the order of trust."""
        return self._roles().status()

    def manifest(self, entry: Entry, variant: str | None = None) -> Manifest:
        """The manifest of a version's first variant, or of a named one."""
        chosen = entry.variants[0] if variant is None else entry.variant(variant)
        return self.contents().manifest(entry, chosen)

    def audit(self) -> int:
        """How many lines the audit log has, when it is whole. Raises `RepositoryError`."""
        roles = self._roles()
        return roles.log.verify(roles.public_keys(), roles.timestamp.signed.version)

    @property
    def root_file(self) -> Path:
        """The newest root: what a device is given to start from."""
        return self.folder / "metadata" / f"{self._roles().root.signed.version}.root.json"

    def _roles(self) -> Roles:
        roles = Roles(self.folder, self.keys, clock=self.clock, expiry=self.expiry)
        roles.clock_checked = self.clock_checked
        return roles

    def contents(self) -> Contents:
        """What the collection holds now, by the committed roles."""
        return Contents(self._roles(), self.folder, self.collection, self.name)

    def _retire(self) -> tuple[Path, ...]:
        """Put aside the files of keys that no device trusts any more; where they are now."""
        with _disk("the change is committed, but old keys cannot be put aside"):
            return retire_untrusted(self._roles(), self.keys)

    @contextlib.contextmanager
    def changing(self) -> Iterator[Contents]:
        """The committed contents, while no other publisher changes them."""
        with _disk(f"{self.folder} cannot be changed"), contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive_lock(self.folder / ".lock", wait_s=self.lock_wait_s))
            except BlockingIOError:
                raise RepositoryError(
                    f"another process is publishing to {self.folder}", hint="try again when it is done"
                ) from None
            for pattern in ("metadata/.*", "pending/.*", f"targets/{self.collection}/*/.*"):
                for leftover in self.folder.glob(f"{pattern}{TEMPORARY_SUFFIX}"):
                    leftover.unlink(missing_ok=True)
            contents = self.contents()
            contents.roles.log.repair(contents.roles.timestamp.signed.version)
            if contents.roles.resume():
                contents = self.contents()
            yield contents

    def _offered(self, line: Line, version: int | None) -> Entry:
        """The current entry, or the one on offer with this version."""
        entry = line.current if version is None else line.find(version)
        if entry is None:
            what = "no version yet" if version is None else f"no version {version} on offer"
            raise RepositoryError(f"{line.channel} has {what}", hint="see `coremlops release list`")
        return entry

    def _known(
        self,
        contents: Contents,
        line: Line,
        digests: Sequence[str],
        payloads: Sequence[Payload],
        *,
        again: bool,
    ) -> Entry | None:
        """The entry that has these models already, if publishing them would say nothing new."""
        latest = contents.latest(line)
        if latest is not None and latest.models == tuple(digests):
            same = all(
                contents.manifest(latest, variant).members == payload.members
                for variant, payload in zip(latest.variants, payloads, strict=True)
            )
            return latest if not again or same else None
        current = line.current
        if current is not None and current.models == tuple(digests) and not again:
            return current
        return None

    def _offer(self, contents: Contents, line: Line, entry: Entry, act: Act, *, keep: bool = False) -> Entry:
        """Put an entry on offer, or with `keep` in place of the one of its version, and commit."""
        check_offer(entry)
        role = channel_role(self.collection, line.channel)
        after = line.replacing(entry) if keep else line.offering(entry)
        contents.put_line(after, contents.history(line.channel, line.name).having(entry))
        detail = dict(act.detail) | {"manifests": [each.manifest for each in entry.variants]}
        contents.roles.commit(
            [*contents.members.changed, role], replace(act, version=entry.version, detail=detail)
        )
        return entry

    def _renew(self, roles: Roles, *, all_due: bool) -> tuple[str, ...]:
        """Sign anew what is due; without `all_due` only if snapshot or timestamp are. No key is no error."""
        due = [each.role for each in roles.status() if each.due and each.key_present and each.role != "root"]
        online = [role for role in due if role in ("snapshot", "timestamp")]
        if not due or (not all_due and not online):
            return ()
        members = members_role(self.collection)
        bins = [role for role in roles.bins(self.collection) if roles.due(role)] if members in due else []
        signed = [role for role in due if role not in ("snapshot", "timestamp", members)]
        roles.commit([*signed, *bins], Act("renew", self.collection, detail={"roles": due}))
        return tuple(due)


def _not_fewer(before: Entry | None, after: Entry, channel: str) -> None:
    """Raise `RepositoryError` when an entry on offer would go to a smaller share of devices."""
    if before is None or after.rollout is None:
        return
    was, share = ALL if before.rollout is None else before.rollout.basis_points, after.rollout.basis_points
    if share < was:
        command = f"coremlops release rollout --channel {channel} --percent {share / 100:g} --lower"
        raise RepositoryError(
            f"version {after.version} is offered to {was / 100:g} % of all devices already",
            hint=f"`{command}` takes it from some of them, which go back to the version before",
        )


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
    if not isinstance(value, dict):
        raise RepositoryError(f"{path} is no object")
    if value.get("format") != 0 or isinstance(value["format"], bool):
        raise RepositoryError(
            f"{path}: format 0 expected, got {value.get('format')!r:.40}",
            hint="a newer coremlops made this repository: update coremlops",
        )
    identity = value.get("id")
    if not isinstance(identity, str):
        raise RepositoryError(f"{path} names no id")
    return identity
