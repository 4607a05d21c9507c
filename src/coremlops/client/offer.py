"""One look at a channel: from signed metadata to an activated model, or a reason why not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import coremlops
from coremlops.client.download import Downloads, Wanted
from coremlops.client.models import Models
from coremlops.client.state import Installed, Refused, State, short
from coremlops.client.trust import Trusted
from coremlops.client.web import Web
from coremlops.collection import EMBEDDED, KEEP, Entry, Manifest, Profile, Variant, choose
from coremlops.errors import CoremlopsError, UpdateError, UsageError

if TYPE_CHECKING:
    from coremlops.golden import Judgement

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """How an update ended, and what is active now.

    `outcome`: "updated", "current" (nothing newer), "empty" (the channel has no version yet), "kept" (none of
    its versions is for this device), "embedded" (it is sent to the app's own model), "refused" or "offline".
    `offered`: the version that was chosen, if one was. `reason`: why it was refused or could not be reached,
    or why no version is for this device; empty otherwise. `received_bytes`: of members, over the wire.
    `judgement`: what executing the golden set found; None when none was executed.
    """

    outcome: str
    version: int | None
    digest: str | None
    offered: int | None = None
    reason: str = ""
    received_bytes: int = 0
    judgement: Judgement | None = None

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
        return self.outcome not in ("refused", "offline")


class Judged(Exception):
    """A version was looked at and found wanting: the refusal is remembered in `state`."""

    def __init__(self, state: State, entry: Entry, reason: str, judgement: Judgement | None) -> None:
        super().__init__(reason)
        self.state, self.entry, self.reason, self.judgement = state, entry, reason, judgement


class Offer:
    """One look at the channel: from signed metadata to an activated model, each step ready to stop."""

    def __init__(
        self, folder: Path, web: Web, state: State, profile: Profile, now: datetime, progress: Progress
    ) -> None:
        self._folder = folder
        self._web = web
        self._state = state
        self._profile = profile
        self._now = now
        self._progress = progress
        self._models = Models(folder / "models")
        self._downloads = Downloads(folder / "downloads", web)
        self._judgement: Judgement | None = None

    def take(self) -> tuple[UpdateResult, State]:
        """Everything, in order; state.json is replaced as the last step of an activation."""
        state = self._state
        for name in ("metadata", "downloads", "models"):
            (self._folder / name).mkdir(exist_ok=True)
        trusted = Trusted.refresh(self._folder, state.url, self._web)
        index = trusted.index(state.collection, state.channel)
        if index.current is None:
            return result("empty", state), state
        choice = choose(
            index,
            trusted.halts(state.collection, state.channel),
            self._profile,
            self._now,
            active=state.active.manifest if state.active is not None else None,
            refused=state.refusals(coremlops.__version__),
        )
        why = "; ".join(f"version {version}: {reason}" for version, reason in choice.reasons)
        if choice.use == EMBEDDED:
            state = replace(state, embedded=True)
            state.save(self._folder / "state.json")
            return result("embedded", state, why, choice.entry), state
        if choice.use == KEEP:
            return result("kept" if choice.entry is None else "refused", state, why, choice.entry), state
        entry, variant = choice.entry, choice.variant
        assert entry is not None  # noqa: S101 - a choice to get something says what
        assert variant is not None  # noqa: S101
        return self._get(trusted, entry, variant)

    def _get(self, trusted: Trusted, entry: Entry, variant: Variant) -> tuple[UpdateResult, State]:
        state, active = self._state, self._state.active
        same = active is not None and variant.manifest == active.manifest
        if same and not state.embedded and self._models.complete(variant.model):
            return result("current", state, entry=entry), state
        manifest, received = self._manifest(trusted, entry, variant)
        if not self._models.holds(manifest):
            received += self._fetch(trusted, manifest)
            parts = {member.sha256: self._downloads.part(member.sha256) for member in manifest.members}
            incoming = self._models.assemble(manifest, parts)
            self._judge(incoming, manifest, entry, variant)
            self._models.put(incoming, variant.model, active=active.model if active else None)
        else:
            self._judge(self._models.path(variant.model), manifest, entry, variant)
        state = state.activating(Installed.of(entry, variant))
        state.save(self._folder / "state.json")
        self._tidy(state)
        done = result("updated", state, entry=entry, received_bytes=received)
        return replace(done, judgement=self._judgement), state

    def _manifest(self, trusted: Trusted, entry: Entry, variant: Variant) -> tuple[Manifest, int]:
        collection = self._state.collection
        length = trusted.manifest_length(collection, variant.manifest)
        url = trusted.member_url(collection, variant.manifest)
        wanted = Wanted(variant.manifest, length, url, f"version {entry.version}: its manifest")
        received = self._downloads.fetch(wanted)
        manifest = Manifest.from_bytes(self._downloads.part(variant.manifest).read_bytes())
        named = (manifest.collection, manifest.version, manifest.variant, manifest.model)
        if named != (collection, entry.version, variant.name, variant.model):
            self._refuse(
                entry,
                variant,
                f"the manifest is of {named[0]} version {named[1]}, {named[2]}; "
                f"the index says {entry.version}, {variant.name}",
            )
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

    def _judge(self, folder: Path, manifest: Manifest, entry: Entry, variant: Variant) -> None:
        """Raise `Judged` unless the files are the model that was promised and it answers as promised."""
        from coremlops import golden

        self._progress(f"version {manifest.version}: checking the golden set")
        try:
            self._models.check_digest(folder, manifest)
            self._judgement = golden.check(folder / manifest.payload, folder / "golden")
        except UsageError:
            raise  # Something is not installed here: no verdict on the model.
        except CoremlopsError as error:
            self._refuse(entry, variant, error.message)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # An engine that fails on a model must not take the device with it.
            self._refuse(entry, variant, f"the model cannot be executed: {type(error).__name__}: {error}")
        if not self._judgement.ok:
            self._refuse(entry, variant, self._judgement.reason)

    def _refuse(self, entry: Entry, variant: Variant, reason: str) -> NoReturn:
        self._tidy(self._state)
        reason = short(reason)
        refused = Refused(entry.version, variant.manifest, reason, coremlops.__version__)
        raise Judged(self._state.refusing(refused), entry, reason, self._judgement)

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
