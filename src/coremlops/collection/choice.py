"""What a device gets of a model in a channel: one function, the same for the device and for whoever asks why.

The newest version on offer wins that has started, is not halted, whose rule and rollout take the device in,
and of which a variant fits; of its variants, the first that fits. A version that says "embedded", and a newer
model that the app carries unless the version holds, send the device to the app's own model. When no version
is left, the device keeps what it has. A halted version stays where it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from coremlops.collection import document
from coremlops.collection.entry import Entry, Variant
from coremlops.collection.index import Halts, Line
from coremlops.collection.rules import Profile

GET, EMBEDDED, KEEP = "get", "embedded", "keep"


@dataclass(frozen=True, slots=True)
class Choice:
    """`use`: "get" the variant, use the "embedded" model, or "keep" what is there.

    `entry` and `variant` are None where there is none. `reasons`: (version, why it is not it), newest first,
    and last the version that it is, with why.
    """

    use: str
    entry: Entry | None = None
    variant: Variant | None = None
    reasons: tuple[tuple[int, str], ...] = ()

    def words(self) -> str:
        """The reasons in one line."""
        return "; ".join(f"version {version}: {reason}" for version, reason in self.reasons)


def choose(
    line: Line,
    halts: Halts,
    profile: Profile,
    now: datetime,
    *,
    active: str | None = None,
    refused: Mapping[str, str] | None = None,
) -> Choice:
    """Judge what a channel offers of a model for a device.

    `active`: the SHA-256 of the manifest that it runs. `refused`: reasons by manifest, of variants that the
    device looked at and found wanting: it looks no further than their version, and keeps what it has.
    """
    reasons: list[tuple[int, str]] = []
    carried = profile.carries(line.name)
    for entry in line.offers:
        why = _why_not(line, entry, halts, profile, now, active)
        if why is not None:
            reasons.append((entry.version, why))
            continue
        if entry.embedded:
            reasons.append((entry.version, "says: use the model that the app carries"))
            return Choice(EMBEDDED, entry, None, tuple(reasons))
        if carried > entry.version and not entry.hold:
            newer = f"the app carries version {carried}, which is newer"
            reasons.append((entry.version, newer))
            return Choice(EMBEDDED, entry, None, tuple(reasons))
        misfits = []
        for variant in entry.variants:
            why = _misfit(variant, profile)
            if why is not None:
                misfits.append(f"{variant.name}: {why}")
                continue
            if refused is not None and variant.manifest in refused:
                reasons.append((entry.version, f"refused before: {refused[variant.manifest]}"))
                return Choice(KEEP, entry, variant, tuple(reasons))
            reasons.append((entry.version, "; ".join([*misfits, f"variant {variant.name}"])))
            return Choice(GET, entry, variant, tuple(reasons))
        reasons.append((entry.version, f"no variant fits: {'; '.join(misfits)}"))
    return Choice(KEEP, None, None, tuple(reasons))


def _why_not(
    line: Line, entry: Entry, halts: Halts, profile: Profile, now: datetime, active: str | None
) -> str | None:
    if entry.start is not None and now < entry.start:
        return f"starts at {document.time_text(entry.start)}"
    if halts.halted(line.name, entry) and not (active is not None and entry.has(active)):
        return "halted"
    why = entry.rule.why_not(profile)
    if why is None and entry.rollout is not None:
        why = entry.rollout.why_not(profile.install_id)
    return why


def _misfit(variant: Variant, profile: Profile) -> str | None:
    if variant.kind not in profile.kinds:
        return f"a device that runs {', '.join(profile.kinds)} takes no {variant.kind}"
    return variant.requires.why_not(profile)
