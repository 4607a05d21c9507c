"""A share of all devices, that each device works out for itself.

    bucket = the first 8 bytes of SHA-256("coremlops bucket v0\\n" + salt + "\\n" + install id), big endian
    admitted when bucket * 10000 // 2**64 < basis points

Raising the share adds devices and takes none away; another salt draws others.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from coremlops.collection import document
from coremlops.errors import RepositoryError

ALL = 10_000
_HEX = re.compile(r"[0-9a-f]{32}")


def bucket(salt: str, install_id: str) -> int:
    """Where a device stands, 0 to 9999. Both are 32 lower-case hex digits."""
    data = f"coremlops bucket v0\n{salt}\n{install_id}".encode("ascii")
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") * ALL >> 64


@dataclass(frozen=True, slots=True)
class Rollout:
    """`basis_points`: of all devices, 0 to 10000; `salt`: 32 hex digits, one for each version."""

    basis_points: int
    salt: str

    def why_not(self, install_id: str) -> str | None:
        """Why the device is not among them, in words; None when it is."""
        if self.basis_points >= ALL:
            return None
        if not install_id:
            return f"for {self.percent} of all devices, and this one has no install ID"
        place = bucket(self.salt, install_id)
        if place < self.basis_points:
            return None
        return f"for {self.percent} of all devices; this one stands at {place / 100:.2f} %"

    @property
    def percent(self) -> str:
        return f"{self.basis_points / 100:g} %"

    def to_json(self) -> dict[str, object]:
        return {"basis_points": self.basis_points, "salt": self.salt}

    @staticmethod
    def from_json(value: object, what: str) -> Rollout:
        """Read a rollout; `what` names it in messages. Raises `RepositoryError`."""
        fields = document.Fields(value, what, ("basis_points", "salt"))
        if not _HEX.fullmatch(fields.text("salt")):
            fields.refuse("salt", "32 lower-case hex digits")
        return Rollout(fields.integer("basis_points", 0, ALL), fields.text("salt"))


def basis_points(percent: str) -> int:
    """`12.5` or `12.5%` as basis points. Raises `RepositoryError` for what is no share of 100 in
    hundredths."""
    match = re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]{1,2}))?\s*%?", percent.strip())
    found = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0")) if match else -1
    if not 0 <= found <= ALL:
        raise RepositoryError(f"a percentage from 0 to 100, in hundredths, expected, got {percent!r:.40}")
    return found
