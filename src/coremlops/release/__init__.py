"""The signed repository (TUF): the authority on what devices get."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from coremlops.release.expiry import Expiry as Expiry
    from coremlops.release.keys import config_folder as config_folder
    from coremlops.release.repository import Repository as Repository
    from coremlops.release.roles import RoleStatus as RoleStatus

_MODULES = {"Expiry": "expiry", "Repository": "repository", "RoleStatus": "roles", "config_folder": "keys"}

__all__ = ["Expiry", "Repository", "RoleStatus", "config_folder"]


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: the TUF library takes a while."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
