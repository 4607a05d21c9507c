"""Looking after a repository, all its collections: who signs, with which keys, and until when."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from pathlib import Path

from coremlops.collection import CHANNELS, Index, members_role
from coremlops.errors import RepositoryError
from coremlops.files import TEMPORARY_SUFFIX, exclusive_lock, files_below
from coremlops.release.adding import add
from coremlops.release.audit import Act
from coremlops.release.change import drop, find, load, pending_ids
from coremlops.release.contents import Contents
from coremlops.release.expiry import Clock, Expiry, utc_now
from coremlops.release.keys import KeyFolder, config_folder
from coremlops.release.review import Review, review, unreadable
from coremlops.release.roles import Roles, RoleStatus
from coremlops.release.rotation import Rotated, Rotation, retire_untrusted, rotate
from coremlops.release.screen import check
from coremlops.release.signing import ONLINE

IDENTITY = "coremlops.json"
PARTS = ("metadata", "pending", "targets")  # the folders of a repository


@dataclass(frozen=True, slots=True)
class Keeper:
    """A signed repository on disk, whatever its collections.

    `folder`: the repository. `keys`: those that this machine may have. `clock`: the time, UTC.
    `lock_wait_s`: how long to wait for another publisher. `clock_checked`: somebody says that the clock is
    right, however far it is from the last change.
    """

    folder: Path
    _: KW_ONLY
    keys: KeyFolder
    clock: Clock = field(default=utc_now, repr=False)
    expiry: Expiry = field(default_factory=Expiry)
    lock_wait_s: float = 60.0
    clock_checked: bool = False

    @staticmethod
    def open(folder: Path, *, config: Path | None = None, clock: Clock = utc_now) -> Keeper:
        """An existing repository. Raises `RepositoryError`."""
        folder = folder.absolute()
        keys = KeyFolder((config or config_folder()).absolute(), read_identity(folder))
        return Keeper(folder, keys=keys, clock=clock)

    @property
    def collections(self) -> tuple[str, ...]:
        """The names of its collections, the oldest first."""
        return self.roles().collections

    def add(self, collection: str) -> None:
        """One more collection, empty, signed by the keys of those that are here. Raises `PendingError` when
        it waits for signatures from elsewhere, `RepositoryError` when it cannot be."""
        with self.locked() as roles:
            add(roles, collection)

    def indexes(self) -> tuple[Index, ...]:
        """What each channel of each collection offers."""
        roles = self.roles()
        every = [Contents(roles, self.folder, collection) for collection in roles.collections]
        return tuple(contents.index(channel) for contents in every for channel in CHANNELS)

    def pending(self) -> tuple[Review, ...]:
        """The changes that wait for signatures, those that are stale included."""
        found = []
        for change_id in pending_ids(self.folder):
            roles = self.roles()
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
        with self.locked() as roles:
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
        with self.locked() as roles:
            made = rotate(roles, self.keys, rotation)
        return Rotated(made, self._retire())

    def drop(self, change_id: str) -> str:
        """Forget a pending change, and return its id. Raises `RepositoryError` when there is none."""
        with self.locked():
            dropped = find(self.folder, change_id)  # a damaged one too
            drop(self.folder, dropped)
        return dropped

    def renew(self, names: Sequence[str] = ()) -> tuple[str, ...]:
        """Sign anew what is due and whose key is here, root excepted; return those roles.

        `names`: of roles that are signed anew, due or not, root too; raises `RepositoryError` when a key is
        missing, `PendingError` when too few are here.
        """
        with self.locked() as roles:
            if not names:
                return self._renew(roles, all_due=True)
            roles.renew(names, Act("renew", detail={"roles": list(names)}))
            return tuple(names)

    def renew_online(self) -> tuple[str, ...]:
        """Sign snapshot and timestamp anew if they are due and their keys are here; return those roles."""
        if not any(each.due for each in self.status() if each.role in ONLINE):
            return ()
        with self.locked() as roles:
            return self._renew(roles, all_due=False)

    def status(self) -> tuple[RoleStatus, ...]:
        """Every role with its version and its end, in the order of trust."""
        return self.roles().status()

    def audit(self) -> int:
        """How many lines the audit log has, when it is whole. Raises `RepositoryError`."""
        roles = self.roles()
        return roles.log.verify(roles.public_keys(), roles.timestamp.signed.version)

    @property
    def root_file(self) -> Path:
        """The newest root: what a device is given to start from."""
        return self.folder / "metadata" / f"{self.roles().root.signed.version}.root.json"

    def roles(self) -> Roles:
        """The committed roles, read anew."""
        roles = Roles(self.folder, self.keys, clock=self.clock, expiry=self.expiry)
        roles.clock_checked = self.clock_checked
        return roles

    def _retire(self) -> tuple[Path, ...]:
        """Put aside the files of keys that no device trusts any more; where they are now."""
        with disk("the change is committed, but old keys cannot be put aside"):
            return retire_untrusted(self.roles(), self.keys)

    @contextlib.contextmanager
    def locked(self) -> Iterator[Roles]:
        """The committed roles, while no other publisher changes them."""
        with disk(f"{self.folder} cannot be changed"), contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive_lock(self.folder / ".lock", wait_s=self.lock_wait_s))
            except BlockingIOError:
                raise RepositoryError(
                    f"another process is publishing to {self.folder}", hint="try again when it is done"
                ) from None
            for part in PARTS:
                for path in files_below(self.folder / part, TEMPORARY_SUFFIX):
                    if path.name.startswith("."):
                        path.unlink(missing_ok=True)
            roles = self.roles()
            roles.log.repair(roles.timestamp.signed.version)
            if roles.resume():
                roles = self.roles()
            yield roles

    def _renew(self, roles: Roles, *, all_due: bool) -> tuple[str, ...]:
        """Sign anew what is due; without `all_due` only if snapshot or timestamp are. No key is no error."""
        due = [each.role for each in roles.status() if each.due and each.key_present and each.role != "root"]
        online = [role for role in due if role in ONLINE]
        if not due or (not all_due and not online):
            return ()
        signed: list[str] = []
        for collection in roles.collections:
            if members_role(collection) in due:
                signed += [each for each in roles.bins(collection) if roles.due(each)]
        signed += [each for each in due if each not in (*ONLINE, *map(members_role, roles.collections))]
        roles.commit(signed, Act("renew", detail={"roles": due}))
        return tuple(due)


@contextlib.contextmanager
def disk(what: str) -> Iterator[None]:
    """What the disk refuses is a `RepositoryError`: a full disk, a folder of somebody else's."""
    try:
        yield
    except OSError as error:
        name = f" ({error.filename})" if error.filename else ""
        raise RepositoryError(f"{what}: {error.strerror or error}{name}") from error


def read_identity(folder: Path) -> str:
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
    if "collections" in value:
        raise RepositoryError(
            f"{folder} is of an older coremlops, whose collections hold one model each",
            hint="publish there with that one, or begin anew: coremlops repo init FOLDER",
        )
    identity = value.get("id")
    if not isinstance(identity, str):
        raise RepositoryError(f"{path} names no id")
    return identity
