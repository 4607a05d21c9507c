"""What a pending change would offer: versions that devices can have, of the one model that it speaks of.

Other changes were committed since it was made, and whoever may write to the repository may have made it.
"""

from __future__ import annotations

from coremlops.collection import CHANNELS, Entry, channel_role, members_role
from coremlops.errors import RepositoryError
from coremlops.release.change import Change
from coremlops.release.contents import Contents
from coremlops.release.expiry import without_bin
from coremlops.release.resetting import check_reset
from coremlops.release.roles import Roles


def check_offered(roles: Roles, change: Change) -> None:
    """Raise `RepositoryError` when a change would touch what a channel offers of a model that it does not
    name, or when a version that is on offer then lacks its members, or has another model's."""
    for collection in roles.collections:
        before = Contents(roles, roles.folder, collection)
        after = Contents(roles.after(change), roles.folder, collection)
        for channel in CHANNELS:
            role = channel_role(collection, channel)
            same = _targets(roles, role) == _targets(roles.after(change), role)
            if not same or _members_change(roles, change, collection):
                _check_channel(change, before, after, channel)


def _check_channel(change: Change, before: Contents, after: Contents, channel: str) -> None:
    index, act = after.index(channel), change.act
    where = f"{channel} of {index.collection}"
    if (act.action, act.collection, act.channel, channel) == ("reset", index.collection, *("staging",) * 2):
        try:
            check_reset(after)
        except RepositoryError as error:
            raise RepositoryError(f"change {change.id}: {error.message}", hint="make it again") from None
        before = after  # what staging said is what is not believed
    was = before.index(channel)
    for name in sorted({*was.names, *index.names}):
        line, old = index.line(name), was.line(name)
        had, has = ({*each.history(channel, name).entries} for each in (before, after))
        touched = line != old or (had != has and act.action != "forget")
        if touched and (act.collection, act.channel, act.name) != (index.collection, channel, name):
            raise RepositoryError(
                f"change {change.id} is to {change.describe()}, and would change {name} in {where}"
            )
        if not has <= {*had, *line.offers}:
            raise RepositoryError(f"change {change.id} adds to the history of {name} what {where} never had")
        for entry in line.offers:
            lacks = _lacks(after, name, entry)
            # What is damaged already is no fault of this change, and `repo verify` says it.
            if lacks and (entry not in old.offers or not _lacks(before, name, entry)):
                raise RepositoryError(f"change {change.id} would offer what no device can have: {lacks}")


def _lacks(contents: Contents, name: str, entry: Entry) -> str:
    """Why a version is not whole; empty when it is."""
    try:
        contents.check_whole(name, entry)
    except RepositoryError as error:
        return error.message
    return ""


def _members_change(roles: Roles, change: Change, collection: str) -> bool:
    """Whether members are named, or named no longer; a role that is only signed anew changes none."""
    own = members_role(collection)
    return any(
        without_bin(role) == own and (not change.base[role] or _targets(roles, role) != each.signed.targets)
        for role, each in change.roles.items()
    )


def _targets(roles: Roles, role: str) -> dict[str, object]:
    return {**roles.signed(role).targets}
