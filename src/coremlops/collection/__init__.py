"""What publisher and device both read: a channel's index, a version's manifest, and their names.

Pure: values in, values out. Names are imported when they are first used: a run with nothing to do reads one
index and pays for no more.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.collection.index import MAX_INDEX_BYTES, Entry, Index, next_version
    from coremlops.collection.manifest import (
        MAX_MANIFEST_BYTES,
        MAX_MEMBERS,
        MAX_PACKAGE_BYTES,
        Manifest,
        Member,
        check_members,
    )
    from coremlops.collection.names import (
        CHANNELS,
        KINDS,
        channel_role,
        check_channel,
        check_collection,
        index_path,
        member_path,
        members_role,
    )

_HOME = {
    "CHANNELS": "names",
    "KINDS": "names",
    "MAX_INDEX_BYTES": "index",
    "MAX_MANIFEST_BYTES": "manifest",
    "MAX_MEMBERS": "manifest",
    "MAX_PACKAGE_BYTES": "manifest",
    "Entry": "index",
    "Index": "index",
    "Manifest": "manifest",
    "Member": "manifest",
    "channel_role": "names",
    "check_channel": "names",
    "check_collection": "names",
    "check_members": "manifest",
    "index_path": "names",
    "member_path": "names",
    "members_role": "names",
    "next_version": "index",
}

__all__ = [
    "CHANNELS",
    "KINDS",
    "MAX_INDEX_BYTES",
    "MAX_MANIFEST_BYTES",
    "MAX_MEMBERS",
    "MAX_PACKAGE_BYTES",
    "Entry",
    "Index",
    "Manifest",
    "Member",
    "channel_role",
    "check_channel",
    "check_collection",
    "check_members",
    "index_path",
    "member_path",
    "members_role",
    "next_version",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.collection' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.collection.{_HOME[name]}"), name)
