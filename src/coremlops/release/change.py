"""A change of a repository that is not committed yet: new metadata with the signatures that it has so far.

`repository/pending/<id>.json` holds one. Nothing leads to it, so no device sees it; whoever may write to the
repository may put one there, so a change is believed as far as its signatures go.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError, SerializationError

from coremlops.collection import document
from coremlops.collection.document import Fields
from coremlops.digest import sha256_bytes
from coremlops.errors import PendingError, RepositoryError
from coremlops.files import write_atomic
from coremlops.release.audit import Act
from coremlops.release.targets import file_of

FOLDER = "pending"
MAX_CHANGE_BYTES = 100_000_000
_ID = re.compile(r"[0-9a-f]{12}")
_ROLE = re.compile(r"[A-Za-z0-9._-]{1,120}")


@dataclass(frozen=True, slots=True)
class Lack:
    """A role whose new metadata has `have` of the `need` signatures that it wants."""

    role: str
    key: str
    have: int
    need: int


@dataclass(slots=True)
class Change:
    """New metadata, and what it was made from.

    `base`: the committed version of each role that changes. `roots`: new roots in order; what a last of two
    takes away must not be gone before `roles` is committed, so it comes after them. `roles`: the other roles.
    """

    act: Act
    at: datetime
    actor: str
    base: dict[str, int]
    roots: list[Metadata[Root]] = field(default_factory=list)
    roles: dict[str, Metadata[Targets]] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """12 hex digits of what is to be signed; signatures do not change it."""
        roots = [sha256_bytes(each.signed_bytes) for each in self.roots]
        roles = {name: sha256_bytes(each.signed_bytes) for name, each in self.roles.items()}
        return sha256_bytes(document.write([roots, roles]))[:12]

    def to_bytes(self) -> bytes:
        """The file."""
        value = {
            "format": 0,
            "action": self.act.action,
            "collection": self.act.collection,
            "name": self.act.name,
            "channel": self.act.channel,
            "version": self.act.version,
            "detail": dict(self.act.detail),
            "at": document.time_text(self.at),
            "actor": self.actor,
            "base": self.base,
            "roots": [each.to_bytes().decode() for each in self.roots],
            "roles": {name: each.to_bytes().decode() for name, each in self.roles.items()},
        }
        return document.write(value)

    @staticmethod
    def from_bytes(data: bytes, what: str) -> Change:
        """What a file says; its signatures are not checked. Raises `RepositoryError`."""
        about = ("action", "collection", "name", "channel", "version", "detail", "at", "actor")
        fields = Fields(
            document.read(data, what, most_bytes=MAX_CHANGE_BYTES),
            what,
            ("format", *about, "base", "roots", "roles"),
        )
        fields.format()
        act = Act(
            fields.text("action")[:40],
            fields.text("collection")[:200],
            fields.text("name")[:200],
            fields.text("channel")[:40],
            fields.integer("version", 0, document.MAX_VERSION),
            _mapping(fields, "detail"),
        )
        base = _mapping(fields, "base")
        if not all(isinstance(each, int) and each >= 0 for each in base.values()):
            fields.refuse("base", "whole numbers")
        change = Change(act, fields.time("at"), fields.text("actor")[:200], base)
        change.roots = [_metadata(each, Root, what) for each in fields.items("roots", 2)]
        roles = _mapping(fields, "roles")
        if not all(_ROLE.fullmatch(name) for name in roles) or not (roles or change.roots):
            fields.refuse("roles", "names of roles")
        change.roles = {name: _metadata(each, Targets, what) for name, each in roles.items()}
        return change

    def take_signatures(self, other: Change) -> None:
        """Add the signatures of the same change, as it was left before."""
        for ours, theirs in self._beside(other):
            for keyid, signature in theirs.signatures.items():
                ours.signatures.setdefault(keyid, signature)

    def supersedes(self, other: Change) -> bool:
        """Whether `other` does the same to the same, and nobody signed it who did not sign this."""
        if (self.act, self.base) != (other.act, other.base) or self.roles.keys() != other.roles.keys():
            return False
        beside = self._beside(other)
        return all(theirs.signatures.keys() <= ours.signatures.keys() for ours, theirs in beside)

    def _beside(self, other: Change) -> list[tuple[Metadata[Any], Metadata[Any]]]:
        ours: list[Metadata[Any]] = [*self.roots, *self.roles.values()]
        theirs: list[Metadata[Any]] = [*other.roots, *(other.roles[name] for name in self.roles)]
        return list(zip(ours, theirs, strict=False))

    def describe(self) -> str:
        """What it does, for one line: `promote classifier 5 in release of app`, `add app`."""
        act = self.act
        version = f" {act.version}" if act.version else ""
        model = f" {act.name}" if act.name else ""
        where = f" in {act.channel}" if act.channel else ""
        if act.collection != act.name:
            where += f" of {act.collection}" if act.channel else f" {act.collection}"
        named = act.detail.get("roles")
        roles = f" {', '.join(map(str, named))}" if isinstance(named, list) else ""
        return f"{act.action}{model}{version}{roles}{where}"


def save(folder: Path, change: Change) -> Path:
    """Write a change's file into the repository `folder`, with the signatures that it had there.

    The same asked for before, and signed by nobody else since, goes: a scheduler asks again and again.
    """
    path = folder / FOLDER / f"{change.id}.json"
    path.parent.mkdir(exist_ok=True)
    gone = []
    for other_id in pending_ids(folder):
        with contextlib.suppress(RepositoryError, OSError):
            other = load(folder, other_id)
            if other.id == change.id:
                change.take_signatures(other)
            elif change.supersedes(other):
                gone.append(other.id)
    write_atomic(path, change.to_bytes())
    for other_id in gone:
        drop(folder, other_id)
    return path


def load(folder: Path, change_id: str) -> Change:
    """The pending change of this id, or of the only one that begins so. Raises `RepositoryError`."""
    found = find(folder, change_id)
    path = folder / FOLDER / f"{found}.json"
    try:
        if path.stat().st_size > MAX_CHANGE_BYTES:
            raise RepositoryError(f"{path} is larger than {MAX_CHANGE_BYTES} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise RepositoryError(f"{path} cannot be read: {error.strerror}") from None
    change = Change.from_bytes(data, str(path))
    if change.id != found:
        raise RepositoryError(f"{path} holds the change {change.id}: it was altered")
    return change


def find(folder: Path, change_id: str) -> str:
    """The id of the pending change that begins so, whatever its file holds. Raises `RepositoryError`."""
    found = [each for each in pending_ids(folder) if each.startswith(change_id)]
    if len(found) != 1:
        what = "no pending change" if not found else "several pending changes"
        raise RepositoryError(f"{what} {change_id!r:.40}", hint="coremlops repo sign   lists them")
    return found[0]


def pending_ids(folder: Path) -> tuple[str, ...]:
    """The ids of the changes that wait in a repository."""
    files = (each for each in (folder / FOLDER).glob("*.json") if _ID.fullmatch(each.stem))
    return tuple(sorted(each.stem for each in files if each.is_file()))


def named_files(folder: Path) -> frozenset[str]:
    """The files below `targets/` that waiting changes name: not to be collected yet."""
    found = set()
    for change_id in pending_ids(folder):
        with contextlib.suppress(RepositoryError, OSError):
            for metadata in load(folder, change_id).roles.values():
                targets = metadata.signed.targets.values()
                found |= {file_of(each.path, each.hashes.get("sha256", "")) for each in targets}
    return frozenset(found)


def drop(folder: Path, change_id: str) -> None:
    """Remove a pending change, if it is there."""
    (folder / FOLDER / f"{change_id}.json").unlink(missing_ok=True)


def left_pending(change: Change, lacks: tuple[Lack, ...]) -> PendingError:
    """What is said of a change that waits."""
    waits = ", ".join(f"{each.role} has {each.have} of {each.need} signatures" for each in lacks)
    keys = list(dict.fromkeys(each.key for each in lacks))
    where = f"a further {keys[0]} key is" if len(keys) == 1 else f"further keys are ({', '.join(keys)})"
    return PendingError(
        f"left pending as {change.id}, devices see nothing of it: {waits}",
        change.id,
        hint=f"where {where}: coremlops repo sign {change.id}",
    )


def _mapping(fields: Fields, key: str) -> dict[str, Any]:
    value = fields.raw(key)
    if not isinstance(value, Mapping):
        fields.refuse(key, "an object")
    return {str(name): each for name, each in value.items()}


def _metadata(value: object, kind: type[Any], what: str) -> Metadata[Any]:
    try:
        metadata: Metadata[Any] = Metadata.from_bytes(str(value).encode(errors="replace"))
        metadata.signed_bytes  # noqa: B018 - a number that cannot be signed is found now, not later
    except (DeserializationError, SerializationError, TufError, RecursionError) as error:
        raise RepositoryError(f"{what}: no TUF metadata: {error!s:.200}") from None
    if not isinstance(metadata.signed, kind):
        raise RepositoryError(f"{what}: expected {kind.__name__}, got {type(metadata.signed).__name__}")
    return metadata
