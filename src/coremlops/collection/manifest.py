"""The manifest of a version: every file of the model and of its golden set, with length and SHA-256."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from coremlops.collection import document
from coremlops.collection.entry import MAX_PACKAGE_BYTES, check_variant
from coremlops.collection.names import KINDS, check_collection, check_name
from coremlops.digest import sha256_bytes
from coremlops.errors import RepositoryError

MAX_MANIFEST_BYTES = 4_000_000
MAX_MEMBERS = 10_000
MAX_PARTS = 16
MAX_PART_BYTES = 255
MAX_PATH_BYTES = 512
UNSEEN = ("Cc", "Cf", "Cs", "Co")  # not Cn: what is not assigned yet differs from one Unicode to the next


@dataclass(frozen=True, slots=True)
class Member:
    """One file: where it belongs (POSIX, relative), its SHA-256 and its length in bytes."""

    path: str
    sha256: str
    length: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """One variant of a version of a model. Members stand sorted by path, below `model.<kind>` or
    `golden/`. `name`: the model's in its collection; `model`: its digest."""

    collection: str
    name: str
    version: int
    variant: str
    model: str
    kind: str
    members: tuple[Member, ...]

    @property
    def length(self) -> int:
        """Bytes of all members together."""
        return sum(member.length for member in self.members)

    @property
    def about(self) -> tuple[str, str, int, str, str]:
        """What it says that it is of: collection, name, version, variant and model."""
        return self.collection, self.name, self.version, self.variant, self.model

    @property
    def payload(self) -> str:
        """The name of the model's file or folder: `model.mlpackage`."""
        return f"model.{self.kind}"

    def to_bytes(self) -> bytes:
        """The document, the same bytes for the same manifest."""
        return document.write(
            {
                "format": 0,
                "collection": self.collection,
                "name": self.name,
                "version": self.version,
                "variant": self.variant,
                "model": self.model,
                "kind": self.kind,
                "members": [
                    {"path": member.path, "sha256": member.sha256, "length": member.length}
                    for member in self.members
                ],
            }
        )

    @property
    def sha256(self) -> str:
        """Of the document: what an index names it by."""
        return sha256_bytes(self.to_bytes())

    @staticmethod
    def from_bytes(data: bytes, *, most_bytes: int = MAX_PACKAGE_BYTES) -> Manifest:
        """Read a manifest. `most_bytes`: the limit of all members together. Raises `RepositoryError`."""
        value = document.read(data, "manifest", most_bytes=MAX_MANIFEST_BYTES)
        keys = ("format", "collection", "name", "version", "variant", "model", "kind", "members")
        fields = document.Fields(value, "manifest", keys)
        fields.format()
        kind = fields.text("kind")
        if kind not in KINDS:
            fields.refuse("kind", f"one of {', '.join(KINDS)}")
        members = []
        for place, item in enumerate(fields.items("members", MAX_MEMBERS)):
            each = document.Fields(item, f"manifest: members[{place}]", ("path", "sha256", "length"))
            length = each.integer("length", 0, most_bytes)
            members.append(Member(each.text("path"), each.sha256("sha256"), length))
        manifest = Manifest(
            collection=check_collection(fields.text("collection")),
            name=check_name(fields.text("name")),
            version=fields.version("version"),
            variant=check_variant(fields.text("variant")),
            model=fields.sha256("model"),
            kind=kind,
            members=tuple(members),
        )
        check_members(manifest.members, payload=manifest.payload, most_bytes=most_bytes)
        return manifest


def check_members(members: Iterable[Member], *, payload: str, most_bytes: int) -> None:
    """Raise `RepositoryError` unless the members can be laid out in an empty folder, on any file system.

    Paths rise, are relative and clean, begin with `payload` or `golden`, and none is another's folder, or
    another's twin on a file system that ignores case. One content has one length.
    """
    total = 0
    files: set[str] = set()
    folders: set[str] = set()
    lengths: dict[str, int] = {}
    previous = ""
    for member in members:
        parts = check_path(member.path)
        if parts[0] not in (payload, "golden"):
            raise RepositoryError(f"member {member.path!r}: expected it below {payload} or golden")
        if parts[0] == "golden" and len(parts) == 1:
            raise RepositoryError("member 'golden': expected a file inside that folder")
        if member.path <= previous:
            raise RepositoryError(f"member {member.path!r}: the paths do not rise")
        previous = member.path
        folded = [fold(part) for part in parts]
        name = "/".join(folded)
        above = {"/".join(folded[:end]) for end in range(1, len(folded))}
        if name in files or name in folders or above & files:
            raise RepositoryError(f"member {member.path!r}: its name collides with another member's")
        files.add(name)
        folders |= above
        if lengths.setdefault(member.sha256, member.length) != member.length:
            raise RepositoryError(f"member {member.path!r}: one content with two lengths")
        total += member.length
    if total > most_bytes:
        raise RepositoryError(f"the package has {total} bytes, at most {most_bytes} are allowed")
    if fold(payload) not in files | folders:
        raise RepositoryError(f"no member below {payload}: the model itself is missing")
    if "golden/golden.json" not in files:
        raise RepositoryError("no member golden/golden.json: a model travels with its golden set")


def check_path(path: str) -> tuple[str, ...]:
    """The parts of a member's path. Raises `RepositoryError` for one that could leave its folder."""
    parts = tuple(path.split("/"))
    try:
        sizes = [len(part.encode("utf-8")) for part in parts]
    except UnicodeEncodeError:
        raise RepositoryError(f"member {path!r:.80}: its name is no UTF-8") from None
    if len(parts) > MAX_PARTS or sum(sizes) + len(parts) > MAX_PATH_BYTES or max(sizes) > MAX_PART_BYTES:
        raise RepositoryError(f"member {path!r:.80}: its path is too long or too deep")
    for part in parts:
        if part in ("", ".", ".."):
            raise RepositoryError(
                f"member {path!r:.80}: a path is relative and has no empty part, '.' or '..'"
            )
        if any(character in '\\:*?"<>|' or unicodedata.category(character) in UNSEEN for character in part):
            raise RepositoryError(f"member {path!r:.80}: a character that not every file system has")
    return parts


def fold(name: str) -> str:
    """The name as a file system sees it that ignores case and normalises Unicode (APFS)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())
