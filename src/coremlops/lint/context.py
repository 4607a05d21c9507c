"""What the user asked for, and what is known by the time that a rule looks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coremlops.lint.suppression import Suppression

if TYPE_CHECKING:
    from coremlops.lint.activations import Observed
    from coremlops.lint.finding import Finding
    from coremlops.lint.subject import Part
    from coremlops.lint.target import Device, Target
    from coremlops.source import Samples


@dataclass(frozen=True, slots=True)
class LintOptions:
    """What to lint for.

    `target`: the oldest system, such as `iOS17`; empty for what the model says. `devices`: chips or iPhones;
    empty for all. `max_bytes`: of the model on disk; `max_activation_bytes`: of the values that live at once;
    None for no budget. `samples`: the model is executed on them and its activations looked at; None for
    nothing executed. `progress`: told (done, of) predictions.
    """

    target: str = ""
    devices: tuple[str, ...] = ()
    max_bytes: int | None = None
    max_activation_bytes: int | None = None
    samples: Samples | None = None
    suppressions: tuple[Suppression, ...] = ()
    progress: Callable[[int, int], None] | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Context:
    """What rules are given beside a part.

    `devices`: those that were asked for; empty means any. `observed`: None when nothing was executed.
    `found`: what rules that do not look at others' findings have found.
    """

    options: LintOptions
    parts: tuple[Part, ...]
    target: Target | None
    devices: tuple[Device, ...]
    observed: Observed | None
    found: tuple[Finding, ...] = ()

    def chips(self, *affected: str) -> tuple[str, ...]:
        """Those of the affected chips that matter: all when no device was named."""
        if not self.devices:
            return affected
        return tuple(chip for chip in affected if any(device.chip == chip for device in self.devices))

    @property
    def needed(self) -> int:
        """The version that the newest thing in the model needs."""
        return max(need.specification for part in self.parts for need in part.needs)

    @property
    def specification(self) -> int:
        """The newest format that the oldest system reads: the target's, or what the model declares."""
        declared: int = self.parts[0].asset.spec.specificationVersion
        return self.target.specification if self.target is not None else declared
