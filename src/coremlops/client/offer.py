"""One look at a channel: from signed metadata to an activated model, or a reason why not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import coremlops
from coremlops.client.download import Downloads, Wanted
from coremlops.client.models import Models
from coremlops.client.state import Refused, State, short
from coremlops.client.trust import Trusted
from coremlops.client.web import Web
from coremlops.collection import Entry, Manifest
from coremlops.errors import CoremlopsError, UpdateError, UsageError

Progress = Callable[[str], None]
_EXECUTABLE = ("mlpackage", "mlmodel")


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """How an update ended, and what is active now.

    `outcome`: "updated", "current" (nothing newer), "empty" (the channel has no version yet), "refused" or
    "offline". `offered`: the version that the channel names, if that could be read. `reason`: why it was
    refused or could not be reached; empty otherwise. `received_bytes`: of members, over the wire.
    """

    outcome: str
    version: int | None
    digest: str | None
    offered: int | None = None
    reason: str = ""
    received_bytes: int = 0

    @property
    def changed(self) -> bool:
        """Whether another version is active now."""
        return self.outcome == "updated"

    @property
    def refused(self) -> str | None:
        """Why the offer was refused; None when it was not."""
        return self.reason if self.outcome == "refused" else None

    @property
    def ok(self) -> bool:
        """Whether the device has what its channel names."""
        return self.outcome in ("updated", "current", "empty")


class Judged(Exception):
    """A version was looked at and found wanting: the refusal is remembered in `state`."""

    def __init__(self, state: State, entry: Entry, reason: str) -> None:
        super().__init__(reason)
        self.state, self.entry, self.reason = state, entry, reason


class Offer:
    """One look at the channel: from signed metadata to an activated model, each step ready to stop."""

    def __init__(self, folder: Path, web: Web, state: State, progress: Progress) -> None:
        self._folder = folder
        self._web = web
        self._state = state
        self._progress = progress
        self._models = Models(folder / "models")
        self._downloads = Downloads(folder / "downloads", web)

    def take(self) -> tuple[UpdateResult, State]:
        """Everything, in order; state.json is replaced as the last step of an activation."""
        state = self._state
        for name in ("metadata", "downloads", "models"):
            (self._folder / name).mkdir(exist_ok=True)
        trusted = Trusted.refresh(self._folder, state.url, self._web)
        entry = trusted.index(state.collection, state.channel).current
        if entry is None:
            return result("empty", state), state
        active = state.active
        if active is not None and entry.manifest == active.manifest and self._models.complete(active.model):
            return result("current", state, entry=entry), state
        refusal = state.refusal_of(entry, coremlops.__version__)
        if refusal is not None:
            return result("refused", state, refusal.reason, entry), state
        manifest, received = self._manifest(trusted, entry)
        if not self._models.holds(manifest):
            received += self._fetch(trusted, manifest)
            parts = {member.sha256: self._downloads.part(member.sha256) for member in manifest.members}
            incoming = self._models.assemble(manifest, parts)
            self._judge(incoming, manifest, entry)
            self._models.put(incoming, entry.model, active=active.model if active else None)
        else:
            self._judge(self._models.path(entry.model), manifest, entry)
        state = state.activating(entry)
        state.save(self._folder / "state.json")
        self._tidy(state)
        return result("updated", state, entry=entry, received_bytes=received), state

    def _manifest(self, trusted: Trusted, entry: Entry) -> tuple[Manifest, int]:
        collection = self._state.collection
        length = trusted.manifest_length(collection, entry.manifest)
        url = trusted.member_url(collection, entry.manifest)
        wanted = Wanted(entry.manifest, length, url, f"version {entry.version}: its manifest")
        received = self._downloads.fetch(wanted)
        manifest = Manifest.from_bytes(self._downloads.part(entry.manifest).read_bytes())
        named = (manifest.collection, manifest.version, manifest.model)
        if named != (collection, entry.version, entry.model):
            self._refuse(
                entry, f"the manifest is of {named[0]} version {named[1]}, the index says {entry.version}"
            )
        if manifest.kind not in _EXECUTABLE:
            self._refuse(entry, f"a model of kind {manifest.kind} cannot be executed here")
        return manifest, received

    def _fetch(self, trusted: Trusted, manifest: Manifest) -> int:
        wanted = []
        for member in manifest.members:
            length = trusted.member_length(manifest.collection, member.sha256)
            if length != member.length:
                raise UpdateError(
                    f"version {manifest.version}: {member.path}: signed with {length} bytes, "
                    f"the manifest says {member.length}"
                )
            url = trusted.member_url(manifest.collection, member.sha256)
            name = f"version {manifest.version}: {member.path}"
            wanted.append(Wanted(member.sha256, member.length, url, name))
        self._downloads.require_space(tuple(wanted))
        received = 0
        for member, each in zip(manifest.members, wanted, strict=True):
            self._progress(f"version {manifest.version}: {member.path} ({member.length} bytes)")
            received += self._downloads.fetch(each)
        return received

    def _judge(self, folder: Path, manifest: Manifest, entry: Entry) -> None:
        """Raise `Judged` unless the files are the model that was promised and it answers as promised."""
        from coremlops import golden

        self._progress(f"version {manifest.version}: checking the golden set")
        try:
            self._models.check_digest(folder, manifest)
            golden.check(folder / manifest.payload, folder / "golden")
        except UsageError:
            raise  # Something is not installed here: no verdict on the model.
        except CoremlopsError as error:
            self._refuse(entry, error.message)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # An engine that fails on a model must not take the device with it.
            self._refuse(entry, f"the model cannot be executed: {type(error).__name__}: {error}")

    def _refuse(self, entry: Entry, reason: str) -> None:
        self._tidy(self._state)
        reason = short(reason)
        refused = Refused(entry.version, entry.manifest, reason, coremlops.__version__)
        raise Judged(self._state.refusing(refused), entry, reason)

    def _tidy(self, state: State) -> None:
        """Only the active and the previous model stay, and no downloads. Failing to tidy up is no failure."""
        with contextlib.suppress(OSError):
            self._models.keep_only(
                {each.model for each in (state.active, state.previous) if each is not None}
            )
            self._downloads.keep_only(set())


def result(
    outcome: str, state: State, reason: str = "", entry: Entry | None = None, *, received_bytes: int = 0
) -> UpdateResult:
    """How an update ended, in this state."""
    active = state.active
    return UpdateResult(
        outcome=outcome,
        version=active.version if active else None,
        digest=active.model if active else None,
        offered=entry.version if entry else None,
        reason=reason,
        received_bytes=received_bytes,
    )
