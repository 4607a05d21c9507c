"""What a device remembers: `state.json`, read strictly and replaced atomically."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

from coremlops.collection import Entry, Variant, check_channel, check_collection, check_variant, document
from coremlops.errors import CoremlopsError, NewerFormatError, UpdateError
from coremlops.files import write_atomic

MAX_STATE_BYTES = 1_000_000
MAX_REFUSED = 100
MAX_REASON = 500
COPY = "state.copy.json"  # at most one save behind: the model that it names is in one of the two slots
OUTCOMES = (
    *("updated", "current", "empty", "kept", "embedded"),
    *("refused", "offline", "cancelled", "returned"),
)


@dataclass(frozen=True, slots=True)
class Installed:
    """A variant of a version that is on this device.

    `model`: its digest; `manifest`: its manifest's SHA-256; `hold`: it wins against a newer model that the
    app carries.
    """

    version: int
    variant: str
    model: str
    manifest: str
    hold: bool = False

    @staticmethod
    def of(entry: Entry, variant: Variant) -> Installed:
        return Installed(entry.version, variant.name, variant.model, variant.manifest, entry.hold)

    @staticmethod
    def from_json(value: object, what: str) -> Installed:
        """Read one; `what` names it in messages. Raises `RepositoryError`."""
        fields = document.Fields(value, what, ("version", "variant", "model", "manifest", "hold"))
        return Installed(
            version=fields.version("version"),
            variant=check_variant(fields.text("variant")),
            model=fields.sha256("model"),
            manifest=fields.sha256("manifest"),
            hold=fields.truth("hold"),
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that this device will not take, and why. `client`: the coremlops that judged it."""

    version: int
    manifest: str
    reason: str
    client: str


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
    """Where a device looks, what it runs, what it ran before, and what it refused.

    `install_id`: 32 hex digits, random; it places the device in a rollout and never leaves it. `embedded`:
    the channel sends it to the model that the app carries.
    """

    url: str
    collection: str
    channel: str
    install_id: str = ""
    active: Installed | None = None
    previous: Installed | None = None
    embedded: bool = False
    refused: tuple[Refused, ...] = ()
    last: Check | None = None

    def refusals(self, client: str) -> dict[str, str]:
        """Reasons by manifest, of what this coremlops refused; a newer one may judge anew."""
        return {each.manifest: each.reason for each in self.refused if each.client == client}

    def refusing(self, refused: Refused) -> State:
        """The same state, with this refusal remembered instead of an older one of the same version."""
        others = tuple(each for each in self.refused if each.manifest != refused.manifest)
        return replace(self, refused=(*others, refused)[-MAX_REFUSED:])

    def activating(self, installed: Installed) -> State:
        """The same state with `installed` active and what was active before as the previous one."""
        same = self.active is not None and self.active.model == installed.model
        return replace(
            self,
            active=installed,
            embedded=False,
            previous=self.previous if same else self.active,
            refused=tuple(each for each in self.refused if each.manifest != installed.manifest),
        )

    def returning(self, *, carried: bool) -> State:
        """The same state with the previous model active; without one, sent to the model that the app
        carries if there is one (`carried`)."""
        return replace(
            self,
            active=self.previous,
            previous=None,
            embedded=self.embedded or (self.previous is None and carried),
        )

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
                "active": None if self.active is None else asdict(self.active),
                "previous": None if self.previous is None else asdict(self.previous),
                "embedded": self.embedded,
                "refused": [asdict(each) for each in self.refused],
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
            data = path.read_bytes()
        except FileNotFoundError:
            raise UpdateError(
                f"{path.parent} is no device yet",
                hint="name --url and --root the first time",
            ) from None
        except OSError as error:
            raise UpdateError(f"{path} cannot be read: {error.strerror}") from None
        try:
            return State.from_bytes(data)
        except NewerFormatError as error:
            raise UpdateError(f"{path}: {error.message}", hint=error.hint) from None
        except CoremlopsError as error:
            with contextlib.suppress(OSError, CoremlopsError):
                return State.from_bytes(path.with_name(COPY).read_bytes())
            raise UpdateError(
                f"{path} is damaged: {error.message}",
                hint="remove it and update with --url and --root: models that are here are not fetched",
            ) from None

    @staticmethod
    def from_bytes(data: bytes) -> State:
        """Read the document. Raises `RepositoryError`."""
        value = document.read(data, "state", most_bytes=MAX_STATE_BYTES)
        keys = (
            *("format", "url", "collection", "channel", "install_id"),
            *("active", "previous", "embedded", "refused", "last"),
        )
        fields = document.Fields(value, "state", keys)
        fields.format()
        refused = []
        for place, item in enumerate(fields.items("refused", MAX_REFUSED)):
            each = document.Fields(
                item, f"state: refused[{place}]", ("version", "manifest", "reason", "client")
            )
            version, manifest = each.version("version"), each.sha256("manifest")
            refused.append(Refused(version, manifest, each.text("reason"), each.text("client")))
        active, previous, last = (fields.raw(key) for key in ("active", "previous", "last"))
        check = None
        if last is not None:
            each = document.Fields(last, "state: last", ("at", "outcome", "reason"))
            check = Check(each.time("at"), each.text("outcome"), each.text("reason"))
        return State(
            url=fields.text("url"),
            collection=check_collection(fields.text("collection")),
            channel=check_channel(fields.text("channel")),
            install_id=fields.text("install_id"),
            active=None if active is None else Installed.from_json(active, "state: active"),
            previous=None if previous is None else Installed.from_json(previous, "state: previous"),
            embedded=fields.truth("embedded"),
            refused=tuple(refused),
            last=check,
        )
