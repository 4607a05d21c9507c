"""What a publisher says about a version: its forms, for whom it is, how many get it, and from when."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from coremlops.collection import ALL, EVERYONE, MAX_VARIANTS, Entry, Rollout, Rule, check_variant
from coremlops.errors import RepositoryError


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
