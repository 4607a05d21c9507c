"""The device side: update from a signed repository, check, activate, predict."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremlops.client.device import Device as Device
    from coremlops.client.progress import Step as Step
    from coremlops.client.results import ModelPlan as ModelPlan
    from coremlops.client.results import ModelResult as ModelResult
    from coremlops.client.results import Plan as Plan
    from coremlops.client.results import UpdateResult as UpdateResult
    from coremlops.client.slot import Slot as Slot
    from coremlops.client.starts import Running as Running
    from coremlops.client.state import State as State
    from coremlops.client.web import Limits as Limits

_MODULES = {
    "Device": "device",
    "Limits": "web",
    "ModelPlan": "results",
    "ModelResult": "results",
    "Plan": "results",
    "Running": "starts",
    "Slot": "slot",
    "State": "state",
    "Step": "progress",
    "UpdateResult": "results",
}

__all__ = [
    "Device",
    "Limits",
    "ModelPlan",
    "ModelResult",
    "Plan",
    "Running",
    "Slot",
    "State",
    "Step",
    "UpdateResult",
]


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: TUF and HTTP take a while."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
