"""The index of a channel: which version is current, and what came before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise

from coremlops.collection import document
from coremlops.collection.names import check_channel, check_collection
from coremlops.errors import RepositoryError

MAX_INDEX_BYTES = 1_000_000
MAX_HISTORY = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """One published version: its number, the model's digest, its manifest's SHA-256, and when (UTC)."""

    version: int
    model: str
    manifest: str
    published: datetime

    def to_json(self) -> dict[str, object]:
        """The JSON object of the contract."""
        return {
            "version": self.version,
            "model": self.model,
            "manifest": self.manifest,
            "published": document.time_text(self.published),
        }

    @staticmethod
    def from_json(value: object, what: str) -> Entry:
        """Read one entry; `what` names it in messages. Raises `RepositoryError`."""
        fields = document.Fields(value, what, ("version", "model", "manifest", "published"))
        return Entry(
            version=fields.version("version"),
            model=fields.sha256("model"),
            manifest=fields.sha256("manifest"),
            published=fields.time("published"),
        )


@dataclass(frozen=True, slots=True)
class Index:
    """A channel: the entry that devices take, and all versions that it ever had, oldest first."""

    collection: str
    channel: str
    current: Entry | None = None
    history: tuple[Entry, ...] = ()

    @property
    def latest(self) -> Entry | None:
        """The newest version that the channel ever had."""
        return self.history[-1] if self.history else None

    @property
    def rolled_back(self) -> bool:
        """Whether devices get an older version than the newest."""
        return self.current is not None and self.current != self.latest

    def find(self, version: int) -> Entry | None:
        """The entry with this version number, if the channel ever had it."""
        return next((entry for entry in self.history if entry.version == version), None)

    def before_current(self) -> Entry | None:
        """The newest version that is older than the current one."""
        if self.current is None:
            return None
        older = [entry for entry in self.history if entry.version < self.current.version]
        return older[-1] if older else None

    def with_current(self, entry: Entry) -> Index:
        """The same channel with `entry` current; the oldest history gives way beyond 1,000 versions."""
        rest = [old for old in self.history if old.version != entry.version]
        history = (*rest[-(MAX_HISTORY - 1) :], entry)
        return replace(self, current=entry, history=tuple(sorted(history, key=lambda each: each.version)))

    def to_bytes(self) -> bytes:
        """The document, the same bytes for the same index."""
        return document.write(
            {
                "format": 0,
                "collection": self.collection,
                "channel": self.channel,
                "current": None if self.current is None else self.current.to_json(),
                "history": [entry.to_json() for entry in self.history],
            }
        )

    @staticmethod
    def from_bytes(data: bytes, *, collection: str, channel: str) -> Index:
        """Read the index of this collection and channel. Raises `RepositoryError`."""
        value = document.read(data, "index", most_bytes=MAX_INDEX_BYTES)
        keys = ("format", "collection", "channel", "current", "history")
        fields = document.Fields(value, "index", keys)
        fields.format()
        if (fields.text("collection"), fields.text("channel")) != (collection, channel):
            raise RepositoryError(
                f"index: expected {collection}/{channel}, "
                f"got {fields.text('collection')[:60]}/{fields.text('channel')[:60]}"
            )
        history = tuple(
            Entry.from_json(item, f"index: history[{place}]")
            for place, item in enumerate(fields.items("history", MAX_HISTORY))
        )
        versions = [entry.version for entry in history]
        if any(late <= early for early, late in pairwise(versions)):
            raise RepositoryError("index: the versions of 'history' do not rise")
        raw = fields.raw("current")
        current = None if raw is None else Entry.from_json(raw, "index: current")
        if current is not None and current not in history:
            raise RepositoryError(f"index: current version {current.version} is not in 'history'")
        return Index(check_collection(collection), check_channel(channel), current, history)


def next_version(indexes: Iterable[Index]) -> int:
    """The number of a collection's next version: one more than any channel ever had."""
    return 1 + max((index.latest.version for index in indexes if index.latest is not None), default=0)
