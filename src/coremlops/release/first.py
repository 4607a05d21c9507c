"""The first metadata of a repository, and of a collection: every role at version 1, both channels empty."""

from __future__ import annotations

from collections.abc import Mapping

from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Role,
    Root,
    Signed,
    Snapshot,
    Targets,
    Timestamp,
)

from coremlops.collection import (
    CHANNELS,
    Halts,
    Index,
    channel_role,
    halt_path,
    halt_role,
    index_path,
    members_role,
)
from coremlops.release.expiry import Clock, Expiry
from coremlops.release.keys import HOLDERS, KeyFolder
from coremlops.release.signing import TOP_LEVEL, key_of, sign
from coremlops.release.targets import as_target


def role_paths(collection: str) -> dict[str, str]:
    """The paths that each of a collection's roles may name, disjoint, in the order in which devices ask."""
    return {
        halt_role(collection): f"{collection}/halt/*",
        channel_role(collection, "release"): f"{collection}/release/*",
        channel_role(collection, "staging"): f"{collection}/staging/*",
        members_role(collection): f"{collection}/members/*",
    }


def delegated(collection: str, signers: Mapping[str, Role]) -> dict[str, DelegatedRole]:
    """What `targets` says of a collection's roles; each ends the search. `signers`: by the key's name."""
    roles = {}
    for role, path in role_paths(collection).items():
        by = signers[key_of(role)]
        roles[role] = DelegatedRole(role, list(by.keyids), by.threshold, True, paths=[path])
    return roles


def first_roles(collection: str) -> tuple[dict[str, Targets], dict[str, bytes]]:
    """A collection's roles at version 1, and the files that they name, by their place below `targets/`."""
    roles = {role: Targets(1) for role in role_paths(collection)}
    files: dict[str, bytes] = {}
    for channel in CHANNELS:
        index, halts = Index(collection, channel).to_bytes(), Halts(collection, channel).to_bytes()
        for role, path, data in (
            (channel_role(collection, channel), index_path(collection, channel), index),
            (halt_role(collection), halt_path(collection, channel), halts),
        ):
            roles[role].targets[path], file = as_target(path, data)
            files[file] = data
    return roles, files


def first_files(
    collection: str,
    keys: KeyFolder,
    *,
    clock: Clock,
    expiry: Expiry,
    thresholds: Mapping[str, int] | None = None,
) -> dict[str, bytes]:
    """Every file of a new repository by its path.

    `thresholds`: how many signatures a key's roles want, 1 unless said.
    """
    now = clock()
    public = {name: [each.public_key for each in keys.signers(name)] for name in HOLDERS}
    signers = {
        name: Role([key.keyid for key in found], (thresholds or {}).get(name, 1))
        for name, found in public.items()
    }
    root = Root(version=1, expires=now + expiry.lifetime("root"), consistent_snapshot=True)
    for name in TOP_LEVEL:
        root.keys |= {key.keyid: key for key in public[name]}
        root.roles[name] = signers[name]
    below = delegated(collection, signers)
    known = {key.keyid: key for name in dict.fromkeys(map(key_of, below)) for key in public[name]}
    targets = Targets(1, delegations=Delegations(known, below))
    roles, documents = first_roles(collection)
    plain: list[tuple[str, Signed, Root | Targets]] = [("targets", targets, root)]
    plain += [(name, role, targets) for name, role in roles.items()]
    snapshot = Snapshot(1, meta={f"{name}.json": MetaFile(1) for name, _, _ in plain})
    plain += [("root", root, root), ("snapshot", snapshot, root), ("timestamp", Timestamp(1), root)]
    files = {f"targets/{file}": data for file, data in documents.items()}
    for name, signed, delegator in plain:
        signed.expires = now + expiry.lifetime(name)
        file = "timestamp.json" if name == "timestamp" else f"1.{name}.json"
        files[f"metadata/{file}"] = sign(Metadata(signed), name, keys.signers(key_of(name)), delegator)
    return files
