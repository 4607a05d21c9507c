"""What differs between two versions of a model: their forms, the files of each, and for whom they are."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from coremlops.collection import CHANNELS, Entry, Manifest
from coremlops.errors import RepositoryError
from coremlops.release import Repository


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file of a variant. `before`, `after`: its bytes, None where it is not there."""

    path: str
    before: int | None
    after: int | None


@dataclass(frozen=True, slots=True)
class VariantChange:
    """A variant of two versions: what happened to it, its model, and what a device that had it must fetch.

    `what`: "added", "removed", "changed" or "same". `fetch`: bytes of files that the version before has not.
    """

    name: str
    what: str
    models: tuple[str | None, str | None]
    fetch: int
    files: tuple[FileChange, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two versions of a model. `terms`: what is said of whom they are for, before and after, where that
    differs."""

    name: str
    before: int
    after: int
    variants: tuple[VariantChange, ...]
    terms: dict[str, tuple[Any, Any]]

    def to_json(self) -> dict[str, Any]:
        """The JSON object of `release diff --json`."""
        return asdict(self)


def difference(repository: Repository, before: int | None, after: int | None) -> Difference:
    """What `after` has that `before` has not; release's current version, and staging's, unless named.

    Raises `RepositoryError` for versions that no channel ever had.
    """
    name = repository.model_name
    one, two = (
        _entry(repository, channel, version) for channel, version in (("release", before), ("staging", after))
    )
    named = dict.fromkeys(each.name for entry in (two, one) for each in entry.variants)
    forms = [_forms(repository, entry) for entry in (one, two)]
    had = {member.sha256 for manifest in forms[0].values() for member in manifest.members}
    variants = tuple(_variant(form, forms[0].get(form), forms[1].get(form), had) for form in named)
    said = [entry.to_json() for entry in (one, two)]
    keys = sorted((said[0].keys() | said[1].keys()) - {"version", "published", "variants"})
    terms = {
        key: (said[0].get(key), said[1].get(key)) for key in keys if said[0].get(key) != said[1].get(key)
    }
    for form in named:
        needs = [_requires(entry, form) for entry in (one, two)]
        if needs[0] != needs[1]:
            terms[f"{form} requires"] = (needs[0], needs[1])
    return Difference(name, one.version, two.version, variants, terms)


def _entry(repository: Repository, channel: str, version: int | None) -> Entry:
    if version is None:
        current = repository.line(channel).current
        if current is None:
            raise RepositoryError(f"{channel} has no version yet", hint="name two versions")
        return current
    for each in CHANNELS:
        found = repository.history(each).find(version)
        if found is not None:
            return found
    raise RepositoryError(f"no channel has a version {version}", hint="see `coremlops release list`")


def _forms(repository: Repository, entry: Entry) -> dict[str, Manifest]:
    return {each.name: repository.manifest(entry, each.name) for each in entry.variants}


def _requires(entry: Entry, name: str) -> Any:
    return next((each.to_json().get("requires") for each in entry.variants if each.name == name), None)


def _variant(name: str, one: Manifest | None, two: Manifest | None, had: set[str]) -> VariantChange:
    before = {member.path: member for member in one.members} if one else {}
    after = {member.path: member for member in two.members} if two else {}
    files = tuple(
        FileChange(
            path,
            before[path].length if path in before else None,
            after[path].length if path in after else None,
        )
        for path in sorted(before.keys() | after.keys())
        if path not in before or path not in after or before[path].sha256 != after[path].sha256
    )
    new = {member.sha256: member.length for member in after.values() if member.sha256 not in had}
    what = "added" if one is None else "removed" if two is None else "changed" if files else "same"
    models = (one.model if one else None, two.model if two else None)
    return VariantChange(name, what, models, sum(new.values()), files)
