"""How an update ended, and what one would do: of each model, and of all of them together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuf.api.exceptions import DownloadError, DownloadLengthMismatchError
from tuf.api.exceptions import RepositoryError as TufError

from coremlops.client.slot import Installed, Slot
from coremlops.client.stopping import CancelledError
from coremlops.client.trust import words
from coremlops.errors import CoremlopsError, RepositoryError, UpdateError

if TYPE_CHECKING:
    from coremlops.golden import Judgement

# Of several models the update ended as the first of these that one of them did.
ENDS = ("offline", "cancelled", "refused", "updated", "embedded", "kept", "current", "empty")
PLANS = ("offline", "refused", "get", "embedded", "kept", "current", "empty")
FAILURES = (CancelledError, DownloadError, TufError, UpdateError, RepositoryError, MemoryError, OSError)


def ended(error: BaseException) -> tuple[str, str]:
    """The outcome and the reason of one of `FAILURES`."""
    if isinstance(error, CancelledError):
        return "cancelled", "cancelled; what has come is kept"
    if isinstance(error, DownloadError):
        return "refused" if isinstance(error, DownloadLengthMismatchError) else "offline", words(error)
    if isinstance(error, TufError):
        return "refused", words(error)
    if isinstance(error, CoremlopsError):
        return "refused", error.message
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return "refused", f"the disk: {name}{error.strerror or error}"
    return "refused", "not enough memory to check the model"


class Ended:
    """What an outcome means, of one model as of all together."""

    __slots__ = ()
    outcome: str
    reason: str

    @property
    def refused(self) -> str | None:
        """Why the offer was refused; None when it was not."""
        return self.reason if self.outcome == "refused" else None

    @property
    def ok(self) -> bool:
        """Whether the device has what its channel names."""
        return self.outcome not in ("refused", "offline", "cancelled")


@dataclass(frozen=True, slots=True)
class ModelResult(Ended):
    """How the update of one model ended, and what is active of it now.

    `outcome`: "updated", "current" (nothing newer), "empty" (the channel has no version yet), "kept" (none of
    its versions is for this device), "embedded" (it is sent to the app's own model), "refused", "offline" or
    "cancelled".
    `offered`: the version that was chosen, if one was. `reason`: why it was refused or could not be reached,
    or why no version is for this device; empty otherwise. `received_bytes`: of members, over the wire.
    `judgement`: what executing the golden set found; None when none was executed. `judged`: what was looked
    at and taken or refused for good; None when nothing was. `left`: the refused one ran until now.
    """

    name: str
    outcome: str
    version: int | None
    digest: str | None
    offered: int | None = None
    reason: str = ""
    received_bytes: int = 0
    judgement: Judgement | None = None
    judged: Installed | None = None
    left: bool = False

    @staticmethod
    def of(
        slot: Slot,
        outcome: str,
        reason: str = "",
        *,
        offered: int | None = None,
        received_bytes: int = 0,
        judgement: Judgement | None = None,
        judged: Installed | None = None,
        left: bool = False,
    ) -> ModelResult:
        """How it ended with what this slot has now."""
        version = None if slot.active is None else slot.active.version
        digest = None if slot.active is None else slot.active.model
        return ModelResult(
            slot.name, outcome, version, digest, offered, reason, received_bytes, judgement, judged, left
        )

    @property
    def changed(self) -> bool:
        """Whether another version is active now."""
        return self.outcome == "updated" or self.left


@dataclass(frozen=True, slots=True)
class UpdateResult(Ended):
    """How an update ended. `models`: of each model that it was about, by name.

    `outcome`: of the models' outcomes the worst: offline, cancelled, refused, then updated, embedded, kept,
    current, empty. `reason`: each reason, with its model's name where there are several. `version`, `digest`,
    `offered`, `judgement` and `judged` are those of the only model, None where there are several.
    """

    outcome: str
    reason: str = ""
    models: tuple[ModelResult, ...] = ()
    received_bytes: int = 0

    @staticmethod
    def together(models: Iterable[ModelResult]) -> UpdateResult:
        """Of all of them together; "empty" where there is none."""
        found = tuple(sorted(models, key=lambda each: each.name))
        outcome = min((each.outcome for each in found), key=ENDS.index, default="empty")
        received = sum(each.received_bytes for each in found)
        return UpdateResult(outcome, _reasons((each.name, each.reason) for each in found), found, received)

    def of(self, name: str) -> ModelResult:
        """How it ended for one model. Raises `UpdateError` for one that the update was not about."""
        for each in self.models:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.models) or "no model"
        raise UpdateError(f"the update was not about {name!r:.80}: it was about {known}")

    @property
    def version(self) -> int | None:
        return self.models[0].version if len(self.models) == 1 else None

    @property
    def digest(self) -> str | None:
        return self.models[0].digest if len(self.models) == 1 else None

    @property
    def offered(self) -> int | None:
        return self.models[0].offered if len(self.models) == 1 else None

    @property
    def judgement(self) -> Judgement | None:
        return self.models[0].judgement if len(self.models) == 1 else None

    @property
    def judged(self) -> Installed | None:
        return self.models[0].judged if len(self.models) == 1 else None

    @property
    def changed(self) -> bool:
        """Whether another version of some model is active now."""
        return any(each.changed for each in self.models)


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What an update would do with one model. `outcome`: as an update's, "get" where it would fetch `version`
    and `variant`, "offline" where its manifest could not be had.

    `total`: bytes of all its files; `missing`: of those that are not here, and that no model before it in the
    same update fetches. `reason`: why each newer version is not for this device, and which it is.
    """

    name: str
    outcome: str
    version: int | None = None
    variant: str | None = None
    total: int = 0
    missing: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What an update would do. `models`: with each model, by name; `version`, `variant` of the only one, None
    where there are several; `total` and `missing`: bytes of all of them."""

    models: tuple[ModelPlan, ...] = ()

    @property
    def outcome(self) -> str:
        """The first that one of them has: offline, refused, get, embedded, kept, current, empty."""
        return min((each.outcome for each in self.models), key=PLANS.index, default="empty")

    @property
    def version(self) -> int | None:
        return self.models[0].version if len(self.models) == 1 else None

    @property
    def variant(self) -> str | None:
        return self.models[0].variant if len(self.models) == 1 else None

    @property
    def total(self) -> int:
        return sum(each.total for each in self.models)

    @property
    def missing(self) -> int:
        return sum(each.missing for each in self.models)

    @property
    def reason(self) -> str:
        """Each reason, with its model's name where there are several."""
        return _reasons((each.name, each.reason) for each in self.models)


def _reasons(found: Iterable[tuple[str, str]]) -> str:
    """The reasons in one line; one that holds for all stands alone."""
    every = list(found)
    if len({reason for _, reason in every}) == 1:
        return every[0][1]
    return "; ".join(f"{name}: {reason}" for name, reason in every if reason)
