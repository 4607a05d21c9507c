"""Names in a collection: channels, kinds, target paths and the roles that sign them."""

from __future__ import annotations

import re

from coremlops.errors import RepositoryError

CHANNELS = ("staging", "release")
KINDS = ("mlpackage", "mlmodel", "mlmodelc", "aimodel")

_COLLECTION = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_collection(name: str) -> str:
    """`name`, when it can be a collection: lower-case letters, digits and hyphens, at most 40.

    Raises `RepositoryError`. The name becomes a folder, a role and part of a URL.
    """
    if not _COLLECTION.fullmatch(name):
        raise RepositoryError(
            f"a collection's name is 1 to 40 of a-z, 0-9 and '-', and begins with no '-'; got {name!r:.80}"
        )
    return name


def check_name(name: str) -> str:
    """`name`, when it can be a model's in a collection: as a collection's. Raises `RepositoryError`."""
    if not _COLLECTION.fullmatch(name):
        raise RepositoryError(
            f"a model's name is 1 to 40 of a-z, 0-9 and '-', and begins with no '-'; got {name!r:.80}"
        )
    return name


def check_channel(name: str) -> str:
    """`name`, when it is a channel. Raises `RepositoryError`."""
    if name not in CHANNELS:
        raise RepositoryError(f"a channel is one of {', '.join(CHANNELS)}; got {name!r:.80}")
    return name


def is_sha256(text: object) -> bool:
    """Whether `text` is 64 lower-case hex digits."""
    return isinstance(text, str) and _SHA256.fullmatch(text) is not None


def index_path(collection: str, channel: str) -> str:
    """The target that a device reads first."""
    return f"{collection}/{channel}/index.json"


def history_path(collection: str, channel: str, name: str) -> str:
    """The target by which a publisher goes back to a version of a model."""
    return f"{collection}/{channel}/{name}.history.json"


def halt_path(collection: str, channel: str) -> str:
    """The target that says which versions are halted. Another role signs it than the channel's."""
    return f"{collection}/halt/{channel}.json"


def member_path(collection: str, sha256: str) -> str:
    """The target that is a member: it is named by its own content, so that all channels share it."""
    return f"{collection}/members/{sha256}"


def channel_role(collection: str, channel: str) -> str:
    """The role that signs a channel's index."""
    return f"{collection}-{channel}"


def halt_role(collection: str) -> str:
    """The role that may halt, and no more."""
    return f"{collection}-halt"


def members_role(collection: str) -> str:
    """The role that signs the members."""
    return f"{collection}-members"
