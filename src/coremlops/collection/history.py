"""Every version that a model had in a channel: a publisher goes back by it, no device reads it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from coremlops.collection import document
from coremlops.collection.entry import Entry
from coremlops.collection.index import MAX_HISTORY, open_document
from coremlops.collection.names import check_name
from coremlops.errors import RepositoryError

MAX_HISTORY_BYTES = 4_000_000


@dataclass(frozen=True, slots=True)
class History:
    """Every version that a model had in a channel, oldest first, as it was offered last."""

    collection: str
    channel: str
    name: str
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
                    "name": self.name,
                    "entries": [entry.to_json() for entry in entries],
                }
            )
            if len(data) <= MAX_HISTORY_BYTES:
                return data
            entries = entries[len(entries) // 8 + 1 :]

    @staticmethod
    def from_bytes(data: bytes, *, collection: str, channel: str, name: str) -> History:
        """Read the history of this model in this collection and channel. Raises `RepositoryError`."""
        keys = ("name", "entries")
        fields = open_document(data, "history", collection, channel, keys, MAX_HISTORY_BYTES)
        if check_name(fields.text("name")) != name:
            raise RepositoryError(f"history: expected {name}, got {fields.text('name')}")
        entries = tuple(
            Entry.from_json(item, f"history: entries[{place}]")
            for place, item in enumerate(fields.items("entries", MAX_HISTORY))
        )
        if any(late.version <= early.version for early, late in pairwise(entries)):
            raise RepositoryError("history: the versions of 'entries' do not rise")
        return History(collection, channel, name, entries)
