"""What a publisher says about a version: its forms, for whom it is, how many get it, and from when."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from coremlops.collection import ALL, EVERYONE, MAX_VARIANTS, Entry, Rollout, Rule, check_variant
from coremlops.errors import RepositoryError

# What a class of devices runs, apps for another one's system included.
_SYSTEMS = {
    "phone": ("iOS",),
    "pad": ("iPadOS", "iOS"),
    "mac": ("macOS", "iPadOS", "iOS"),
    "tv": ("tvOS",),
    "vision": ("visionOS", "iPadOS", "iOS"),
    "watch": ("watchOS",),
}


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a model, with its golden set. `requires`: what a device must be to run it."""

    model: Path
    golden: Path
    name: str = "default"
    requires: Rule = EVERYONE


@dataclass(frozen=True, slots=True)
class Terms:
    """`rule`: which devices it is for. `basis_points`: of them that get it, 10000 for all. `start`: not
    before
    then, UTC. `hold`: it wins against a newer model that the app carries."""

    rule: Rule = EVERYONE
    basis_points: int = ALL
    start: datetime | None = None
    hold: bool = False

    def applied(self, entry: Entry) -> Entry:
        """The entry on these terms; a share that it had keeps its devices."""
        salt = entry.rollout.salt if entry.rollout is not None else new_salt()
        rollout = None if self.basis_points >= ALL else Rollout(self.basis_points, salt)
        return replace(entry, rule=self.rule, rollout=rollout, start=self.start, hold=self.hold)


def check_offer(entry: Entry) -> None:
    """Raise `RepositoryError` for an entry that no device can get."""
    why = _no_device(entry.rule)
    reasons = [
        entry.rule.contradiction(each.requires) or _no_device(each.requires) for each in entry.variants
    ]
    if why is None and reasons and all(reasons):
        why = reasons[0]
    if why is not None:
        raise RepositoryError(f"no device can get version {entry.version}: {why}")


def _no_device(rule: Rule) -> str | None:
    """Why no device has these class and system; None when one can."""
    systems = {each.name for each in rule.os}
    if not systems or not rule.device_class or "Linux" in systems:  # on which any device is played
        return None
    if any(systems & set(_SYSTEMS.get(each, systems)) for each in rule.device_class):
        return None
    return f"no {' or '.join(rule.device_class)} runs {' or '.join(sorted(systems))}"


def new_salt() -> str:
    """Another draw of devices."""
    return secrets.token_hex(16)


def check_forms(forms: Sequence[Form], terms: Terms) -> None:
    """Raise `RepositoryError` for names that are no names or stand twice, and what no device can get."""
    if not 0 < len(forms) <= MAX_VARIANTS:
        raise RepositoryError(f"a version has 1 to {MAX_VARIANTS} variants, got {len(forms)}")
    names = [check_variant(form.name) for form in forms]
    if len(set(names)) != len(names):
        raise RepositoryError(f"each variant has a name of its own, got {', '.join(names)}")
    for place, form in enumerate(forms):
        why = terms.rule.contradiction(form.requires)
        if why is not None:
            raise RepositoryError(f"no device can get variant {form.name}: {why}")
        for before in forms[:place]:
            if before.model.suffix == form.model.suffix and before.requires.covers(form.requires):
                raise RepositoryError(
                    f"no device can get variant {form.name}: {before.name} comes first, and fits as many",
                    hint="a device takes the first variant that fits: say what the first one requires",
                )
