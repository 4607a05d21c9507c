"""The signed repository: publish, promote, roll out, halt, roll back. Static files that any server can
serve."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from coremlops.files import TEMPORARY_SUFFIX
from coremlops.model import model_digest
from coremlops.release.audit import Act
from coremlops.release.contents import Contents
from coremlops.release.expiry import Clock, Expiry, utc_now
from coremlops.release.first import first_files
from coremlops.release.keeping import IDENTITY, Keeper, disk
from coremlops.release.keys import KeyPlan, config_folder, create_keys
from coremlops.release.payload import Payload, read_payload
from coremlops.release.targets import write_served
from coremlops.release.terms import Form, Terms, check_forms, check_offer, new_salt


@dataclass(frozen=True, slots=True)
class Repository(Keeper):
    """One collection of a signed repository on disk. Make one with `init` or `open`.

    `name`: the model that is meant; the collection's only one, or in an empty one that of the collection's
    name, unless given. `most_bytes`: the limit of one version.
    """

    collection: str
    name: str | None = None
    most_bytes: int = MAX_PACKAGE_BYTES

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
            hint = f"coremlops repo add NAME --repository {folder}   adds a collection to it"
            raise RepositoryError(
                f"{folder} exists already and is not empty",
                hint=hint if (folder / IDENTITY).is_file() else "",
            )
        lifetimes = expiry or Expiry()
        with disk("the keys cannot be written"):
            keys = create_keys((config or config_folder()).absolute(), plan)
        growing = folder.with_name(f".{folder.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        try:
            files = first_files(collection, keys, clock=clock, expiry=lifetimes, thresholds=plan.thresholds)
            identity = {"format": 0, "id": keys.repository_id}
            files[IDENTITY] = (json.dumps(identity, indent=1, sort_keys=True) + "\n").encode()
            with disk(f"{folder} cannot be written"):
                for name, data in files.items():
                    (growing / name).parent.mkdir(parents=True, exist_ok=True)
                    write_served(growing / name, data)
                os.replace(growing, folder)  # noqa: PTH105 - a folder appears whole or not at all
        except BaseException:
            shutil.rmtree(growing, ignore_errors=True)
            shutil.rmtree(keys.folder, ignore_errors=True)
            raise
        return Repository(folder, collection, keys=keys, clock=clock, expiry=lifetimes)

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
        keeper = Keeper.open(folder, config=config, clock=clock)
        known = keeper.collections
        if collection is None and len(known) != 1:
            raise RepositoryError(
                f"{keeper.folder} has several collections: {', '.join(known)}",
                hint="name one: --collection NAME",
            )
        if collection is not None and collection not in known:
            raise RepositoryError(
                f"{keeper.folder} has no collection {collection!r:.60}; it has {', '.join(known)}",
                hint="coremlops repo add NAME   makes one",
            )
        return Repository(keeper.folder, collection or known[0], name, keys=keeper.keys, clock=clock)

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
        with disk("the model or its golden set cannot be read"):
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
            manifests = [
                Manifest(
                    self.collection, line.name, version, form.name, digest, payload.kind, payload.members
                )
                for form, digest, payload in zip(forms, digests, payloads, strict=True)
            ]
            variants = tuple(
                Variant(form.name, each.kind, each.model, each.sha256, each.length, form.requires)
                for form, each in zip(forms, manifests, strict=True)
            )
            entry = terms.applied(self._first(contents, line, version, variants))
            check_offer(entry)  # here already: what is refused leaves no copy of a model
            contents.index(channel).having(line.offering(entry)).to_bytes()
            for manifest, payload in zip(manifests, payloads, strict=True):
                contents.store(manifest, payload, most_bytes=self.most_bytes)
            contents.members.grow()
            return self._offer(contents, line, entry, act)

    def offer_embedded(self, channel: str, *, terms: Terms | None = None) -> Entry:
        """Offer "use the model that the app carries" as a version of its own. Raises `RepositoryError`."""
        check_channel(channel)
        with self.changing() as contents:
            contents.known_name()
            line = contents.line(channel)
            version = next_version(contents.line(each) for each in CHANNELS)
            entry = (terms or Terms()).applied(self._first(contents, line, version))
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
                command = f"coremlops release promote{self._named(contents)} --version {entry.version}"
                raise RepositoryError(
                    f"{to} was rolled back from version {entry.version}",
                    hint=f"to return to it, name it: {command}",
                )
            contents.roles.require_keys([channel_role(self.collection, to), "snapshot", "timestamp"])
            contents.check_whole(name, entry)
            entry = terms.applied(entry) if terms is not None else entry
            if entry.rollout is not None and before is not None and before.rollout is not None:
                # Another share keeps its devices: a wider one only adds some.
                entry = replace(entry, rollout=replace(entry.rollout, salt=before.rollout.salt))
            _not_fewer(target.find(entry.version), entry, to, self._named(contents))
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
                _not_fewer(entry, changed, channel, self._named(contents))
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

    def published(self, channel: str, models: Sequence[str]) -> Entry | None:
        """The channel's newest or current version, if these are its models' digests."""
        contents = self.contents()
        line = contents.line(check_channel(channel))
        latest = contents.latest(line)
        return next((each for each in (latest, line.current) if each and each.models == tuple(models)), None)

    def require_keys(self, channel: str) -> None:
        """Raise `RepositoryError` unless this machine has all that publishing to the channel takes."""
        self.roles().require_keys(_signing(self.collection, check_channel(channel)), whole=True)

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

    def manifest(self, entry: Entry, variant: str | None = None) -> Manifest:
        """The manifest of a version's first variant, or of a named one."""
        chosen = entry.variants[0] if variant is None else entry.variant(variant)
        return self.contents().manifest(entry, chosen)

    def contents(self) -> Contents:
        """What the collection holds now, by the committed roles."""
        return Contents(self.roles(), self.folder, self.collection, self.name)

    @contextlib.contextmanager
    def changing(self) -> Iterator[Contents]:
        """The committed contents, while no other publisher changes them."""
        with self.locked() as roles:
            yield Contents(roles, self.folder, self.collection, self.name)

    def _named(self, contents: Contents) -> str:
        """The options that name collection and model, for a command that may be copied."""
        collection = f" --collection {self.collection}" if len(contents.roles.collections) > 1 else ""
        return collection + (f" --model {self.name}" if self.name else "")

    def _first(
        self, contents: Contents, line: Line, version: int, variants: tuple[Variant, ...] = ()
    ) -> Entry:
        """A new version's entry, the app's own model without variants. A number may have been used before a
        reset: halts of it then are none of this one's."""
        halts = contents.halts(line.channel).count(line.name, version)
        return Entry(version, self.clock(), variants, embedded=not variants, resumed=halts)

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


def _not_fewer(before: Entry | None, after: Entry, channel: str, named: str) -> None:
    """Raise `RepositoryError` when an entry on offer would go to a smaller share of devices."""
    if before is None or after.rollout is None:
        return
    was, share = ALL if before.rollout is None else before.rollout.basis_points, after.rollout.basis_points
    if share < was:
        command = f"coremlops release rollout{named} --channel {channel} --percent {share / 100:g} --lower"
        raise RepositoryError(
            f"version {after.version} is offered to {was / 100:g} % of all devices already",
            hint=f"`{command}` takes it from some of them, which go back to the version before",
        )


def _signing(collection: str, channel: str) -> tuple[str, ...]:
    """The roles that sign when a version is published."""
    return members_role(collection), channel_role(collection, channel), "snapshot", "timestamp"
