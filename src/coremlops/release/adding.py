"""One more collection in a repository that is there: four roles, empty, signed by the keys of the others.

`targets` delegates to them (its key is offline), and all of it is one commit. `add` makes such a change;
`added` knows it again when somebody is asked to sign it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

from tuf.api.metadata import Delegations, Metadata, Role, Targets

from coremlops.collection import check_collection
from coremlops.errors import RepositoryError
from coremlops.release.audit import Act, actor
from coremlops.release.change import Change
from coremlops.release.first import delegated, first_roles
from coremlops.release.roles import Roles
from coremlops.release.rotation import trusted
from coremlops.release.targets import write_served

MOST_COLLECTIONS = 64
_KEYS = ("halt", "release", "staging")  # those that sign a collection's roles


def add(roles: Roles, collection: str) -> None:
    """Commit a new collection. Raises `PendingError` when it waits for signatures from elsewhere,
    `RepositoryError` when no key that signs it is here, or it cannot be."""
    _check_new(roles, collection)
    targets = copy.deepcopy(roles.targets("targets"))
    targets.signed.delegations = _with(roles, collection)
    first, files = first_roles(collection)
    change = Change(Act("add", collection), roles.now(), actor(), {})
    made: Mapping[str, Metadata[Targets]] = {name: Metadata(each) for name, each in first.items()}
    for name, metadata in {"targets": targets, **made}.items():
        change.base[name] = metadata.signed.version = roles.version(name)
        change.roles[name] = roles.renewed(metadata, name)
    roles.sign(change)
    if not any(each.signatures for each in change.roles.values()):
        raise RepositoryError(
            "no key that signs a new collection is here: targets, halt, release or staging",
            hint="run this where the targets key is",
        )
    folder = roles.folder / "targets"
    for file, data in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        write_served(path, data)
        roles.written |= {path.parent, path.parent.parent, folder}
    roles.finish(change)


def added(roles: Roles, change: Change) -> str:
    """The collection that a change adds, as `add` does and with nothing beside it; empty for a change that
    leaves to each role its paths. Raises `RepositoryError` for any other."""
    if "targets" not in change.roles:
        return ""
    before, after = (each.signed.delegations for each in (roles.targets("targets"), change.roles["targets"]))
    if _paths(before) == _paths(after):
        return ""
    collection, what = change.act.collection, f"change {change.id}"
    if change.act.action != "add":
        raise RepositoryError(f"{what}: no command changes which role names which paths")
    _check_new(roles, collection)
    first, _ = first_roles(collection)
    if change.roots or change.roles.keys() != {"targets", *first}:
        raise RepositoryError(f"{what} adds a collection, and changes other roles beside it")
    if after is None or after.to_dict() != _with(roles, collection).to_dict():
        raise RepositoryError(
            f"{what} does not add {collection} as the others are: by the same keys, each role its own paths"
        )
    for name, role in first.items():
        got = change.roles[name].signed
        if got.targets != role.targets or got.delegations is not None or change.base[name]:
            raise RepositoryError(f"{what} adds a collection that is not empty: {name}")
    return collection


def _check_new(roles: Roles, collection: str) -> None:
    """Raise `RepositoryError` for a name that no collection can have, and one too many."""
    check_collection(collection)
    if collection in roles.collections:
        raise RepositoryError(f"{roles.folder} has a collection {collection} already")
    if len(roles.collections) >= MOST_COLLECTIONS:
        raise RepositoryError(f"{roles.folder} has {MOST_COLLECTIONS} collections; no more are possible")


def _with(roles: Roles, collection: str) -> Delegations:
    """What `targets` delegates, and this collection's roles, last."""
    delegations = copy.deepcopy(roles.targets("targets").signed.delegations)
    assert delegations is not None  # noqa: S101 - a repository begins with a collection
    signers: dict[str, Role] = {name: trusted(roles, name) for name in _KEYS}
    delegations.roles = {**(delegations.roles or {}), **delegated(collection, signers)}
    return delegations


def _paths(delegations: Delegations | None) -> list[tuple[str, list[str] | None]]:
    roles = (delegations.roles or {}) if delegations is not None else {}
    return [(name, role.paths) for name, role in roles.items()]
