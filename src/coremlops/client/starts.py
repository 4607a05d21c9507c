"""Starts of a model that nobody confirmed: `starts-NAME.json`, apart from the state.

An app counts each start before it loads a model and confirms it when the model has answered. What crashes
in between leaves the count, so a model that takes the app down is known by it at the next start, without a
network. The file is about one manifest: for another one the count begins anew. `checks-NAME.json` counts the
same way how often a golden set was begun and not ended.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import coremlops
from coremlops.client import reports
from coremlops.client.models import Models
from coremlops.client.slot import Refused, Slot
from coremlops.client.state import Check, State, short
from coremlops.collection import Profile, document
from coremlops.errors import CoremlopsError, RepositoryError
from coremlops.files import exclusive_lock, read_regular, write_atomic

MOST = 3  # starts in a row that nobody confirmed, before the device returns to the model before
MAX_BYTES = 10_000
WAIT_S = 2.0


def starts_file(folder: Path, name: str) -> Path:
    """Where the starts of a model are counted."""
    return folder / f"starts-{name}.json"


def checks_file(folder: Path, name: str) -> Path:
    """Where the checks of its golden set are."""
    return folder / f"checks-{name}.json"


@dataclass(frozen=True, slots=True)
class Starts:
    """`manifest`: of the active version; `count`: its starts in a row that were not confirmed; `reason`: why
    the last of them failed, if it was said."""

    manifest: str
    count: int = 0
    reason: str = ""

    @staticmethod
    def load(path: Path, manifest: str) -> Starts:
        """What is known of this manifest; nothing, when the file is of another, damaged or not there."""
        try:
            fields = document.Fields(
                document.read(read_regular(path, MAX_BYTES + 1), path.name, most_bytes=MAX_BYTES),
                path.name,
                ("format", "manifest", "count", "reason"),
            )
            fields.format()
            found = Starts(
                fields.sha256("manifest"),
                fields.integer("count", 0, document.MAX_VERSION),
                fields.text("reason"),
            )
        except (OSError, RepositoryError):
            return Starts(manifest)
        return found if found.manifest == manifest else Starts(manifest)

    def save(self, path: Path) -> None:
        """Replace the file: on the disk when this returns, since the next thing may be a crash."""
        value = {"format": 0, "manifest": self.manifest, "count": self.count, "reason": short(self.reason)}
        write_atomic(path, document.write(value))

    @property
    def exhausted(self) -> bool:
        """Whether the model had its chances."""
        return self.count >= MOST

    def words(self) -> str:
        """Why the device returns from it."""
        return f"{self.count} starts in a row were not confirmed" + (
            f": {self.reason}" if self.reason else ""
        )


@dataclass(frozen=True, slots=True)
class Running:
    """What an app is to load. `path`: the model, None for the app's own; `version` is None then. `returned`:
    why the device went back to it just now, empty when it did not."""

    path: Path | None
    version: int | None = None
    returned: str = ""


def forgive(folder: Path, slot: Slot) -> None:
    """Take the last start back: it says nothing about the model."""
    if slot.active is not None:
        path = starts_file(folder, slot.name)
        starts = Starts.load(path, slot.active.manifest)
        with contextlib.suppress(OSError):
            replace(starts, count=max(0, starts.count - 1)).save(path)


def start(folder: Path, models: Models, slot: Slot, profile: Profile) -> Running:
    """Count a start of the active model, or return to the one before; see `Device.start`."""
    path = starts_file(folder, slot.name)
    carried = profile.carries(slot.name)
    returned: list[str] = []
    written = True
    while (active := slot.active) is not None and not slot.embedded:
        if carried > active.version and not active.hold:
            break
        starts, model = Starts.load(path, active.manifest), models.model(active.model)
        if model is not None and not starts.exhausted:
            if written:  # else the count of the version before is what the next start returns by
                with contextlib.suppress(OSError):  # a full disk must not keep an app from its model
                    replace(starts, count=starts.count + 1).save(path)
            return Running(model, active.version, "; ".join(returned))
        # Files that are gone or damaged are no fault of the version: it may be fetched again.
        whole = models.intact(active.model)
        guilty = starts.exhausted and whole
        why = "its files are gone" if model is None else starts.words()
        why += "" if whole or model is None else "; its files are damaged"
        to = slot
        if guilty:
            to = to.refusing(Refused(active.version, active.manifest, short(why), coremlops.__version__))
        to = to.returning(carried=carried > 0)
        why = f"version {active.version}: {why}"
        found = _return(folder, slot, to, why, profile if guilty else None) if written else None
        if found is None:
            written = False
        elif found != to:  # an update was faster: what it brought is what counts
            slot = found
            continue
        returned.append(why)
        slot = to
    return Running(None, None, "; ".join(returned))


def _return(folder: Path, left: Slot, to: Slot, why: str, guilty: Profile | None) -> Slot | None:
    """Remember a return, and let it wait to be reported where the version is `guilty`; what is here of the
    model then, which is another slot where an update has changed it meanwhile.

    None where an update holds the lock or the disk takes nothing: the next start does the same again.
    """
    file = folder / "state.json"
    with contextlib.suppress(OSError, CoremlopsError), exclusive_lock(folder / "lock", wait_s=WAIT_S):
        state = State.load(file)  # an update may have changed another model meanwhile
        if (found := state.find(to.name)) != left:
            return found
        now = datetime.now(UTC).replace(microsecond=0)
        why = f"{to.name}: {why}" if len(state.models) > 1 else why
        state = replace(state.having(to), last=Check(now, "returned", short(why)))
        state.save(file)
        if guilty is not None and left.active is not None:
            reports.after_return(folder, state.collection, to.name, left.active, guilty)
        return to
    return None
