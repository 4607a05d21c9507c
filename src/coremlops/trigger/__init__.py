"""What starts work by itself: a folder whose content changed. Knows nothing of what it starts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.trigger.folder import Change, FolderTrigger
    from coremlops.trigger.pictures import PictureCheck

__all__ = ["Change", "FolderTrigger", "PictureCheck"]

_HOME = {"Change": "folder", "FolderTrigger": "folder", "PictureCheck": "pictures"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.trigger' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.trigger.{_HOME[name]}"), name)
