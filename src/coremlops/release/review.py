"""What a pending change would do, for whoever is asked to sign it, and whether it may be signed at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from tuf.api.metadata import Key, Role, TargetFile, Targets

from coremlops.collection import CHANNELS, Halts, Index, document
from coremlops.errors import RepositoryError
from coremlops.release.change import Change, Lack
from coremlops.release.expiry import Expiry
from coremlops.release.roles import Roles
from coremlops.release.screen import check
from coremlops.release.targets import read_target

_MOST_FILES = 40


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
        lines = differences(roles, change)
        lacks = roles.lacks(change)
    except RepositoryError as error:
        refused = error.message
    shown = tuple(_plain(line) for line in lines)
    return Review(
        change.id, _plain(change.describe()), _plain(change.actor), change.at, lacks, shown, _plain(refused)
    )


def unreadable(change_id: str, error: RepositoryError, *, now: datetime) -> Review:
    """The review of a file that is no change."""
    return Review(change_id, "damaged", "nobody knows whom", now, (), (), _plain(error.message))


def differences(roles: Roles, change: Change) -> list[str]:
    """What a change would change, a line each; keys first, since whoever asks may add any number of files."""
    keys: list[str] = []
    files: list[str] = []
    before = roles.root.signed
    for after in change.roots[-1:]:
        for name, role in after.signed.roles.items():
            keys += _keys(name, before.roles[name], role, before.keys | after.signed.keys)
        keys.append(f"root: version {after.signed.version}, until {document.time_text(after.signed.expires)}")
    for name, metadata in change.roles.items():
        was = roles.signed(name) if change.base[name] else Targets(1)
        keys += _delegated(name, was, metadata.signed)
        end = document.time_text(metadata.signed.expires)
        keys.append(f"{name}: version {metadata.signed.version}, until {end}")
        files += _files(roles, name, was, metadata.signed)
    more = [f"and {len(files) - _MOST_FILES} more files"] if len(files) > _MOST_FILES else []
    return [*keys, *files[:_MOST_FILES], *more]


def _files(roles: Roles, name: str, before: Targets, after: Targets) -> list[str]:
    lines = []
    for path in sorted(before.targets.keys() | after.targets.keys()):
        one, other = before.targets.get(path), after.targets.get(path)
        if one != other:
            mark = "new" if one is None else "gone" if other is None else "changed"
            lines.append(f"{name}: {mark} {path}{_offers(roles, one, other)}")
    return lines


def _delegated(name: str, before: Targets, after: Targets) -> Iterator[str]:
    was = before.delegations
    now = after.delegations
    keys = (was.keys if was else {}) | (now.keys if now else {})
    old: dict[str, Role] = dict(was.roles or {}) if was else {}
    new: dict[str, Role] = dict(now.roles or {}) if now else {}
    if was and was.succinct_roles:
        old["its bins"] = was.succinct_roles
    if now and now.succinct_roles:
        new["its bins"] = now.succinct_roles
    beside = [role for role in new if role not in old] if name == "targets" else []
    if beside:  # the screen let it through, so it is a collection's four
        yield f"targets: a new collection, {', '.join(beside)}, signed by the keys of the others"
    for role in (each for each in new if each not in beside):
        yield from _keys(role, old.get(role, Role([], 1)), new[role], keys)


def _keys(name: str, old: Role, new: Role, keys: dict[str, Key]) -> Iterator[str]:
    for keyid in new.keyids:
        if keyid not in old.keyids:
            yield f"{name}: a new key {keyid[:16]} ({keys[keyid].scheme})"
    for keyid in old.keyids:
        if keyid not in new.keyids:
            yield f"{name}: no longer the key {keyid[:16]}"
    if old.threshold != new.threshold:
        yield f"{name}: {new.threshold} signatures instead of {old.threshold}"


def _offers(roles: Roles, before: TargetFile | None, target: TargetFile | None) -> str:
    """What an index would offer, and which halts would be others; nothing for another file."""
    collection, _, rest = ("" if target is None else target.path).partition("/")
    if target is None or rest.split("/")[-1] not in ("index.json", *(f"{each}.json" for each in CHANNELS)):
        return ""
    data = read_target(roles.folder / "targets", target)
    if rest.startswith("halt/"):
        channel = rest[len("halt/") : -len(".json")]
        halts = Halts.from_bytes(data, collection=collection, channel=channel)
        was = Halts(collection, channel)
        if before is not None:
            with contextlib.suppress(RepositoryError):
                data = read_target(roles.folder / "targets", before)
                was = Halts.from_bytes(data, collection=collection, channel=channel)
        both = sorted(dict([*was.counts, *halts.counts]))
        new = [each for each in both if was.count(*each) != halts.count(*each)]
        said = [f"{name} {version} (halt number {halts.count(name, version)})" for name, version in new]
        more = [f"and {len(said) - _MOST_FILES} more"] if len(said) > _MOST_FILES else []
        return f": halts {', '.join([*said[:_MOST_FILES], *more]) or 'nothing more'}"
    channel = rest.removesuffix("/index.json")
    index = Index.from_bytes(data, collection=collection, channel=channel)
    said = []
    for line in index.lines:
        offers = []
        for each in line.offers:
            share = "" if each.rollout is None else f" to {each.rollout.basis_points / 100:g} %"
            offers.append(f"version {each.version}{share}")
        said.append(f"of {line.name} {', then '.join(offers) or 'nothing'}")
    return f": offers {'; '.join(said) or 'nothing'}"


def _plain(text: str) -> str:
    """Without what a terminal would obey: the text is whoever's who made the change."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)[:2000]
