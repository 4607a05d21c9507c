"""What a pending change would do, for whoever is asked to sign it, and whether it may be signed at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from securesystemslib.exceptions import UnverifiedSignatureError, VerificationError
from tuf.api.metadata import Key, Metadata, Role, Root, TargetFile, Targets

from coremlops.collection import Index, document
from coremlops.errors import RepositoryError
from coremlops.release.change import Change, Lack
from coremlops.release.delegation import check_delegations
from coremlops.release.expiry import Expiry, without_bin
from coremlops.release.roles import Roles
from coremlops.release.targets import file_of, read_target

_MARGIN = timedelta(days=1)
_MOST_LINES = 40


@dataclass(frozen=True, slots=True)
class Review:
    """One pending change. `lacks`: the signatures that it waits for. `differences`: what it would change, a
    line each. `refused`: why it can never be committed, empty when it can."""

    id: str
    what: str
    actor: str
    at: datetime
    lacks: tuple[Lack, ...]
    differences: tuple[str, ...]
    refused: str


def review(roles: Roles, change: Change, *, expiry: Expiry, now: datetime) -> Review:
    """What there is to know of a change; nothing is signed."""
    lines: list[str] = []
    lacks: tuple[Lack, ...] = ()
    refused = ""
    try:
        check(roles, change, expiry=expiry, now=now)
        lines = list(differences(roles, change))
        lacks = roles.lacks(change)
    except RepositoryError as error:
        refused = error.message
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], f"and {len(lines) - _MOST_LINES} more"]
    return Review(change.id, change.describe(), change.actor, change.at, lacks, tuple(lines), refused)


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
    known = {"targets"}
    delegations = roles.targets("targets").signed.delegations
    known.update(delegations.roles or () if delegations is not None else ())
    for role, metadata in change.roles.items():
        if without_bin(role) not in known:
            raise RepositoryError(f"change {change.id}: no command changes a role {role!r:.80}")
        _check_end(role, metadata, expiry, now)
        check_delegations(role, metadata.signed)
        if metadata.signed.version != change.base[role] + 1:
            raise RepositoryError(f"change {change.id}: {role} is to be version {change.base[role] + 1}")
        _check_files(roles, role, metadata.signed, is_new=not change.base[role])
    if not any(_vouched(roles, change)):
        raise RepositoryError(f"change {change.id} has no signature of a key that is trusted now")


def differences(roles: Roles, change: Change) -> Iterator[str]:
    """What a change would change, a line each."""
    root = roles.root.signed
    for after in change.roots[-1:]:
        for name, role in after.signed.roles.items():
            yield from _keys(name, root.roles[name], role, root.keys | after.signed.keys)
        yield f"root: version {after.signed.version}, until {document.time_text(after.signed.expires)}"
    for name, metadata in change.roles.items():
        before = roles.targets(name).signed if change.base[name] else None
        end = document.time_text(metadata.signed.expires)
        yield f"{name}: version {metadata.signed.version}, until {end}"
        old = before.targets if before is not None else {}
        for path in sorted(old.keys() | metadata.signed.targets.keys()):
            one, other = old.get(path), metadata.signed.targets.get(path)
            if one != other:
                mark = "new" if one is None else "gone" if other is None else "changed"
                yield f"{name}: {mark} {path}{_offers(roles, other)}"
        yield from _delegated(name, before, metadata.signed)


def _delegated(name: str, before: Targets | None, after: Targets) -> Iterator[str]:
    was = before.delegations if before is not None else None
    now = after.delegations
    keys = (was.keys if was else {}) | (now.keys if now else {})
    old: dict[str, Role] = dict(was.roles or {}) if was else {}
    new: dict[str, Role] = dict(now.roles or {}) if now else {}
    if was and was.succinct_roles:
        old["its bins"] = was.succinct_roles
    if now and now.succinct_roles:
        new["its bins"] = now.succinct_roles
    for role in sorted(old.keys() | new.keys()):
        if role not in new:
            yield f"{name}: no longer delegates to {role}"
        else:
            one, other = old.get(role, Role([], 1)), new[role]
            yield from _keys(role, one, other, keys)
            if getattr(one, "paths", None) != getattr(other, "paths", None):
                yield f"{role}: may name {', '.join(getattr(other, 'paths', None) or ['nothing'])}"


def _keys(name: str, old: Role, new: Role, keys: dict[str, Key]) -> Iterator[str]:
    for keyid in new.keyids:
        if keyid not in old.keyids:
            yield f"{name}: a new key {keyid[:16]} ({keys[keyid].scheme})"
    for keyid in old.keyids:
        if keyid not in new.keyids:
            yield f"{name}: no longer the key {keyid[:16]}"
    if old.threshold != new.threshold:
        yield f"{name}: {new.threshold} signatures instead of {old.threshold}"


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
    known = {} if is_new else roles.targets(role).signed.targets
    for path, target in after.targets.items():
        if known.get(path) == target:
            continue
        file = roles.folder / "targets" / file_of(path, target.hashes.get("sha256", ""))
        if not file.is_file() or file.stat().st_size != target.length:
            raise RepositoryError(f"{role} would name {path}, which is not whole in the repository: {file}")


def _offers(roles: Roles, target: TargetFile | None) -> str:
    """What an index would offer; nothing for another file."""
    if target is None or not target.path.endswith("/index.json"):
        return ""
    collection, _, channel = target.path.removesuffix("/index.json").partition("/")
    data = read_target(roles.folder / "targets", target)
    index = Index.from_bytes(data, collection=collection, channel=channel)
    offers = []
    for each in index.offers:
        share = "" if each.rollout is None else f" to {each.rollout.basis_points / 100:g} %"
        offers.append(f"version {each.version}{share}")
    return f": offers {', then '.join(offers) or 'nothing'}"


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
