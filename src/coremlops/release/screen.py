"""Whether a pending change may be signed at all: what no command does is not signed, whoever asks.

What it does do is for a person to read (`review`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from securesystemslib.formats import encode_canonical
from tuf.api.metadata import Key, Metadata, Role, Root, Targets

from coremlops.collection import document
from coremlops.digest import sha256_bytes
from coremlops.errors import RepositoryError
from coremlops.release.adding import added
from coremlops.release.change import Change
from coremlops.release.delegation import check_delegations
from coremlops.release.expiry import Expiry, without_bin
from coremlops.release.first import role_paths
from coremlops.release.offered import check_offered
from coremlops.release.roles import Roles
from coremlops.release.signing import key_of
from coremlops.release.targets import file_of

_MARGIN = timedelta(days=1)


def check(roles: Roles, change: Change, *, expiry: Expiry, now: datetime) -> None:
    """Raise `RepositoryError` for a change that is stale, or that nobody may sign."""
    for role, version in change.base.items():
        now_at = roles.version(role)
        if now_at != version:
            raise RepositoryError(
                f"change {change.id} is stale: it was made from {role} version {version}, "
                f"the repository is at {now_at}",
                hint=f"make it again, and drop this one: coremlops repo sign --drop {change.id}",
            )
    if set(change.base) != {*change.roles, *(["root"] if change.roots else [])}:
        raise RepositoryError(f"change {change.id} does not say what it was made from")
    versions = [roles.root.signed.version + 1 + place for place in range(len(change.roots))]
    if [each.signed.version for each in change.roots] != versions:
        raise RepositoryError(f"change {change.id}: roots {versions} expected")
    for root in change.roots:
        _check_end("root", root, expiry, now)
        if not root.signed.consistent_snapshot:
            raise RepositoryError(f"change {change.id}: a root without consistent snapshots")
        _check_keys("root", root.signed.keys, root.signed.roles)
    _check_bridge(change, roles.root.signed)
    collections = [*roles.collections, *filter(None, [added(roles, change)])]
    known = {"targets", *(role for collection in collections for role in role_paths(collection))}
    for role, metadata in change.roles.items():
        if without_bin(role) not in known:
            raise RepositoryError(f"change {change.id}: no command changes a role {role!r:.80}")
        _check_end(role, metadata, expiry, now)
        check_delegations(role, metadata.signed)
        if role == "targets":
            _check_alike(change, metadata.signed)
        below = metadata.signed.delegations
        if below is not None:
            named: dict[str, Role] = dict(below.roles or {})
            if below.succinct_roles is not None:
                named["its bins"] = below.succinct_roles
            _check_keys(role, below.keys, named)
        _check_next(roles, change, role)
        _check_files(roles, role, metadata.signed, is_new=not change.base[role])
    check_offered(roles, change)
    if not any(_vouched(roles, change)):
        raise RepositoryError(f"change {change.id} has no signature of a key that is trusted now")


def _check_alike(change: Change, targets: Targets) -> None:
    """Raise `RepositoryError` when collections would be signed by different keys: whoever holds those of one
    could not tell, and a rotation would take them for the same."""
    roles = (targets.delegations.roles or {}) if targets.delegations is not None else {}
    found: dict[str, tuple[list[str], int]] = {}
    for name, role in roles.items():
        signed = (sorted(role.keyids), role.threshold)
        if found.setdefault(key_of(name), signed) != signed:
            raise RepositoryError(f"change {change.id}: {name} would have other keys than its like")


def _check_next(roles: Roles, change: Change, role: str) -> None:
    """Raise `RepositoryError` unless a role's version is the next whose name is free, a crash's files passed
    over."""
    expected, metadata = change.base[role] + 1, roles.folder / "metadata"
    got = change.roles[role].signed.version
    while expected < got and (metadata / f"{expected}.{role}.json").exists():
        expected += 1
    if got != expected:
        raise RepositoryError(f"change {change.id}: {role} is to be version {expected}")


def _check_bridge(change: Change, before: Root) -> None:
    """Raise `RepositoryError` when the first of two roots trusts more than the old and the last together.

    A person reads what the last changes; devices would trust whatever the first names.
    """
    if len(change.roots) < 2:
        return
    bridge, after = (each.signed for each in change.roots)
    for name, role in bridge.roles.items():
        ends = (after.roles[name],) if name == "root" else (before.roles[name], after.roles[name])
        allowed = {keyid for each in ends for keyid in each.keyids}
        if not set(role.keyids) <= allowed or role.threshold < min(each.threshold for each in ends):
            raise RepositoryError(
                f"change {change.id}: its first root trusts other {name} keys than its last"
            )


def _check_keys(what: str, keys: Mapping[str, Key], roles: Mapping[str, Role]) -> None:
    """Raise `RepositoryError` for a key under an id that is not its own, which a person would take for
    another, and for an id without a key."""
    for keyid, key in keys.items():
        own = {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}
        if keyid != sha256_bytes((encode_canonical(own) or "").encode()):
            raise RepositoryError(f"{what} names a key under an id that is not its own: {keyid[:16]}")
    for name, role in roles.items():
        if not set(role.keyids) <= keys.keys():
            raise RepositoryError(f"{what}: {name} has a key's id without the key")


def _vouched(roles: Roles, change: Change) -> Iterator[bool]:
    """For each signature of a change by a key that is trusted before it: whether it is good."""
    delegations = roles.targets("targets").signed.delegations
    known = roles.root.signed.keys | (delegations.keys if delegations is not None else {})
    everything: list[Metadata[Root] | Metadata[Targets]] = [*change.roots, *change.roles.values()]
    for metadata in everything:
        for keyid in metadata.signatures.keys() & known.keys():
            try:
                known[keyid].verify_signature(metadata.signatures[keyid], metadata.signed_bytes)
            except (UnverifiedSignatureError, VerificationError):
                yield False
            else:
                yield True


def _check_files(roles: Roles, role: str, after: Targets, *, is_new: bool) -> None:
    """Raise `RepositoryError` unless each file that is named for the first time is whole."""
    known = {} if is_new else roles.signed(role).targets
    for path, target in after.targets.items():
        if known.get(path) == target:
            continue
        file = roles.folder / "targets" / file_of(path, target.hashes.get("sha256", ""))
        if not file.is_file() or file.stat().st_size != target.length:
            raise RepositoryError(f"{role} would name {path}, which is not whole in the repository: {file}")


def _check_end(
    role: str, metadata: Metadata[Root] | Metadata[Targets], expiry: Expiry, now: datetime
) -> None:
    end = metadata.signed.expires
    if not now < end <= now + expiry.lifetime(role) + _MARGIN:
        raise RepositoryError(
            f"{role} would live until {document.time_text(end)}, "
            f"at most {expiry.lifetime(role).days} days from now are signed",
            hint="make the change again",
        )
