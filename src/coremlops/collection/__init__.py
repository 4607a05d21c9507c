"""What publisher and device both read: a channel's index, a version's manifest, and their names.

Pure: values in, values out.
"""

from __future__ import annotations

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
