"""What a promotion asks of the reports: `golden:devices=3,classes=2`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from coremlops.collection import Entry
from coremlops.digest import sha256_bytes
from coremlops.errors import GateError, UsageError
from coremlops.telemetry.report import PROOFS, Report

MAX_NUMBER = 1_000_000
_EXAMPLE = "golden:devices=3,classes=2"


@dataclass(frozen=True, slots=True)
class Requirement:
    """At least `devices` enrolled devices of `classes` kinds passed the golden set, and at most
    `failures` failed it.

    `proof`: the weakest that counts as a pass, `device` being the strongest; a failure counts whatever it
    rests on. Each device has one report a version, its last one.
    """

    devices: int
    classes: int = 1
    failures: int = 0
    proof: str = "device"

    @staticmethod
    def parse(text: str) -> Requirement:
        """Read `golden:devices=N[,classes=N][,failures=N][,proof=WORD]`. Raises `UsageError`.

        >>> Requirement.parse("golden:devices=3,classes=2").classes
        2
        """
        kind, _, rest = text.partition(":")
        pairs = [item.partition("=") for item in rest.split(",")]
        values = {name: value for name, _, value in pairs}
        if kind != "golden" or "devices" not in values or len(values) != len(pairs):
            raise UsageError(f"--require: expected such as {_EXAMPLE}, got {text!r:.80}")
        lowest = {"devices": 1, "classes": 1, "failures": 0}
        unknown = [name for name in values if name not in (*lowest, "proof")]
        if unknown:
            raise UsageError(
                f"--require: no {unknown[0]!r:.40}; it knows devices, classes, failures and proof"
            )
        proof = values.pop("proof", "device")
        if proof not in PROOFS:
            raise UsageError(f"--require: proof is one of {', '.join(PROOFS)}, got {proof!r:.40}")
        return Requirement(proof=proof, **{name: _whole(name, values[name], lowest[name]) for name in values})

    def __str__(self) -> str:
        return (
            f"golden:devices={self.devices},classes={self.classes},failures={self.failures},"
            f"proof={self.proof}"
        )

    def judge(self, name: str, entry: Entry, reports: Iterable[Report]) -> dict[str, Any]:
        """What the reports of a version of the model `name` say, as the audit log keeps it. `reports`: one a
        device.

        Those of another model, version or manifest are not counted. Raises `GateError` with what is missing.
        """
        named = {(name, entry.version, each.manifest, each.model) for each in entry.variants}
        about = [each for each in reports if (each.name, each.version, each.manifest, each.model) in named]
        strong = PROOFS[PROOFS.index(self.proof) :]
        passed = [each for each in about if each.ok and each.proof in strong]
        failed = [each for each in about if not each.ok]
        weak = len(about) - len(passed) - len(failed)
        # A chip that nobody knows may be any of those that are known.
        known = {each.device_class for each in passed if each.chip}
        kinds = sorted(
            {each.kind_of_device for each in passed if each.chip or each.device_class not in known}
        )
        missing = []
        if len(passed) < self.devices:
            but = f" ({weak} more passed, with a proof below {self.proof})" if weak else ""
            missing.append(f"{self.devices} devices that passed expected, got {len(passed)}{but}")
        if len(kinds) < self.classes:
            got = f"{len(kinds)} ({', '.join(kinds)})" if kinds else "none"
            missing.append(f"{self.classes} kinds of devices expected, got {got}")
        if len(failed) > self.failures:
            whys = ", ".join(f"{why} {n}" for why, n in sorted(Counter(x.failure for x in failed).items()))
            missing.append(f"at most {self.failures} failed devices expected, got {len(failed)} ({whys})")
        if missing:
            raise GateError(
                f"version {entry.version} does not have what {self} asks: {'; '.join(missing)}",
                tuple(missing),
                hint="coremlops release reports shows what came; enrolled devices alone count",
            )
        lines = sorted(sha256_bytes(each.to_bytes()) for each in (*passed, *failed))
        return {
            "require": str(self),
            "devices": len(passed),
            "classes": kinds,
            "failures": len(failed),
            "proofs": dict(sorted(Counter(each.proof for each in passed).items())),
            "reports": sha256_bytes("\n".join(lines).encode()),
        }


def _whole(name: str, text: str, low: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 8 and low <= int(text) <= MAX_NUMBER):
        raise UsageError(f"--require: {name} is a whole number of {low} or more, got {text!r:.40}")
    return int(text)
