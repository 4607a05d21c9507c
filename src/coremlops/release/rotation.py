"""Other keys for roles: a key made new, added or taken away, and how many must sign.

Root's keys, and those of targets, snapshot and timestamp, stand in root. A device goes from root to root, so
such a change has two: a bridge that trusts old and new keys, then, once everything is signed by the new, one
without the old. No old key is needed but root's own. A device drops what a key signed that is gone, and with
it the version numbers that whoever stole the key may have set (TUF 5.3.11, fast-forward). The keys of a
collection's roles stand in targets; these roles are signed anew in the same commit.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.metadata import Delegations, Metadata, Role, Root, Targets

from coremlops.collection import members_role
from coremlops.errors import PendingError, RepositoryError
from coremlops.release.audit import Act, actor
from coremlops.release.change import Change, drop
from coremlops.release.keys import HOLDERS, MOST_KEYS, KeyFolder
from coremlops.release.roles import Roles
from coremlops.release.signing import ONLINE, TOP_LEVEL, add_signatures, key_of

_LEAST_PREFIX = 8


@dataclass(frozen=True, slots=True)
class Rotation:
    """What to do with the keys of these names.

    `names`: of keys: root, targets, release, halt, staging, snapshot, timestamp. `replace`: ids, or how they
    begin, of keys that get a new one in their place; where nothing is said, a name's only key, or those that
    are on this machine. `remove`: that get none. `add`: one more key, none replaced. `threshold`: how many
    must sign from now on. `uris`: where the new key of a name is, unless it is made here.
    """

    names: tuple[str, ...]
    replace: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    add: bool = False
    threshold: int | None = None
    uris: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.names, *self.uris):
            if name not in HOLDERS:
                raise RepositoryError(f"no key is called {name!r:.40}; they are {', '.join(HOLDERS)}")
        for each in (*self.replace, *self.remove):
            if len(each) < _LEAST_PREFIX:
                raise RepositoryError(
                    f"{each!r:.40}: at least {_LEAST_PREFIX} digits of a key's id are needed"
                )


@dataclass(frozen=True, slots=True)
class Swap:
    """One name's keys: ids that go, keys that come, and how many must sign then."""

    gone: tuple[str, ...]
    new: int
    threshold: int


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did. `made`: the ids of new keys, by name. `retired`: the files of keys that no device
    trusts any more, where they are now."""

    made: Mapping[str, tuple[str, ...]]
    retired: tuple[Path, ...]


def rotate(roles: Roles, keys: KeyFolder, rotation: Rotation) -> dict[str, tuple[str, ...]]:
    """Make new keys and commit the change that trusts them; their ids, by name.

    Raises `PendingError` when the change waits for signatures from elsewhere, `RepositoryError` otherwise;
    then the new keys are gone again, unless a crash left metadata that names them.
    """
    swaps = plan(roles, keys, rotation)
    added: dict[str, list[Signer]] = {name: [] for name in swaps}
    files: dict[str, Path] = {}
    change: Change | None = None
    try:
        for name, swap in swaps.items():
            for place in range(swap.new):
                signer, path = keys.add(name, rotation.uris.get(name) if place == 0 else None)
                added[name].append(signer)
                files[signer.public_key.keyid] = path
                if signer.public_key.keyid in trusted(roles, name).keyids:
                    raise RepositoryError(
                        f"{name}: the key {signer.public_key.keyid[:16]} is trusted already"
                    )
        change = make(roles, swaps, added)
        vouch(change, keys, swaps)
        roles.finish(change)
    except PendingError as waits:
        made = ", ".join(f"{name} {each.public_key.keyid[:16]}" for name in added for each in added[name])
        said = f"{waits.message}; new keys: {made}" if made else waits.message
        raise PendingError(said, waits.change, hint=waits.hint) from None
    except BaseException:
        if change is None or not files.keys() & roles.public_keys().keys():
            for path in files.values():
                path.unlink()
            for name in added:
                keys.forget(name)
            if change is not None:
                drop(roles.folder, change.id)
        raise
    return {name: tuple(each.public_key.keyid for each in signers) for name, signers in added.items()}


def retire_untrusted(roles: Roles, keys: KeyFolder) -> tuple[Path, ...]:
    """Put the files of keys aside that devices trusted once and do not any more; where they are now."""
    known = roles.public_keys().keys()
    moved: list[Path] = []
    for name in HOLDERS:
        gone = known & set(keys.keyids(name)) - set(trusted(roles, name).keyids)
        if gone:
            moved += keys.retire(name, gone)
    return tuple(moved)


def plan(roles: Roles, keys: KeyFolder, rotation: Rotation) -> dict[str, Swap]:
    """What happens to each name. Raises `RepositoryError` for what cannot be; nothing is made yet."""
    found, unknown = {}, {*rotation.replace, *rotation.remove}
    for name in dict.fromkeys(rotation.names):
        role = trusted(roles, name)
        replaced = _named(rotation.replace, role.keyids)
        removed = _named(rotation.remove, role.keyids)
        unknown -= {each for each in unknown if _named([each], role.keyids)}
        if not (rotation.replace or rotation.remove or rotation.add or rotation.threshold):
            here = keys.keyids(name)
            replaced = [each for each in role.keyids if each in here or len(role.keyids) == 1]
            if not replaced:
                raise RepositoryError(
                    f"{name} has {len(role.keyids)} keys, and none is here: {', '.join(role.keyids)}",
                    hint="say which: --replace ID",
                )
        new = len(replaced) + (1 if rotation.add else 0)
        count = len(role.keyids) - len({*replaced, *removed}) + new
        threshold = role.threshold if rotation.threshold is None else rotation.threshold
        if not 1 <= threshold <= count <= MOST_KEYS:
            raise RepositoryError(
                f"{name}: {threshold} of {count} keys cannot sign; at most {MOST_KEYS} are kept"
            )
        if name in ONLINE and threshold > 1:
            raise RepositoryError(f"{name} is signed by one machine alone: its threshold is 1")
        found[name] = Swap(tuple(dict.fromkeys([*replaced, *removed])), new, threshold)
    if unknown:
        raise RepositoryError(f"no key of {', '.join(found)} has the id {', '.join(sorted(unknown))}")
    return found


def trusted(roles: Roles, name: str) -> Role:
    """The ids of a key's name, and how many must sign; all roles of a name have the same."""
    if name in TOP_LEVEL:
        return roles.root.signed.roles[name]
    delegations = roles.targets("targets").signed.delegations
    for role in (delegations.roles or {}).values() if delegations is not None else ():
        if key_of(role.name) == name:
            return role
    raise RepositoryError(f"no role is signed by the {name} key")


def make(roles: Roles, swaps: Mapping[str, Swap], added: Mapping[str, Sequence[Signer]]) -> Change:
    """The change that does it; signed by nobody yet but the keys that go, which vouch for who asks."""
    act = Act("rotate", detail={"roles": list(swaps)})
    change = Change(act, roles.now(), actor(), {})
    top = {name: swap for name, swap in swaps.items() if name in TOP_LEVEL}
    if top:
        change.base["root"] = roles.root.signed.version
        change.roots = _roots(roles, top, added)
    own = {name: swap for name, swap in swaps.items() if name not in TOP_LEVEL}
    if own or "targets" in top:
        _renew(roles, change, "targets")
    for name, swap in own.items():
        delegations = change.roles["targets"].signed.delegations
        assert delegations is not None  # noqa: S101 - `trusted` found the role there
        for role in list((delegations.roles or {}).values()):
            if key_of(role.name) == name:
                _swap(delegations, role, swap, added[name])
                _renew(roles, change, role.name)
        if name == "staging":
            for collection in roles.collections:
                _swap_bins(roles, change, collection, delegations)
    return change


def _roots(
    roles: Roles, swaps: Mapping[str, Swap], added: Mapping[str, Sequence[Signer]]
) -> list[Metadata[Root]]:
    bridge = roles.renewed(copy.deepcopy(roles.root), "root")
    for name, swap in swaps.items():
        role = bridge.signed.roles[name]
        for signer in added[name]:
            bridge.signed.add_key(signer.public_key, name)
        if name == "root":
            _drop(bridge.signed, name, swap)
        else:
            role.threshold = min(role.threshold, swap.threshold)
    if set(swaps) == {"root"}:
        return [bridge]
    final = roles.renewed(copy.deepcopy(bridge), "root")
    for name, swap in swaps.items():
        if name != "root":
            _drop(final.signed, name, swap)
    return [bridge, final]


def _drop(root: Root, name: str, swap: Swap) -> None:
    for keyid in swap.gone:
        root.revoke_key(keyid, name)
    root.roles[name].threshold = swap.threshold


def _renew(roles: Roles, change: Change, name: str) -> None:
    if name not in change.roles:
        change.base[name] = roles.version(name)
        change.roles[name] = roles.renewed(copy.deepcopy(roles.targets(name)), name)


def _swap(delegations: Delegations, role: Role, swap: Swap, added: Sequence[Signer]) -> None:
    role.keyids = [each for each in role.keyids if each not in swap.gone]
    for signer in added:
        delegations.keys[signer.public_key.keyid] = signer.public_key
        role.keyids.append(signer.public_key.keyid)
    role.threshold = swap.threshold
    used: set[str] = {keyid for each in (delegations.roles or {}).values() for keyid in each.keyids}
    delegations.keys = {keyid: key for keyid, key in delegations.keys.items() if keyid in used}


def _swap_bins(roles: Roles, change: Change, collection: str, above: Delegations) -> None:
    """Give bins the keys of the members' role, whoever's they had: a thief of the old key may have named
    one of his own."""
    members: Targets = change.roles[members_role(collection)].signed
    bins = members.delegations.succinct_roles if members.delegations is not None else None
    if members.delegations is None or bins is None:
        return
    role = (above.roles or {})[members_role(collection)]
    bins.keyids, bins.threshold = list(role.keyids), role.threshold
    members.delegations.keys = {keyid: above.keys[keyid] for keyid in role.keyids}
    for name in bins.get_roles():
        _renew(roles, change, name)


def vouch(change: Change, keys: KeyFolder, swaps: Mapping[str, Swap]) -> None:
    """Sign with the keys that go and are here: who asked had them. Devices never see these signatures."""
    everything: list[Metadata[Any]] = [*change.roots, *change.roles.values()]
    for name, swap in swaps.items():
        for metadata in everything:
            add_signatures(metadata, name, keys.here(name), swap.gone)


def _named(prefixes: Collection[str], keyids: Sequence[str]) -> list[str]:
    return [each for each in keyids if any(each.startswith(prefix) for prefix in prefixes)]
