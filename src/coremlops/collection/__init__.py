"""What publisher and device both read: what a channel offers, a variant's manifest, and their names.

Pure: values in, values out. Names are imported when they are first used: a run with nothing to do reads one
index and pays for no more.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.collection.choice import (
        EMBEDDED as EMBEDDED,
    )
    from coremlops.collection.choice import (
        GET as GET,
    )
    from coremlops.collection.choice import (
        KEEP as KEEP,
    )
    from coremlops.collection.choice import (
        Choice as Choice,
    )
    from coremlops.collection.choice import (
        choose as choose,
    )
    from coremlops.collection.entry import (
        MAX_PACKAGE_BYTES as MAX_PACKAGE_BYTES,
    )
    from coremlops.collection.entry import (
        MAX_VARIANTS as MAX_VARIANTS,
    )
    from coremlops.collection.entry import (
        Entry as Entry,
    )
    from coremlops.collection.entry import (
        Variant as Variant,
    )
    from coremlops.collection.entry import (
        check_variant as check_variant,
    )
    from coremlops.collection.history import (
        MAX_HISTORY_BYTES as MAX_HISTORY_BYTES,
    )
    from coremlops.collection.history import (
        History as History,
    )
    from coremlops.collection.index import (
        MAX_INDEX_BYTES as MAX_INDEX_BYTES,
    )
    from coremlops.collection.index import (
        MAX_MODELS as MAX_MODELS,
    )
    from coremlops.collection.index import (
        MAX_OFFERS as MAX_OFFERS,
    )
    from coremlops.collection.index import (
        Halts as Halts,
    )
    from coremlops.collection.index import (
        Index as Index,
    )
    from coremlops.collection.index import (
        Line as Line,
    )
    from coremlops.collection.index import (
        next_version as next_version,
    )
    from coremlops.collection.manifest import (
        MAX_MANIFEST_BYTES as MAX_MANIFEST_BYTES,
    )
    from coremlops.collection.manifest import (
        MAX_MEMBERS as MAX_MEMBERS,
    )
    from coremlops.collection.manifest import (
        Manifest as Manifest,
    )
    from coremlops.collection.manifest import (
        Member as Member,
    )
    from coremlops.collection.manifest import (
        check_members as check_members,
    )
    from coremlops.collection.names import (
        CHANNELS as CHANNELS,
    )
    from coremlops.collection.names import (
        KINDS as KINDS,
    )
    from coremlops.collection.names import (
        channel_role as channel_role,
    )
    from coremlops.collection.names import (
        check_channel as check_channel,
    )
    from coremlops.collection.names import (
        check_collection as check_collection,
    )
    from coremlops.collection.names import (
        check_name as check_name,
    )
    from coremlops.collection.names import (
        halt_path as halt_path,
    )
    from coremlops.collection.names import (
        halt_role as halt_role,
    )
    from coremlops.collection.names import (
        history_path as history_path,
    )
    from coremlops.collection.names import (
        index_path as index_path,
    )
    from coremlops.collection.names import (
        member_path as member_path,
    )
    from coremlops.collection.names import (
        members_role as members_role,
    )
    from coremlops.collection.rollout import (
        ALL as ALL,
    )
    from coremlops.collection.rollout import (
        Rollout as Rollout,
    )
    from coremlops.collection.rollout import (
        basis_points as basis_points,
    )
    from coremlops.collection.rollout import (
        bucket as bucket,
    )
    from coremlops.collection.rules import (
        EVERYONE as EVERYONE,
    )
    from coremlops.collection.rules import (
        Profile as Profile,
    )
    from coremlops.collection.rules import (
        Range as Range,
    )
    from coremlops.collection.rules import (
        Rule as Rule,
    )
    from coremlops.collection.rules import (
        System as System,
    )
    from coremlops.collection.rules import (
        version_key as version_key,
    )

_HOME = {
    "ALL": "rollout",
    "CHANNELS": "names",
    "EMBEDDED": "choice",
    "EVERYONE": "rules",
    "GET": "choice",
    "KEEP": "choice",
    "KINDS": "names",
    "MAX_HISTORY_BYTES": "history",
    "MAX_INDEX_BYTES": "index",
    "MAX_MANIFEST_BYTES": "manifest",
    "MAX_MEMBERS": "manifest",
    "MAX_MODELS": "index",
    "MAX_OFFERS": "index",
    "MAX_PACKAGE_BYTES": "entry",
    "MAX_VARIANTS": "entry",
    "Choice": "choice",
    "Entry": "entry",
    "Halts": "index",
    "History": "history",
    "Index": "index",
    "Line": "index",
    "Manifest": "manifest",
    "Member": "manifest",
    "Profile": "rules",
    "Range": "rules",
    "Rollout": "rollout",
    "Rule": "rules",
    "System": "rules",
    "Variant": "entry",
    "basis_points": "rollout",
    "bucket": "rollout",
    "channel_role": "names",
    "check_channel": "names",
    "check_collection": "names",
    "check_members": "manifest",
    "check_name": "names",
    "check_variant": "entry",
    "choose": "choice",
    "halt_path": "names",
    "halt_role": "names",
    "history_path": "names",
    "index_path": "names",
    "member_path": "names",
    "members_role": "names",
    "next_version": "index",
    "version_key": "rules",
}

__all__ = [
    "ALL",
    "CHANNELS",
    "EMBEDDED",
    "EVERYONE",
    "GET",
    "KEEP",
    "KINDS",
    "MAX_HISTORY_BYTES",
    "MAX_INDEX_BYTES",
    "MAX_MANIFEST_BYTES",
    "MAX_MEMBERS",
    "MAX_MODELS",
    "MAX_OFFERS",
    "MAX_PACKAGE_BYTES",
    "MAX_VARIANTS",
    "Choice",
    "Entry",
    "Halts",
    "History",
    "Index",
    "Line",
    "Manifest",
    "Member",
    "Profile",
    "Range",
    "Rollout",
    "Rule",
    "System",
    "Variant",
    "basis_points",
    "bucket",
    "channel_role",
    "check_channel",
    "check_collection",
    "check_members",
    "check_name",
    "check_variant",
    "choose",
    "halt_path",
    "halt_role",
    "history_path",
    "index_path",
    "member_path",
    "members_role",
    "next_version",
    "version_key",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.collection' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.collection.{_HOME[name]}"), name)
