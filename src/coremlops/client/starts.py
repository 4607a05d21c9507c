"""Starts of the active model that nobody confirmed: `starts.json`, apart from the state.

An app counts each start before it loads the model and confirms it when the model has answered. What crashes
in between leaves the count, so a model that takes the app down is known by it at the next start, without a
network. The file is about one manifest: for another one the count begins anew. `checks.json` counts the same
way how often a golden set was begun and not ended.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import coremlops
from coremlops.client import reports
from coremlops.client.models import Models
from coremlops.client.state import Check, Refused, State, short
from coremlops.collection import Profile, document
from coremlops.errors import RepositoryError
from coremlops.files import exclusive_lock, write_atomic

MOST = 3  # starts in a row that nobody confirmed, before the device returns to the model before
MAX_BYTES = 10_000
WAIT_S = 2.0
STARTS, CHECKS = "starts.json", "checks.json"


@dataclass(frozen=True, slots=True)
class Starts:
    """`manifest`: of the active version; `count`: its starts in a row that were not confirmed; `reason`: why
    the last of them failed, if it was said."""

    manifest: str
    count: int = 0
    reason: str = ""

    @staticmethod
    def load(folder: Path, manifest: str, name: str = STARTS) -> Starts:
        """What is known of this manifest; nothing, when the file is of another, damaged or not there."""
        try:
            with (folder / name).open("rb") as file:
                data = file.read(MAX_BYTES + 1)
            fields = document.Fields(
                document.read(data, name, most_bytes=MAX_BYTES),
                name,
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

    def save(self, folder: Path, name: str = STARTS) -> None:
        """Replace the file: on the disk when this returns, since the next thing may be a crash."""
        value = {"format": 0, "manifest": self.manifest, "count": self.count, "reason": short(self.reason)}
        write_atomic(folder / name, document.write(value))

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


def forgive(folder: Path) -> None:
    """Take the last start back: it says nothing about the model."""
    active = State.load(folder / "state.json").active
    if active is not None:
        starts = Starts.load(folder, active.manifest)
        with contextlib.suppress(OSError):
            replace(starts, count=max(0, starts.count - 1)).save(folder)


def start(folder: Path, models: Models, state: State, profile: Profile) -> Running:
    """Count a start of the active model, or return to the one before; see `Device.start`."""
    returned: list[str] = []
    written = True
    while state.active is not None and not state.embedded:
        active = state.active
        if profile.embedded_version > active.version and not active.hold:
            break
        starts, path = Starts.load(folder, active.manifest), models.model(active.model)
        if path is not None and not starts.exhausted:
            if written:  # else the count of the version before is what the next start returns by
                with contextlib.suppress(OSError):  # a full disk must not keep an app from its model
                    replace(starts, count=starts.count + 1).save(folder)
            return Running(path, active.version, "; ".join(returned))
        # Files that are gone or damaged are no fault of the version: it may be fetched again.
        whole = models.intact(active.model)
        guilty = starts.exhausted and whole
        why = "its files are gone" if path is None else starts.words()
        why += "" if whole or path is None else "; its files are damaged"
        returned.append(f"version {active.version}: {why}")
        if guilty:
            state = state.refusing(
                Refused(active.version, active.manifest, short(why), coremlops.__version__)
            )
        now = datetime.now(UTC).replace(microsecond=0)
        state = replace(
            state.returning(carried=profile.embedded_version > 0),
            last=Check(now, "returned", short(returned[-1])),
        )
        written = False
        # Where an update holds the lock, or the disk takes nothing, the next start does the same again.
        with contextlib.suppress(OSError), exclusive_lock(folder / "lock", wait_s=WAIT_S):
            state.save(folder / "state.json")
            written = True
            if guilty:
                reports.after_return(folder, state, active, profile)
    return Running(None, None, "; ".join(returned))
