"""What one kind of source's converter hands back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from coremlops.convert.repairs import Repair
from coremlops.source import ImageInput


@dataclass(frozen=True, slots=True)
class Made:
    """`model`: a `coremltools.models.MLModel`, not yet saved, and what its inputs must be called.

    `labels`: of a classifier. `picture`: how its picture is prepared. `origins`: what `<stem>.origins.json`
    will hold.
    """

    model: Any
    inputs: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    picture: ImageInput | None = None
    repairs: tuple[Repair, ...] = ()
    origins: dict[str, Any] = field(default_factory=dict)
