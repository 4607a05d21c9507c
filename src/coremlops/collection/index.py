"""What a channel offers: the first document that a device reads, and the one beside it.

    faces/release/index.json     of each model the versions on offer, newest first
    faces/halt/release.json      which of them are halted: signed by a role that can do no more than this

Format 0; see docs/formats.md for the bytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from coremlops.collection import document
from coremlops.collection.entry import Entry
from coremlops.collection.names import check_channel, check_collection, check_name
from coremlops.errors import RepositoryError

MAX_INDEX_BYTES = 64_000
MAX_MODELS = 16
MAX_OFFERS = 8
MAX_HISTORY = 1000
MAX_HALTS = 500


@dataclass(frozen=True, slots=True)
class Line:
    """What a channel offers of one model, newest version first. `last_version`: the highest that it ever had,
    0 for none."""

    collection: str
    channel: str
    name: str
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

    def offering(self, entry: Entry) -> Line:
        """With `entry` on offer before all older ones, and nothing newer; of these at most 8 stay."""
        older = tuple(each for each in self.offers if each.version < entry.version)
        return replace(
            self,
            offers=(entry, *older)[:MAX_OFFERS],
            last_version=max(self.last_version, entry.version),
        )

    def replacing(self, entry: Entry) -> Line:
        """With another entry of the same version in its place."""
        return replace(
            self, offers=tuple(entry if each.version == entry.version else each for each in self.offers)
        )


@dataclass(frozen=True, slots=True)
class Index:
    """What a channel offers: a line for each model that it ever had, by name."""

    collection: str
    channel: str
    lines: tuple[Line, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names."""
        return tuple(line.name for line in self.lines)

    def line(self, name: str) -> Line:
        """What is offered of one model; an empty line for one that the channel never had."""
        found = (line for line in self.lines if line.name == name)
        return next(found, Line(self.collection, self.channel, name))

    def having(self, line: Line) -> Index:
        """With this line, in place of an older one of the same model."""
        rest = [old for old in self.lines if old.name != line.name]
        return replace(self, lines=tuple(sorted((*rest, line), key=lambda each: each.name)))

    def to_bytes(self) -> bytes:
        """The document, the same bytes for the same index. Raises `RepositoryError` when it grew too
        large."""
        if len(self.lines) > MAX_MODELS:
            raise RepositoryError(
                f"{self.collection} would hold {len(self.lines)} models, at most {MAX_MODELS} are possible",
                hint="another collection: coremlops repo add NAME",
            )
        models = [
            {
                "name": line.name,
                "last_version": line.last_version,
                "offers": [entry.to_json() for entry in line.offers],
            }
            for line in self.lines
        ]
        data = document.write(
            {"format": 0, "collection": self.collection, "channel": self.channel, "models": models}
        )
        if len(data) > MAX_INDEX_BYTES:
            raise RepositoryError(
                f"the index of {self.channel} would have {len(data)} bytes, at most {MAX_INDEX_BYTES}",
                hint="fewer variants, shorter rules, or another collection for some of its models",
            )
        return data

    @staticmethod
    def from_bytes(data: bytes, *, collection: str, channel: str) -> Index:
        """Read the index of this collection and channel. Raises `RepositoryError`."""
        fields = open_document(
            data, "index", collection, channel, ("models",), MAX_INDEX_BYTES, older=("last_version", "offers")
        )
        lines = tuple(
            _line(item, f"index: models[{place}]", collection, channel)
            for place, item in enumerate(fields.items("models", MAX_MODELS))
        )
        if any(late.name <= early.name for early, late in pairwise(lines)):
            raise RepositoryError("index: the names of 'models' do not rise")
        return Index(collection, channel, lines)


def _line(value: object, what: str, collection: str, channel: str) -> Line:
    fields = document.Fields(value, what, ("name", "last_version", "offers"))
    offers = tuple(
        Entry.from_json(item, f"{what}: offers[{place}]")
        for place, item in enumerate(fields.items("offers", MAX_OFFERS))
    )
    last = fields.integer("last_version", 0, document.MAX_VERSION)
    if any(late.version >= early.version for early, late in pairwise(offers)):
        raise RepositoryError(f"{what}: the versions of 'offers' do not fall")
    if offers and offers[0].version > last:
        raise RepositoryError(f"{what}: version {offers[0].version} is newer than 'last_version', {last}")
    return Line(collection, channel, check_name(fields.text("name")), offers, last)


@dataclass(frozen=True, slots=True)
class Halts:
    """How often each version was halted: ((model's name, version), count), by both. A version is halted while
    that is more than its entry's `resumed`."""

    collection: str
    channel: str
    counts: tuple[tuple[tuple[str, int], int], ...] = ()

    def halted(self, name: str, entry: Entry) -> bool:
        """Whether devices that do not run this version yet must leave it alone."""
        return self.count(name, entry.version) > entry.resumed

    def count(self, name: str, version: int) -> int:
        """How often it was halted."""
        return dict(self.counts).get((name, version), 0)

    def halting(self, name: str, entry: Entry) -> Halts:
        """With this version halted; beyond 500 the oldest gives way, of the model that has most."""
        counts = dict(self.counts) | {(name, entry.version): entry.resumed + 1}
        if len(counts) > MAX_HALTS:
            most = Counter(key[0] for key in counts).most_common(1)[0][0]
            del counts[min(key for key in counts if key[0] == most and key != (name, entry.version))]
        return replace(self, counts=tuple(sorted(counts.items())))

    def to_bytes(self) -> bytes:
        """The document, the same bytes for the same halts."""
        halts = [{"name": name, "version": version, "count": n} for (name, version), n in self.counts]
        return document.write(
            {"format": 0, "collection": self.collection, "channel": self.channel, "halts": halts}
        )

    @staticmethod
    def from_bytes(data: bytes, *, collection: str, channel: str) -> Halts:
        """Read the halts of this collection and channel. Raises `RepositoryError`."""
        fields = open_document(data, "halt", collection, channel, ("halts",), MAX_INDEX_BYTES)
        counts = []
        for place, item in enumerate(fields.items("halts", MAX_HALTS)):
            each = document.Fields(
                item, f"halt: halts[{place}]", ("name", "version", "count"), older=("version", "count")
            )
            about = (check_name(each.text("name")), each.version("version"))
            counts.append((about, each.version("count")))
        if any(late <= early for (early, _), (late, _) in pairwise(counts)):
            raise RepositoryError("halt: the names and versions of 'halts' do not rise")
        return Halts(collection, channel, tuple(counts))


def next_version(lines: Iterable[Line]) -> int:
    """The number of a model's next version: one more than any channel ever had."""
    return 1 + max((line.last_version for line in lines), default=0)


def open_document(
    data: bytes,
    what: str,
    collection: str,
    channel: str,
    keys: tuple[str, ...],
    most_bytes: int,
    *,
    older: tuple[str, ...] = (),
) -> document.Fields:
    """The fields of a channel's document, which must be of this collection and channel.

    Raises `RepositoryError`.
    """
    check_collection(collection)
    check_channel(channel)
    value = document.read(data, what, most_bytes=most_bytes)
    fields = document.Fields(value, what, ("format", "collection", "channel", *keys), older=older)
    fields.format()
    if (fields.text("collection"), fields.text("channel")) != (collection, channel):
        raise RepositoryError(
            f"{what}: expected {collection}/{channel}, "
            f"got {fields.text('collection')[:60]}/{fields.text('channel')[:60]}"
        )
    return fields
