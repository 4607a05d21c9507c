"""The TUF roles of a repository: read and verified from disk, changed, signed and committed.

`timestamp.json` is the commit point: what it does not lead to, a crash's leftovers included, does not exist
for a reader.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import Signer
from tuf.api.metadata import Key, Metadata, MetaFile, Root, Snapshot, T, Targets, Timestamp

from coremlops.collection import CHANNELS, channel_role, document, halt_role, members_role
from coremlops.errors import RepositoryError
from coremlops.files import sync_folder, write_atomic
from coremlops.release.audit import FILE, Act, Log, actor
from coremlops.release.change import Change, Lack, drop, left_pending, load, pending_ids, save
from coremlops.release.delegation import check_delegations
from coremlops.release.expiry import Clock, Expiry, check_clock, due_before, without_bin
from coremlops.release.keys import KeyFolder
from coremlops.release.signing import (
    ONLINE,
    TOP_LEVEL,
    add_signatures,
    keep_signatures,
    key_of,
    lack,
    read_metadata,
    sign,
    verify,
)
from coremlops.release.targets import write_served

U = TypeVar("U", Root, Timestamp, Snapshot, Targets)
MAX_SNAPSHOT_BYTES = 2_000_000  # what python-tuf's client reads of it
_ROOT_FILE = re.compile(r"([1-9][0-9]{0,8})\.root\.json")


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """One role: its version, its end, which key signs it, whether enough of it is here, and whether it is
    due.

    `threshold`: how many must sign. `keys`: by id, whether each that may sign is on this machine.
    The bins of a collection's members are one line: the version of the newest, the end of the first to end.
    """

    role: str
    version: int
    expires: datetime
    key: str
    key_present: bool
    threshold: int
    keys: Mapping[str, bool]
    due: bool
    expired: bool


class Roles:
    """The committed metadata of one repository, each role verified against the one that delegates to it.

    `folder`: the repository. Roles are read when first asked for. Raises `RepositoryError`.
    """

    def __init__(self, folder: Path, keys: KeyFolder, *, clock: Clock, expiry: Expiry) -> None:
        self.folder = folder
        self.clock_checked = False  # whether somebody says that the clock is right, however it looks
        self._metadata = folder / "metadata"
        self.log = Log(folder / FILE)
        self._keys = keys
        self._clock = clock
        self.expiry = expiry
        self._targets: dict[str, Metadata[Targets]] = {}
        self._over: dict[str, Metadata[Targets]] = {}  # roles of the change that is being made
        self.written: set[Path] = set()  # folders of targets whose new names a commit makes durable
        self.root: Metadata[Root] = self._read_root()
        self._newest = self.root  # that change's last
        self.timestamp: Metadata[Timestamp] = self._read("timestamp.json", Timestamp, "timestamp")
        at = self.timestamp.signed.snapshot_meta.version
        self.snapshot: Metadata[Snapshot] = self._read(f"{at}.snapshot.json", Snapshot, "snapshot")
        self._expect(self.snapshot, "snapshot", at)

    @property
    def collections(self) -> tuple[str, ...]:
        """The collections that the repository has, in order."""
        delegations = self.targets("targets").signed.delegations
        names = delegations.roles if delegations is not None and delegations.roles else {}
        suffix = "-members"
        return tuple(name.removesuffix(suffix) for name in names if name.endswith(suffix))

    def targets(self, role: str) -> Metadata[Targets]:
        """`targets` itself or a role that it, or a collection's members, delegate to."""
        if role not in self._targets:
            meta = self.snapshot.signed.meta.get(f"{role}.json")
            if meta is None:
                raise RepositoryError(f"the snapshot knows no role {role}")
            metadata: Metadata[Targets] = self._read(f"{meta.version}.{role}.json", Targets, role)
            self._expect(metadata, role, meta.version)
            check_delegations(role, metadata.signed)
            self._targets[role] = metadata
        return self._targets[role]

    def signed(self, role: str) -> Targets:
        """What a role says; nothing where it cannot be read, as a thief of its key may have left it."""
        try:
            return self.targets(role).signed
        except RepositoryError:
            return Targets(1)

    def now(self) -> datetime:
        """The time, as metadata wants it."""
        return self._clock()

    def version(self, role: str) -> int:
        """The committed version of a role, 0 for one that is not there."""
        if role == "root":
            return self.root.signed.version
        meta = self.snapshot.signed.meta.get(f"{role}.json")
        return 0 if meta is None else meta.version

    def after(self, change: Change) -> Roles:
        """As they would be with a change that is not committed, to read what it names."""
        other = copy.copy(self)
        other._targets = {**self._targets, **change.roles}
        return other

    def add(self, role: str, metadata: Metadata[Targets]) -> None:
        """A role that is new, or begins anew; its version goes on from the one that the snapshot knows."""
        metadata.signed.version = self.version(role)
        self._targets[role] = metadata

    def require_keys(self, roles: Iterable[str], *, whole: bool = False) -> None:
        """Raise `RepositoryError` unless a key of each of these roles is here, of those that devices trust.

        `whole`: unless there are as many as the role wants; else further signatures may come from elsewhere,
        and those of snapshot and timestamp too.
        """
        for role in roles:
            if role in ONLINE and not whole:
                continue
            self._keys.signers(key_of(role))
            trusted, found = self._delegator(role).get_delegated_role(role), self._signers(role)
            if not found:
                raise RepositoryError(
                    f"the {key_of(role)} key in {self._keys.folder} is not one that this repository trusts"
                )
            if whole and len(found) < trusted.threshold:
                raise RepositoryError(
                    f"{role} needs {trusted.threshold} signatures, this machine has {len(found)} of its keys"
                )

    def commit(self, changed: Iterable[str], act: Act) -> None:
        """Sign the changed targets roles anew, then snapshot and timestamp; write all, the timestamp last.

        Raises `RepositoryError` when a key is missing (before anything is written), `PendingError` when the
        change waits for signatures from elsewhere, `OSError` from the disk.
        """
        names = list(dict.fromkeys(changed))
        self.require_keys(dict.fromkeys(without_bin(name) for name in names))
        # A parent first: its bins are verified against what it delegates now.
        names.sort(key=self.is_bin)
        change = Change(act, self._clock(), actor(), {})
        for name in names:
            change.base[name] = self.targets(name).signed.version
            change.roles[name] = self.renewed(self.targets(name), name)
        self.finish(change)

    def renew(self, names: Sequence[str], act: Act) -> None:
        """Sign these roles anew, root too, whether they are due or not; raises as `commit` does."""
        known = [each.role for each in self.status()]
        for name in names:
            if name not in known:
                raise RepositoryError(f"no role {name!r:.80}; they are {', '.join(known)}")
        self.require_keys(names)
        change = Change(act, self._clock(), actor(), {})
        if "root" in names:
            change.base["root"] = self.root.signed.version
            change.roots = [self.renewed(copy.deepcopy(self.root), "root")]
        for name in names:
            bins = self.bins(name.removesuffix("-members")) if name.endswith("-members") else (name,)
            for each in bins if name not in ("root", *ONLINE) else ():
                change.base[each] = self.version(each)
                change.roles[each] = self.renewed(self.targets(each), each)
        self.finish(change)

    def renewed(self, metadata: Metadata[U], role: str) -> Metadata[U]:
        """The role's next version with a new end, not signed; in place.

        A number whose file a crash left behind is passed over, but root's, which rise by one: a cache may
        have that file, and a name never gets another content.
        """
        metadata.signed.version += 1
        while role != "root" and (self._metadata / f"{metadata.signed.version}.{role}.json").exists():
            metadata.signed.version += 1
        metadata.signed.expires = self._clock() + self.expiry.lifetime(role)
        metadata.signatures.clear()
        return metadata

    def finish(self, change: Change) -> None:
        """Sign with the keys that are here, and commit; or leave the change pending and raise
        `PendingError`. Raises `RepositoryError` before anything is written."""
        self.check_time(change)
        self.sign(change)
        lacks = self.lacks(change)
        for folder in self.written:
            sync_folder(folder)
        if lacks or len(change.roots) > 1:
            save(self.folder, change)
        if lacks:
            raise left_pending(change, lacks)
        self._write(change)
        if pending_ids(self.folder):
            drop(self.folder, change.id)

    def sign(self, change: Change) -> None:
        """Add the signatures that this machine can give."""
        self._adopt(change)
        trusted = set(self.root.signed.roles["root"].keyids)
        for root in change.roots:
            after = root.signed.roles["root"].keyids
            add_signatures(root, "root", self._keys.here("root"), trusted.union(after))
            trusted = set(after)
        for name, metadata in change.roles.items():
            of = self._delegator(name).get_delegated_role(name).keyids
            add_signatures(metadata, name, self._keys.here(key_of(name)), of)

    def lacks(self, change: Change) -> tuple[Lack, ...]:
        """What a change still wants: signatures, and here the keys of snapshot and timestamp."""
        self._adopt(change)
        found = []
        previous = self.root.signed
        for root in change.roots:
            if root.signed.version <= previous.version:
                continue
            for by in (previous, root.signed):
                found.append(lack("root", by, root))
            previous = root.signed
        found += [lack(name, self._delegator(name), each) for name, each in change.roles.items()]
        for name in ONLINE:
            need = self._delegator(name).get_delegated_role(name).threshold
            found.append(Lack(name, name, len(self._signers(name)), need))
        few = {each.role: each for each in reversed(found) if each.have < each.need}
        return tuple(few[each] for each in dict.fromkeys(each.role for each in found) if each in few)

    def resume(self) -> bool:
        """Complete a rotation of keys that a crash cut off between its two roots, if the keys are here.

        Whether there was one; then everything is to be read anew.
        """
        resumed = False
        for change_id in pending_ids(self.folder):
            try:
                change = load(self.folder, change_id)
            except RepositoryError:
                continue  # Anybody may leave a file there; `repo sign` says what is wrong with it.
            if len(change.roots) != 2 or change.roots[0].signed_bytes != self.root.signed_bytes:
                continue
            done = {name: self.version(name) == each.signed.version for name, each in change.roles.items()}
            if any(not done[name] and self.version(name) != change.base.get(name) for name in done):
                continue  # Overtaken: the bridge stays until the rotation is asked for again.
            if self.lacks(change):
                continue
            try:
                for name, metadata in (("snapshot", self.snapshot), ("timestamp", self.timestamp)):
                    verify(change.roots[1].signed, name, metadata)
                whole = all(done.values())
            except RepositoryError:
                whole = False
            if whole:
                root = change.roots[1]
                write_atomic(self._metadata / f"{root.signed.version}.root.json", root.to_bytes())
            else:
                self._write(change)
            drop(self.folder, change_id)
            resumed = True
        return resumed

    def check_time(self, change: Change) -> None:
        """Raise `RepositoryError` for a clock that cannot be right, and when what devices need besides this
        change has expired."""
        now = self._clock()
        check_clock(now, self.log.last_at(), self.timestamp.signed.expires, trusted=self.clock_checked)
        if change.act.action in ("renew", "rotate"):
            return
        needed = ["root", "targets"]
        if change.act.collection in self.collections:
            needed += [halt_role(change.act.collection), members_role(change.act.collection)]
        for role in needed:
            end = self._metadata_of(role).signed.expires
            if role not in change.roles and end <= now:
                raise RepositoryError(
                    f"{role} expired at {document.time_text(end)}, so devices would take nothing new",
                    hint=f"where the {key_of(role)} key is: coremlops repo renew --role {role}",
                )

    def _adopt(self, change: Change) -> None:
        """Take a change's roles for those that are; nothing is written."""
        self._over = change.roles
        self._newest = change.roots[-1] if change.roots else self.root

    def _write(self, change: Change) -> None:
        """Commit a change whose signatures are whole."""
        trusted = set(self.root.signed.roles["root"].keyids)
        for root in change.roots:
            own = root.signed.roles["root"].keyids
            keep_signatures(root, trusted.union(own))
            trusted = set(own)
        before, after = change.roots[:1], change.roots[1:]
        for root in before:
            if root.signed.version > self.root.signed.version:
                write_atomic(self._metadata / f"{root.signed.version}.root.json", root.to_bytes())
        files: list[tuple[str, bytes]] = []
        for name, metadata in change.roles.items():
            keep_signatures(metadata, self._delegator(name).get_delegated_role(name).keyids)
            files.append((f"{metadata.signed.version}.{name}.json", metadata.to_bytes()))
            self.snapshot.signed.meta[f"{name}.json"] = MetaFile(metadata.signed.version)
        snapshot = self._sign(self.snapshot, "snapshot")
        if len(snapshot) > MAX_SNAPSHOT_BYTES:
            raise RepositoryError(
                f"the snapshot would have {len(snapshot)} bytes, devices take at most {MAX_SNAPSHOT_BYTES}",
                hint="another repository for some of the collections",
            )
        files.append((f"{self.snapshot.signed.version}.snapshot.json", snapshot))
        self.timestamp.signed.snapshot_meta = MetaFile(self.snapshot.signed.version)
        timestamp = self._sign(self.timestamp, "timestamp")
        for file, data in files:
            write_served(self._metadata / file, data)
        sync_folder(self._metadata)
        self._log(change)
        write_atomic(self._metadata / "timestamp.json", timestamp)
        for root in after:
            write_atomic(self._metadata / f"{root.signed.version}.root.json", root.to_bytes())

    def _log(self, change: Change) -> None:
        """Write the line of a commit: all who signed, signed by a key that is here."""
        acting = {name: each for name, each in change.roles.items() if not self.is_bin(name)}
        keys = {name: list(each.signatures) for name, each in acting.items()}
        if change.roots:
            keys["root"] = list(change.roots[-1].signatures)
        own = [each for name in reversed(acting) for each in self._signers(name)]
        if not own:
            own = self._signers("timestamp")
            keys["timestamp"] = [each.public_key.keyid for each in own]
        versions = {name: each.signed.version for name, each in acting.items()}
        if change.roots:
            versions["root"] = change.roots[-1].signed.version
        act, asked = change.act, change.actor
        if asked != actor():
            act = replace(act, detail=dict(act.detail) | {"asked_by": asked})
        self.log.append(
            act,
            at=self._clock(),
            roles=versions,
            keys=keys,
            timestamp=self.timestamp.signed.version,
            signers=own[:1],
        )

    def status(self) -> tuple[RoleStatus, ...]:
        """Every role, in the order of trust."""
        everything: list[tuple[str, list[Metadata[Any]]]] = [
            ("root", [self.root]),
            ("targets", [self.targets("targets")]),
        ]
        for collection in self.collections:
            names = [channel_role(collection, each) for each in reversed(CHANNELS)]
            for name in [halt_role(collection), *names]:
                everything.append((name, [self.targets(name)]))
            everything.append(
                (members_role(collection), [self.targets(name) for name in self.bins(collection)])
            )
        everything += [("snapshot", [self.snapshot]), ("timestamp", [self.timestamp])]
        return tuple(self._status(name, parts) for name, parts in everything)

    def bins(self, collection: str) -> tuple[str, ...]:
        """The members' role of a collection, and its bins."""
        role = members_role(collection)
        delegations = self.targets(role).signed.delegations
        bins = delegations.succinct_roles if delegations is not None else None
        return (role, *(bins.get_roles() if bins is not None else ()))

    @staticmethod
    def is_bin(role: str) -> bool:
        """Whether this is the name of a bin, a collection's or one that it had before it grew."""
        return without_bin(role) != role

    def public_keys(self) -> dict[str, Key]:
        """Every key that this repository's roots, or its `targets` role, ever named, by id."""
        found: dict[str, Key] = {}
        for path in sorted(self._metadata.glob("*.root.json")):
            found |= read_metadata(path, Root).signed.keys
        for path in sorted(self._metadata.glob("*.targets.json")):
            delegations = read_metadata(path, Targets).signed.delegations
            found |= delegations.keys if delegations is not None else {}
        return found

    def due(self, role: str) -> bool:
        """Whether a role should be signed anew."""
        metadata = self._metadata_of(role)
        return bool(metadata.signed.expires - due_before(self.expiry.lifetime(role)) <= self._clock())

    def _status(self, name: str, parts: list[Metadata[Any]]) -> RoleStatus:
        end = min(part.signed.expires for part in parts)
        trusted = self._delegator(name).get_delegated_role(name)
        here = self._keys.keyids(key_of(name))
        keys = {keyid: keyid in here for keyid in trusted.keyids}
        return RoleStatus(
            role=name,
            version=max(part.signed.version for part in parts),
            expires=end,
            key=key_of(name),
            key_present=sum(keys.values()) >= trusted.threshold,
            threshold=trusted.threshold,
            keys=keys,
            due=end - due_before(self.expiry.lifetime(name)) <= self._clock(),
            expired=end <= self._clock(),
        )

    def _metadata_of(self, role: str) -> Metadata[Any]:
        top: dict[str, Metadata[Any]] = {
            "root": self.root,
            "snapshot": self.snapshot,
            "timestamp": self.timestamp,
        }
        return top[role] if role in top else self.targets(role)

    def _sign(self, metadata: Metadata[Any], role: str) -> bytes:
        self.renewed(metadata, role)
        return sign(metadata, role, self._signers(role), self._delegator(role))

    def _signers(self, role: str) -> list[Signer]:
        """The signers of this machine that devices trust for a role."""
        trusted = self._delegator(role).get_delegated_role(role).keyids
        return [each for each in self._keys.here(key_of(role)) if each.public_key.keyid in trusted]

    def _delegator(self, role: str) -> Root | Targets:
        if role in TOP_LEVEL:
            return self._newest.signed
        parent = without_bin(role)
        name = parent if parent != role else "targets"
        return (self._over.get(name) or self.targets(name)).signed

    def _read_root(self) -> Metadata[Root]:
        versions = [
            int(match[1])
            for path in self._metadata.glob("*.root.json")
            if (match := _ROOT_FILE.fullmatch(path.name))
        ]
        if not versions:
            raise RepositoryError(f"{self._metadata} holds no root.json")
        root: Metadata[Root] = read_metadata(self._metadata / f"{max(versions)}.root.json", Root)
        verify(root.signed, "root", root)
        return root

    def _read(self, file: str, kind: type[T], role: str) -> Metadata[T]:
        metadata = read_metadata(self._metadata / file, kind)
        verify(self._delegator(role), role, metadata)
        return metadata

    def _expect(self, metadata: Metadata[Any], role: str, version: int) -> None:
        if metadata.signed.version != version:
            raise RepositoryError(f"{role}: expected version {version}, got {metadata.signed.version}")
