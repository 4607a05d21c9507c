"""What a device remembers: `state.json`, read strictly and replaced atomically."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from coremlops.client.slot import Installed as Installed
from coremlops.client.slot import Refused as Refused
from coremlops.client.slot import Slot as Slot
from coremlops.collection import MAX_MODELS, check_channel, check_collection, check_name, document
from coremlops.errors import CoremlopsError, NewerFormatError, OlderFormatError, RepositoryError, UpdateError
from coremlops.files import read_regular, write_atomic

MAX_STATE_BYTES = 4_000_000
MAX_REASON = 500
_ANEW = "remove it and update with --url and --root: models that are here are not fetched"
COPY = "state.copy.json"  # at most one save behind: the models that it names are in one of the two slots
OUTCOMES = (
    *("updated", "current", "empty", "kept", "embedded"),
    *("refused", "offline", "cancelled", "returned"),
)


@dataclass(frozen=True, slots=True)
class Check:
    """How the last look for an update, or a return, ended: one of `OUTCOMES`, when (UTC), and the reason if
    any."""

    at: datetime
    outcome: str
    reason: str


def short(reason: str) -> str:
    """A reason as `state.json` keeps it: at most `MAX_REASON` characters, all of which can be read back.

    A reason may quote what an engine or a server said; a lone surrogate in it would make the file unreadable.
    """
    return reason.encode("utf-8", "replace").decode("utf-8")[:MAX_REASON]


@dataclass(frozen=True, slots=True)
class State:
    """Where a device looks, and what it has of each model that it takes from there.

    `install_id`: 32 hex digits, random; it places the device in a rollout and never leaves it. `models`: by
    name. `active`, `previous`, `embedded` and `refused` are those of the only model.
    """

    url: str
    collection: str
    channel: str
    install_id: str = ""
    models: tuple[Slot, ...] = ()
    last: Check | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The models that the device knows of."""
        return tuple(slot.name for slot in self.models)

    @property
    def active(self) -> Installed | None:
        return self.slot().active

    @property
    def previous(self) -> Installed | None:
        return self.slot().previous

    @property
    def embedded(self) -> bool:
        return self.slot().embedded

    @property
    def refused(self) -> tuple[Refused, ...]:
        return self.slot().refused

    def slot(self, name: str | None = None) -> Slot:
        """What is here of a model: without a name of the only one, and nothing before there is any.

        Of several models it is the one of the collection's own name, which is that of a first model that
        nobody named: an app that names none goes on with it. Raises `UpdateError` for no name where none has
        that, and for a name that is not among them.
        """
        known = ", ".join(self.names)
        if name is None:
            if len(self.models) > 1 and self.collection in self.names:
                return self.find(self.collection)
            if len(self.models) > 1:
                raise UpdateError(
                    f"{self.collection} holds several models: {known}", hint="name one: --model NAME"
                )
            return self.models[0] if self.models else Slot(self.collection)
        if name not in self.names and self.models:
            raise UpdateError(f"{self.collection} has no model {name!r:.80} here; it has {known}")
        return self.find(name)

    def find(self, name: str) -> Slot:
        """What is here of this model, nothing where the device knows of none. Raises `RepositoryError`."""
        return next((slot for slot in self.models if slot.name == name), None) or Slot(check_name(name))

    def having(self, slot: Slot) -> State:
        """The same with this slot, in place of an older one of the same model."""
        others = (old for old in self.models if old.name != slot.name)
        return replace(self, models=tuple(sorted((*others, slot), key=lambda each: each.name)))

    def knowing(self, names: Iterable[str], offered: Collection[str] = ()) -> State:
        """The same with a slot for each of these models; beyond 16 others go, those that are not `offered`
        before those that are."""
        wanted = {name: self.find(name) for name in names}
        others = [slot for slot in self.models if slot.name not in wanted]
        others.sort(key=lambda slot: (slot.name not in offered, slot.active is None))
        kept = (*wanted.values(), *others[: max(0, MAX_MODELS - len(wanted))])
        return replace(self, models=tuple(sorted(kept, key=lambda each: each.name)))

    def save(self, path: Path) -> None:
        """Replace `state.json`, before or after, never between; then the copy, read where it is damaged."""
        data = self.to_bytes()
        write_atomic(path, data)
        with contextlib.suppress(OSError):
            write_atomic(path.with_name(COPY), data)

    def to_bytes(self) -> bytes:
        """The document."""
        last = self.last
        return document.write(
            {
                "format": 0,
                "url": self.url,
                "collection": self.collection,
                "channel": self.channel,
                "install_id": self.install_id,
                "models": [slot.to_json() for slot in self.models],
                "last": None
                if last is None
                else {"at": document.time_text(last.at), "outcome": last.outcome, "reason": last.reason},
            }
        )

    @staticmethod
    def load(path: Path) -> State:
        """Read `state.json`, or its copy when it is damaged. Raises `UpdateError` when there is none, or both
        are."""
        try:
            data = read_regular(path, MAX_STATE_BYTES + 1)
        except FileNotFoundError:
            raise UpdateError(
                f"{path.parent} is no device yet",
                hint="name --url and --root the first time",
            ) from None
        except OSError as error:
            with contextlib.suppress(OSError, CoremlopsError):
                return State._copy(path)
            raise UpdateError(f"{path} cannot be read: {error.strerror}") from None
        try:
            return State.from_bytes(data)
        except NewerFormatError as error:
            raise UpdateError(f"{path}: {error.message}", hint=error.hint) from None
        except OlderFormatError as error:
            raise UpdateError(f"{path}: {error.message}", hint=_ANEW) from None
        except CoremlopsError as error:
            with contextlib.suppress(OSError, CoremlopsError):
                return State._copy(path)
            raise UpdateError(f"{path} is damaged: {error.message}", hint=_ANEW) from None

    @staticmethod
    def _copy(path: Path) -> State:
        return State.from_bytes(read_regular(path.with_name(COPY), MAX_STATE_BYTES + 1))

    @staticmethod
    def from_bytes(data: bytes) -> State:
        """Read the document. Raises `RepositoryError`."""
        value = document.read(data, "state", most_bytes=MAX_STATE_BYTES)
        keys = ("format", "url", "collection", "channel", "install_id", "models", "last")
        fields = document.Fields(value, "state", keys, older=("active", "previous"))
        fields.format()
        models = tuple(
            Slot.from_json(item, f"state: models[{place}]")
            for place, item in enumerate(fields.items("models", MAX_MODELS))
        )
        if any(late.name <= early.name for early, late in pairwise(models)):
            raise RepositoryError("state: the names of 'models' do not rise")
        last = fields.raw("last")
        check = None
        if last is not None:
            each = document.Fields(last, "state: last", ("at", "outcome", "reason"))
            check = Check(each.time("at"), each.text("outcome"), each.text("reason"))
        if not re.fullmatch(r"[0-9a-f]{32}|", fields.text("install_id")):
            fields.refuse("install_id", "32 lower-case hex digits")
        return State(
            url=fields.text("url"),
            collection=check_collection(fields.text("collection")),
            channel=check_channel(fields.text("channel")),
            install_id=fields.text("install_id"),
            models=models,
            last=check,
        )
