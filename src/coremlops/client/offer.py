"""One look at a channel: from signed metadata to an activated model, or a reason why not."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import coremlops
from coremlops.client.download import Downloads, Wanted
from coremlops.client.models import Models
from coremlops.client.progress import Meter
from coremlops.client.starts import CHECKS, Starts
from coremlops.client.state import Installed, Refused, State, short
from coremlops.client.stopping import Stoppable
from coremlops.client.trust import Trusted
from coremlops.client.web import Web
from coremlops.collection import EMBEDDED, GET, KEEP, Choice, Entry, Manifest, Profile, Variant, choose
from coremlops.errors import CoremlopsError, UpdateError, UsageError
from coremlops.files import clear_unless_file, make_folder

if TYPE_CHECKING:
    from coremlops.golden import Judgement


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """How an update ended, and what is active now.

    `outcome`: "updated", "current" (nothing newer), "empty" (the channel has no version yet), "kept" (none of
    its versions is for this device), "embedded" (it is sent to the app's own model), "refused", "offline" or
    "cancelled".
    `offered`: the version that was chosen, if one was. `reason`: why it was refused or could not be reached,
    or why no version is for this device; empty otherwise. `received_bytes`: of members, over the wire.
    `judgement`: what executing the golden set found; None when none was executed. `judged`: what was looked
    at and taken or refused for good; None when nothing was.
    """

    outcome: str
    version: int | None
    digest: str | None
    offered: int | None = None
    reason: str = ""
    received_bytes: int = 0
    judgement: Judgement | None = None
    judged: Installed | None = None

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
        return self.outcome not in ("refused", "offline", "cancelled")


@dataclass(frozen=True, slots=True)
class Plan:
    """What an update would do. `outcome`: as an update's, "get" where it would fetch `version` and `variant`.

    `total`: bytes of all its files; `missing`: of those that are not here. `reason`: why each newer version
    is not for this device, and which it is.
    """

    outcome: str
    version: int | None = None
    variant: str | None = None
    total: int = 0
    missing: int = 0
    reason: str = ""


class Judged(Exception):
    """A version was looked at and found wanting: the refusal is remembered in `state`."""

    def __init__(
        self, state: State, entry: Entry, variant: Variant, reason: str, judgement: Judgement | None
    ) -> None:
        super().__init__(reason)
        self.state, self.entry, self.reason, self.judgement = state, entry, reason, judgement
        self.judged = Installed.of(entry, variant)


class Offer:
    """One look at the channel: from signed metadata to an activated model, each step ready to stop."""

    def __init__(
        self,
        folder: Path,
        web: Web | Stoppable,
        state: State,
        profile: Profile,
        now: datetime,
        meter: Meter,
    ) -> None:
        self._folder = folder
        self._web = web
        self._state = state
        self._profile = profile
        self._now = now
        self._meter = meter
        self._models = Models(folder / "models")
        self._downloads = Downloads(folder / "downloads", web, meter)
        self._judgement: Judgement | None = None

    def take(self) -> tuple[UpdateResult, State]:
        """Everything, in order; state.json is replaced as the last step of an activation."""
        state = self._state
        trusted, choice = self._look()
        if choice is None:
            return result("empty", state), state
        if choice.use == EMBEDDED:
            state = replace(state, embedded=True)
            state.save(self._folder / "state.json")
            return result("embedded", state, choice.words(), choice.entry), state
        if choice.entry is None or choice.variant is None or choice.use == KEEP:
            outcome = "kept" if choice.entry is None else "refused"
            return result(outcome, state, choice.words(), choice.entry), state
        return self._get(trusted, choice.entry, choice.variant)

    def plan(self) -> Plan:
        """What `take` would do; of the members only the manifest is fetched."""
        trusted, choice = self._look()
        if choice is None:
            return Plan("empty")
        if choice.use != GET or choice.entry is None or choice.variant is None:
            outcome = "embedded" if choice.use == EMBEDDED else "refused" if choice.entry else "kept"
            return Plan(outcome, choice.entry.version if choice.entry else None, reason=choice.words())
        entry, variant = choice.entry, choice.variant
        if self._is_active(variant):
            return Plan("current", entry.version, variant.name, variant.length, reason=choice.words())
        manifest, _ = self._manifest(trusted, entry, variant)
        wanted = self._wanted(trusted, manifest)
        total = sum(each.length for each in wanted)
        found = self._models.found(manifest)
        missing = self._downloads.missing_bytes(tuple(each for each in wanted if each.sha256 not in found))
        return Plan("get", entry.version, variant.name, total, missing, choice.words())

    def _look(self) -> tuple[Trusted, Choice | None]:
        """Refresh, and choose; None where the channel has no version yet."""
        state = self._state
        for name in ("metadata", "downloads", "models"):
            make_folder(self._folder / name)
        self._meter.begin("metadata", "looking for an update")
        trusted = Trusted.refresh(self._folder, state.url, self._web)
        index = trusted.index(state.collection, state.channel)
        if index.current is None:
            return trusted, None
        return trusted, choose(
            index,
            trusted.halts(state.collection, state.channel),
            self._profile,
            self._now,
            active=state.active.manifest if state.active is not None else None,
            refused=state.refusals(coremlops.__version__),
        )

    def _is_active(self, variant: Variant) -> bool:
        """Whether the device runs this very variant, and has it whole."""
        state = self._state
        same = state.active is not None and variant.manifest == state.active.manifest
        return same and not state.embedded and self._models.complete(variant.model)

    def _get(self, trusted: Trusted, entry: Entry, variant: Variant) -> tuple[UpdateResult, State]:
        state, active = self._state, self._state.active
        if self._is_active(variant):
            return result("current", state, entry=entry), state
        manifest, received = self._manifest(trusted, entry, variant)
        if not self._models.holds(manifest):
            found = self._models.found(manifest)
            received += self._fetch(trusted, manifest, found)
            parts = {each.sha256: self._downloads.part(each.sha256) for each in manifest.members} | found
            incoming = self._models.assemble(manifest, parts)
            self._judge(incoming, manifest, entry, variant)
            self._models.put(incoming, variant.model, active=active.model if active else None)
        else:
            self._judge(self._models.path(variant.model), manifest, entry, variant)
        if isinstance(self._web, Stoppable):
            self._web.check()
        self._meter.begin("activate", f"version {entry.version}")
        state = state.activating(Installed.of(entry, variant))
        state.save(self._folder / "state.json")
        self._tidy(state)
        done = result("updated", state, entry=entry, received_bytes=received)
        return replace(done, judgement=self._judgement, judged=Installed.of(entry, variant)), state

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

    def _wanted(self, trusted: Trusted, manifest: Manifest) -> tuple[Wanted, ...]:
        """The files of a version, each content once, with the lengths that are signed."""
        wanted: dict[str, Wanted] = {}
        for member in manifest.members:
            length = trusted.member_length(manifest.collection, member.sha256)
            if length != member.length:
                raise UpdateError(
                    f"version {manifest.version}: {member.path}: signed with {length} bytes, "
                    f"the manifest says {member.length}"
                )
            url = trusted.member_url(manifest.collection, member.sha256)
            name = f"version {manifest.version}: {member.path}"
            wanted.setdefault(member.sha256, Wanted(member.sha256, member.length, url, name))
        return tuple(wanted.values())

    def _fetch(self, trusted: Trusted, manifest: Manifest, found: dict[str, Path]) -> int:
        every = self._wanted(trusted, manifest)
        wanted = tuple(each for each in every if each.sha256 not in found)
        self._downloads.require_space(wanted)
        total = sum(each.length for each in every)
        self._meter.expect(total, total - self._downloads.missing_bytes(wanted))
        received = 0
        for each in wanted:
            self._meter.begin("download", f"{each.name} ({each.length} bytes)")
            received += self._downloads.fetch(each)
        return received

    def _judge(self, folder: Path, manifest: Manifest, entry: Entry, variant: Variant) -> None:
        """Raise `Judged` unless the files are the model that was promised and it answers as promised.

        A model that takes the process down is refused after three such checks.
        """
        self._meter.begin("check", f"version {manifest.version}: checking the golden set")
        clear_unless_file(self._folder / CHECKS)
        begun = Starts.load(self._folder, variant.manifest, CHECKS)
        if begun.exhausted:
            self._refuse(entry, variant, f"{begun.count} checks of its golden set in a row did not end")
        replace(begun, count=begun.count + 1).save(self._folder, CHECKS)
        try:
            self._judgement = self._judged(folder, manifest, entry, variant)
        finally:
            (self._folder / CHECKS).unlink(missing_ok=True)
        if not self._judgement.ok:
            self._refuse(entry, variant, self._judgement.reason)

    def _judged(self, folder: Path, manifest: Manifest, entry: Entry, variant: Variant) -> Judgement:
        from coremlops import golden

        try:
            self._models.check_digest(folder, manifest)
            return golden.check(folder / manifest.payload, folder / "golden")
        except UsageError:
            raise  # Something is not installed here: no verdict on the model.
        except CoremlopsError as error:
            self._refuse(entry, variant, error.message)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # An engine that fails on a model must not take the device with it.
            self._refuse(entry, variant, f"the model cannot be executed: {type(error).__name__}: {error}")

    def _refuse(self, entry: Entry, variant: Variant, reason: str) -> NoReturn:
        self._tidy(self._state)
        reason = short(reason)
        refused = Refused(entry.version, variant.manifest, reason, coremlops.__version__)
        raise Judged(self._state.refusing(refused), entry, variant, reason, self._judgement)

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
