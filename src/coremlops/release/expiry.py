"""How long each role's metadata is good for, and when it is due for renewal."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from coremlops.collection import document
from coremlops.errors import RepositoryError

AHEAD = timedelta(days=400)  # more than the longest life that is signed
BEHIND = timedelta(minutes=5)  # clocks of two machines

_BIN = re.compile(r"-members[0-9]+-[0-9a-f]+\Z")
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The time, as metadata wants it: UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


@dataclass(frozen=True, slots=True)
class Expiry:
    """Lifetimes in days.

    Offline keys sign for a year, and so does the release key, since a person holds it. What the publishing
    machine signs lives 90 days, except for snapshot and timestamp: 30 and 7 days, for they bound how long a
    device can be shown an old repository as new.
    """

    root_days: int = 365
    targets_days: int = 365
    release_days: int = 365
    halt_days: int = 90
    staging_days: int = 90
    members_days: int = 90
    snapshot_days: int = 30
    timestamp_days: int = 7

    def lifetime(self, role: str) -> timedelta:
        """The lifetime of a role, a collection's own roles and their bins included."""
        role = without_bin(role)
        for kind in ("release", "halt", "staging", "members"):
            if role.endswith(f"-{kind}"):
                role = kind
        days = {
            "root": self.root_days,
            "targets": self.targets_days,
            "release": self.release_days,
            "halt": self.halt_days,
            "staging": self.staging_days,
            "members": self.members_days,
            "snapshot": self.snapshot_days,
            "timestamp": self.timestamp_days,
        }
        return timedelta(days=days[role])


def without_bin(role: str) -> str:
    """The role that a hash bin belongs to; another role as it is."""
    return _BIN.sub("-members", role)


def due_before(lifetime: timedelta) -> timedelta:
    """How long before its end a role should be renewed: a third of its life, at most 30 days."""
    return min(lifetime / 3, timedelta(days=30))


def check_clock(now: datetime, signed: datetime | None, end: datetime, *, trusted: bool) -> None:
    """Raise `RepositoryError` for a clock that cannot be right.

    `signed`: when the last change was signed, if that is known. `end`: of the timestamp. `trusted`: somebody
    looked at the clock.
    """
    if trusted:
        return
    known = signed or end
    if known - now > (BEHIND if signed else AHEAD):
        what = "behind: the last change was signed at" if signed else "behind: the timestamp lives until"
    elif now - known > AHEAD:
        what = "far ahead, or nothing was signed for long: the last change is of"
    else:
        return
    raise RepositoryError(
        f"this machine's clock says {document.time_text(now)}, it is {what} {document.time_text(known)}",
        hint="set the clock; if it is right: coremlops repo renew --clock-checked",
    )
