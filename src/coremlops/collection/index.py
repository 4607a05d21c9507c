"""What a channel offers: the first document that a device reads, and those beside it.

    faces/release/index.json     the versions on offer, newest first: devices read this one
    faces/release/history.json   every version that the channel ever had: publishers read it, to go back
    faces/halt/release.json      which of them are halted: signed by a role that can do no more than this

Format 0; see docs/formats.md for the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from coremlops.collection import document
from coremlops.collection.names import KINDS, check_channel, check_collection
from coremlops.collection.rollout import Rollout
from coremlops.collection.rules import EVERYONE, Rule
from coremlops.errors import RepositoryError

MAX_INDEX_BYTES = 64_000
MAX_HISTORY_BYTES = 4_000_000
MAX_OFFERS = 8
MAX_VARIANTS = 16
MAX_HISTORY = 1000
MAX_PACKAGE_BYTES = 4 * 1024**3

_VARIANT = re.compile(r"[a-z0-9][a-z0-9.-]{0,39}")


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of a version. `model`: the model's digest; `manifest`: its manifest's SHA-256; `length`:
    bytes of
    all members together; `requires`: what a device must be."""

    name: str
    kind: str
    model: str
    manifest: str
    length: int
    requires: Rule = EVERYONE

    def to_json(self) -> dict[str, object]:
        values: dict[str, object] = {
            "name": self.name,
            "kind": self.kind,
            "model": self.model,
            "manifest": self.manifest,
            "length": self.length,
        }
        return values | ({"requires": self.requires.to_json()} if self.requires != EVERYONE else {})

    @staticmethod
    def from_json(value: object, what: str) -> Variant:
        """Read one variant; `what` names it in messages. Raises `RepositoryError`."""
        fields = document.Fields(value, what, ("name", "kind", "model", "manifest", "length"), ("requires",))
        if fields.text("kind") not in KINDS:
            fields.refuse("kind", f"one of {', '.join(KINDS)}")
        return Variant(
            name=check_variant(fields.text("name")),
            kind=fields.text("kind"),
            model=fields.sha256("model"),
            manifest=fields.sha256("manifest"),
            length=fields.integer("length", 1, MAX_PACKAGE_BYTES),
            requires=Rule.from_json(fields.raw("requires"), f"{what}: requires")
            if fields.has("requires")
            else EVERYONE,
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One version on offer. `published`: when, UTC. `variants`: the first that fits a device is the one it
    gets.

    `rule`: which devices it is for. `rollout`: a share of them; None for all. `start`: not before then.
    `hold`: it wins against a newer model that the app carries. `embedded`: it has no variants, and says "use
    the model that the app carries". `resumed`: how many halts of it the channel's own key took back.
    """

    version: int
    published: datetime
    variants: tuple[Variant, ...] = ()
    rule: Rule = EVERYONE
    rollout: Rollout | None = None
    start: datetime | None = None
    hold: bool = False
    embedded: bool = False
    resumed: int = 0

    @property
    def models(self) -> tuple[str, ...]:
        """The digests of its variants."""
        return tuple(each.model for each in self.variants)

    def variant(self, name: str) -> Variant:
        """The variant of that name. Raises `RepositoryError`."""
        for each in self.variants:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.variants) or "none"
        raise RepositoryError(f"version {self.version} has no variant {name!r:.40}; it has {known}")

    def has(self, manifest: str) -> bool:
        """Whether one of its variants is this one."""
        return any(each.manifest == manifest for each in self.variants)

    def to_json(self) -> dict[str, object]:
        """The JSON object, without what is as it is by default."""
        values: dict[str, object] = {
            "version": self.version,
            "published": document.time_text(self.published),
            "variants": [each.to_json() for each in self.variants],
        }
        if self.rule != EVERYONE:
            values["rule"] = self.rule.to_json()
        if self.rollout is not None:
            values["rollout"] = self.rollout.to_json()
        if self.start is not None:
            values["start"] = document.time_text(self.start)
        if self.resumed:
            values["resumed"] = self.resumed
        return values | {key: True for key in ("hold", "embedded") if getattr(self, key)}

    @staticmethod
    def from_json(value: object, what: str) -> Entry:
        """Read one entry; `what` names it in messages. Raises `RepositoryError`."""
        optional = ("rule", "rollout", "start", "hold", "embedded", "resumed")
        fields = document.Fields(value, what, ("version", "published", "variants"), optional)
        variants = tuple(
            Variant.from_json(item, f"{what}: variants[{place}]")
            for place, item in enumerate(fields.items("variants", MAX_VARIANTS))
        )
        embedded = fields.has("embedded") and fields.truth("embedded")
        if bool(variants) == embedded:
            fields.refuse("variants", "one or more, or none where 'embedded' is true")
        if len({each.name for each in variants}) != len(variants):
            fields.refuse("variants", "each name once")
        return Entry(
            version=fields.version("version"),
            published=fields.time("published"),
            variants=variants,
            rule=Rule.from_json(fields.raw("rule"), f"{what}: rule") if fields.has("rule") else EVERYONE,
            rollout=Rollout.from_json(fields.raw("rollout"), f"{what}: rollout")
            if fields.has("rollout")
            else None,
            start=fields.time("start") if fields.has("start") else None,
            hold=fields.has("hold") and fields.truth("hold"),
            embedded=embedded,
            resumed=fields.integer("resumed", 0, document.MAX_VERSION) if fields.has("resumed") else 0,
        )


@dataclass(frozen=True, slots=True)
class Index:
    """What a channel offers, newest version first. `last_version`: the highest that it ever had, 0 for
    none."""

    collection: str
    channel: str
    offers: tuple[Entry, ...] = ()
    last_version: int = 0

    @property
    def current(self) -> Entry | None:
        """The newest version on offer."""
        return self.offers[0] if self.offers else None

    @property
    def rolled_back(self) -> bool:
        """Whether the newest version on offer is not the newest that the channel had."""
        return self.current is not None and self.current.version != self.last_version

    def find(self, version: int) -> Entry | None:
        """The entry with this version number, if it is on offer."""
        return next((entry for entry in self.offers if entry.version == version), None)

    def offering(self, entry: Entry) -> Index:
        """With `entry` on offer before all older ones, and nothing newer; of these at most 8 stay."""
        older = tuple(each for each in self.offers if each.version < entry.version)
        return replace(
            self,
            offers=(entry, *older)[:MAX_OFFERS],
            last_version=max(self.last_version, entry.version),
        )

    def replacing(self, entry: Entry) -> Index:
        """With another entry of the same version in its place."""
        return replace(
            self, offers=tuple(entry if each.version == entry.version else each for each in self.offers)
        )

    def to_bytes(self) -> bytes:
        """The document, the same bytes for the same index. Raises `RepositoryError` when it grew too
        large."""
        data = document.write(
            {
                "format": 0,
                "collection": self.collection,
                "channel": self.channel,
                "last_version": self.last_version,
                "offers": [entry.to_json() for entry in self.offers],
            }
        )
        if len(data) > MAX_INDEX_BYTES:
            raise RepositoryError(
                f"the index of {self.channel} would have {len(data)} bytes, at most {MAX_INDEX_BYTES}",
                hint="fewer variants, or shorter rules",
            )
        return data

    @staticmethod
    def from_bytes(data: bytes, *, collection: str, channel: str) -> Index:
        """Read the index of this collection and channel. Raises `RepositoryError`."""
        fields = _open(data, "index", collection, channel, ("last_version", "offers"), MAX_INDEX_BYTES)
        offers = tuple(
            Entry.from_json(item, f"index: offers[{place}]")
            for place, item in enumerate(fields.items("offers", MAX_OFFERS))
        )
        last = fields.integer("last_version", 0, document.MAX_VERSION)
        if any(late.version >= early.version for early, late in pairwise(offers)):
            raise RepositoryError("index: the versions of 'offers' do not fall")
        if offers and offers[0].version > last:
            raise RepositoryError(f"index: version {offers[0].version} is newer than 'last_version', {last}")
        return Index(collection, channel, offers, last)


@dataclass(frozen=True, slots=True)
class History:
    """Every version that a channel had, oldest first, as it was offered last."""

    collection: str
    channel: str
    entries: tuple[Entry, ...] = ()

    def find(self, version: int) -> Entry | None:
        """The entry with this version number, if the channel ever had it."""
        return next((entry for entry in self.entries if entry.version == version), None)

    def before(self, version: int) -> Entry | None:
        """The newest version that is older than this one."""
        older = [entry for entry in self.entries if entry.version < version]
        return older[-1] if older else None

    def having(self, entry: Entry) -> History:
        """With this entry, in place of an older one of the same version; the oldest give way beyond 1,000."""
        rest = [old for old in self.entries if old.version != entry.version]
        entries = sorted((*rest, entry), key=lambda each: each.version)
        return replace(self, entries=tuple(entries[-MAX_HISTORY:]))

    def to_bytes(self) -> bytes:
        """The document, the same bytes for the same history; the oldest give way where it grows too large."""
        entries = self.entries
        while True:
            data = document.write(
                {
                    "format": 0,
                    "collection": self.collection,
                    "channel": self.channel,
                    "entries": [entry.to_json() for entry in entries],
                }
            )
            if len(data) <= MAX_HISTORY_BYTES:
                return data
            entries = entries[len(entries) // 8 + 1 :]

    @staticmethod
    def from_bytes(data: bytes, *, collection: str, channel: str) -> History:
        """Read the history of this collection and channel. Raises `RepositoryError`."""
        fields = _open(data, "history", collection, channel, ("entries",), MAX_HISTORY_BYTES)
        entries = tuple(
            Entry.from_json(item, f"history: entries[{place}]")
            for place, item in enumerate(fields.items("entries", MAX_HISTORY))
        )
        if any(late.version <= early.version for early, late in pairwise(entries)):
            raise RepositoryError("history: the versions of 'entries' do not rise")
        return History(collection, channel, entries)


@dataclass(frozen=True, slots=True)
class Halts:
    """How often each version was halted. A version is halted while that is more than its entry's
    `resumed`."""

    collection: str
    channel: str
    counts: tuple[tuple[int, int], ...] = ()

    def halted(self, entry: Entry) -> bool:
        """Whether devices that do not run this version yet must leave it alone."""
        return dict(self.counts).get(entry.version, 0) > entry.resumed

    def count(self, version: int) -> int:
        """How often it was halted."""
        return dict(self.counts).get(version, 0)

    def halting(self, entry: Entry) -> Halts:
        """With this version halted."""
        counts = dict(self.counts) | {entry.version: entry.resumed + 1}
        return replace(self, counts=tuple(sorted(counts.items())[-MAX_HISTORY:]))

    def to_bytes(self) -> bytes:
        """The document, the same bytes for the same halts."""
        return document.write(
            {
                "format": 0,
                "collection": self.collection,
                "channel": self.channel,
                "halts": [{"version": version, "count": count} for version, count in self.counts],
            }
        )

    @staticmethod
    def from_bytes(data: bytes, *, collection: str, channel: str) -> Halts:
        """Read the halts of this collection and channel. Raises `RepositoryError`."""
        fields = _open(data, "halt", collection, channel, ("halts",), MAX_INDEX_BYTES)
        counts = []
        for place, item in enumerate(fields.items("halts", MAX_HISTORY)):
            each = document.Fields(item, f"halt: halts[{place}]", ("version", "count"))
            counts.append((each.version("version"), each.version("count")))
        if any(late <= early for (early, _), (late, _) in pairwise(counts)):
            raise RepositoryError("halt: the versions of 'halts' do not rise")
        return Halts(collection, channel, tuple(counts))


def next_version(indexes: Iterable[Index]) -> int:
    """The number of a collection's next version: one more than any channel ever had."""
    return 1 + max((index.last_version for index in indexes), default=0)


def check_variant(name: str) -> str:
    """`name`, when it can be a variant's. Raises `RepositoryError`."""
    if not _VARIANT.fullmatch(name):
        raise RepositoryError(
            f"a variant's name is 1 to 40 of a-z, 0-9, '.' and '-', and begins with no sign; got {name!r:.80}"
        )
    return name


def _open(
    data: bytes, what: str, collection: str, channel: str, keys: tuple[str, ...], most_bytes: int
) -> document.Fields:
    check_collection(collection)
    check_channel(channel)
    value = document.read(data, what, most_bytes=most_bytes)
    fields = document.Fields(value, what, ("format", "collection", "channel", *keys))
    fields.format()
    if (fields.text("collection"), fields.text("channel")) != (collection, channel):
        raise RepositoryError(
            f"{what}: expected {collection}/{channel}, "
            f"got {fields.text('collection')[:60]}/{fields.text('channel')[:60]}"
        )
    return fields
