"""One look at a channel: of each model from signed metadata to an activated version, or a reason why not.

What goes wrong with one model is that model's result: the others are taken all the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import coremlops
from coremlops.client.download import Downloads
from coremlops.client.models import Models
from coremlops.client.progress import Meter
from coremlops.client.results import FAILURES, ModelPlan, ModelResult, Plan, UpdateResult, ended
from coremlops.client.slot import Refused
from coremlops.client.state import State
from coremlops.client.stopping import CancelledError, Stoppable
from coremlops.client.trust import Trusted
from coremlops.client.version import Judged, Place, Version
from coremlops.client.web import Web
from coremlops.collection import EMBEDDED, GET, MAX_MANIFEST_BYTES, Choice, Manifest, Profile, Variant, choose
from coremlops.digest import sha256_bytes
from coremlops.errors import RepositoryError, UpdateError, UsageError
from coremlops.files import make_folder


class Offer:
    """One look at the channel, each step ready to stop. `state`: as it is now; on the disk after each
    activation. `names`: these models alone; None for all."""

    def __init__(
        self,
        folder: Path,
        web: Web | Stoppable,
        state: State,
        profile: Callable[[], Profile],
        now: datetime,
        meter: Meter,
        names: Collection[str] | None = None,
    ) -> None:
        self.state = state
        self._folder = folder
        self._web = web
        self._profile = profile
        self._system = ""
        self._running = {slot.active.model for slot in state.models if slot.active is not None}
        self._now = now
        self._meter = meter
        self._names = sorted(set(state.names if names is None else names))
        self._every = names is None
        self._models = Models(folder / "models")
        self._downloads = Downloads(folder / "downloads", web, meter)
        self._choices: dict[str, Choice] = {}
        self._offered: tuple[str, ...] = ()
        self._versions: dict[str, Version] = {}
        self._results: dict[str, ModelResult] = {}

    def take(self) -> UpdateResult:
        """Everything, in order; state.json is replaced as the last step of each activation."""
        try:
            place = self._look()
            plans = []
            for name in self._names:
                with self._settling(name):
                    plans.append(plan := self._plan(place, name))
                    if plan.outcome != "get":
                        self._settle(plan)
            if self._versions:
                total = sum(plan.total for plan in plans if plan.outcome == "get")
                self._meter.expect(total, total - sum(plan.missing for plan in plans))
            for name, version in self._versions.items():
                with self._settling(name):
                    self._activate(name, version)
        except FAILURES as error:
            outcome, reason = ended(error)
            for name in self._names:
                self._results.setdefault(name, ModelResult.of(self.state.find(name), outcome, reason))
            if not self._names:
                return UpdateResult(outcome, reason)
        self._tidy()
        return UpdateResult.together(self._results.values())

    def plan(self) -> Plan:
        """What `take` would do; of the members only the manifests are fetched. Raises as `Trusted`."""
        place = self._look()
        plans = []
        for name in self._names:
            try:
                plan = self._plan(place, name)
                choice = self._choices.get(name)
                if plan.outcome == "get" and not plan.missing and choice and choice.variant:
                    same = self._has(name, choice.variant)  # to be checked on another system
                    plan = replace(plan, outcome="current") if same else plan
                plans.append(plan)
            except Judged as judged:
                plans.append(ModelPlan(name, "refused", judged.judged.version, reason=judged.reason))
            except FAILURES as error:
                outcome, reason = ended(error)
                plans.append(ModelPlan(name, outcome, reason=reason))
        return Plan(tuple(plans))

    def _look(self) -> Place:
        """Refresh, and choose for each model that has a version on offer."""
        state = self.state
        for name in ("metadata", "downloads", "models"):
            make_folder(self._folder / name)
        profile = self._profile()
        self._system = f"{profile.os} {profile.os_version}".strip()
        self._meter.begin("metadata", "looking for an update")
        trusted = Trusted.refresh(self._folder, state.url, self._web)
        index = trusted.index(state.collection, state.channel)
        self._offered = index.names
        if self._every:
            self._names = sorted({*index.names, *state.names})
        self.state = state.knowing((name for name in self._names if name in index.names), index.names)
        lines = [line for line in index.lines if line.offers]
        if lines:
            halts = trusted.halts(state.collection, state.channel)
        for line in lines:
            slot = state.find(line.name)
            self._choices[line.name] = choose(
                line,
                halts,
                profile,
                self._now,
                active=slot.active.manifest if slot.active is not None else None,
                refused=slot.refusals(coremlops.__version__),
            )
        return Place(self._folder, state.collection, trusted, self._models, self._downloads, self._meter)

    def _plan(self, place: Place, name: str) -> ModelPlan:
        """What is to be done with this model; a version that is to be fetched is ready then."""
        choice = self._choices.get(name)
        if choice is None:
            if self._offered and name not in (*self._offered, *self.state.names):
                raise UpdateError(
                    f"{place.collection}/{self.state.channel} has no model {name!r};"
                    f" it has {', '.join(self._offered)}"
                )
            return ModelPlan(name, "empty")
        entry, variant = choice.entry, choice.variant
        if choice.use != GET or entry is None or variant is None:
            outcome = "embedded" if choice.use == EMBEDDED else "refused" if entry else "kept"
            return ModelPlan(name, outcome, entry.version if entry else None, reason=choice.words())
        if self._is_active(name, variant):
            return ModelPlan(
                name, "current", entry.version, variant.name, variant.length, reason=choice.words()
            )
        said = name if len(self._names) > 1 else ""
        version = Version.look(place, name, said, entry, variant)
        coming = {each.sha256 for other in self._versions.values() for each in other.manifest.members}
        missing = self._downloads.missing_bytes(version.missing(coming))
        self._versions[name] = version
        return ModelPlan(name, "get", entry.version, variant.name, version.total, missing, choice.words())

    def _settle(self, plan: ModelPlan) -> None:
        """A model of which nothing is to be fetched."""
        slot = self.state.find(plan.name)
        if plan.outcome == "embedded" and not slot.embedded:
            slot = replace(slot, embedded=True)
            self._save(self.state.having(slot))
        reason = "" if plan.outcome == "current" else plan.reason
        self._results[plan.name] = ModelResult.of(slot, plan.outcome, reason, offered=plan.version)

    def _has(self, name: str, variant: Variant) -> bool:
        """Whether the device runs this very variant, and has it whole."""
        slot = self.state.find(name)
        same = slot.active is not None and variant.manifest == slot.active.manifest
        return same and not slot.embedded and self._models.complete(variant.model)

    def _is_active(self, name: str, variant: Variant) -> bool:
        """Whether it also kept its golden set on the system that the device has now."""
        active = self.state.find(name).active
        return self._has(name, variant) and active is not None and active.system == self._system

    def _activate(self, name: str, version: Version) -> None:
        outcome = "current" if self._has(name, version.variant) else "updated"  # on another system
        received = version.received + version.fetch()
        running = {slot.active.model for slot in self.state.models if slot.active is not None}
        judgement = version.put(running)
        if isinstance(self._web, Stoppable):
            self._web.check()
        version.begin_activation()
        installed = replace(version.installed, system=self._system)
        slot = self.state.find(name).activating(installed)
        self._save(self.state.having(slot))
        self._results[name] = ModelResult.of(
            slot,
            outcome,
            offered=installed.version,
            received_bytes=received,
            judgement=judgement,
            judged=installed,
        )

    @contextlib.contextmanager
    def _settling(self, name: str) -> Iterator[None]:
        """What goes wrong inside is the end of this model's update alone; a stop is the end of all.

        What is not installed here says nothing of the model: it is looked at again the next time. Raises
        `UsageError` for it where there is no other model.
        """
        try:
            yield
        except UsageError as error:
            if len(self._names) == 1:
                raise
            self._results[name] = ModelResult.of(self.state.find(name), "refused", error.message)
        except Judged as judged:
            self._results[name] = self._refused(name, judged)
        except CancelledError:
            raise
        except FAILURES as error:
            self._results[name] = ModelResult.of(self.state.find(name), *ended(error))

    def _refused(self, name: str, judged: Judged) -> ModelResult:
        """Remember a refusal at once: the next model's check may take the process down.

        What runs and keeps its golden set no more (after an update of the system, say) is left, for the
        version before or the model that the app carries; where there is neither, it stays.
        """
        of = judged.judged
        refused = Refused(of.version, of.manifest, judged.reason, coremlops.__version__)
        slot = self.state.find(name).refusing(refused)
        carried, left = self._profile().carries(name) > 0, False
        if slot.active is not None and slot.active.manifest == of.manifest and (slot.previous or carried):
            slot, left = slot.returning(carried=carried), not slot.embedded
        self.state = self.state.having(slot)
        with contextlib.suppress(OSError):  # a full disk must not hide why
            self._save(self.state)
        return ModelResult.of(
            slot,
            "refused",
            judged.reason,
            offered=of.version,
            judgement=judged.judgement,
            judged=of,
            left=left,
        )

    def _save(self, state: State) -> None:
        state.save(self._folder / "state.json")
        self.state = state

    def _tidy(self) -> None:
        """Of each model the active and the previous version stay, what ran until now, since an app may have
        it open, and what one that is still to come needs.

        Failing to tidy up is no failure; what was not looked at is not touched.
        """
        if not self._choices:
            return
        models = {digest for slot in self.state.models for digest in slot.digests} | self._running
        parts: set[str] = set()
        known = True
        for name, choice in self._choices.items():
            variant, refused = choice.variant, self.state.find(name).refusals(coremlops.__version__)
            if choice.use != GET or variant is None or variant.manifest in refused:
                continue
            if not self._is_active(name, variant):
                models.add(variant.model)
                members = self._members(variant)
                known = known and (members is not None or name not in self._names)
                parts |= {variant.manifest, *(members or ())}
        with contextlib.suppress(OSError):
            self._models.keep_only(models)
            if not known:  # a manifest is still to come, and files of it may be here from another version
                done = {each.sha256 for other in self._versions.values() for each in other.manifest.members}
                parts |= self._downloads.begun() - done
            self._downloads.keep_only(parts)

    def _members(self, variant: Variant) -> set[str] | None:
        """The files of a version; None where its manifest has not come."""
        with contextlib.suppress(OSError, RepositoryError):
            data = self._downloads.read(variant.manifest, MAX_MANIFEST_BYTES)
            if sha256_bytes(data) != variant.manifest:
                return None
            return {member.sha256 for member in Manifest.from_bytes(data).members}
        return set()
