"""What differs between two sets of ingredients, in words."""

from __future__ import annotations

from collections.abc import Mapping

from coremlops.pipeline.key import Ingredients
from coremlops.pipeline.project import ReadyStep
from coremlops.pipeline.store import Store

_NAMED = 3
_BY_CONTENT = ("editable ", "path ")


def differences(
    old: Ingredients,
    new: Ingredients,
    ready: ReadyStep,
    store: Store,
    listings: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """One line for each ingredient that changed, most telling first.

    `listings`: tree digest to files, for trees that the store does not know yet.
    """

    def listing(digest: str) -> Mapping[str, str] | None:
        return listings.get(digest) or store.listing(digest)

    lines = []
    if old.command != new.command:
        lines.append(f"command: {old.command!r} -> {new.command!r}")
    lines += [f"parameter {line}" for line in changes(old.params, new.params)]
    sources = {source.name: source for source in ready.step.inputs}
    for name in sorted({*old.inputs, *new.inputs}):
        before, after = old.inputs.get(name), new.inputs.get(name)
        if before == after:
            continue
        if before is None or after is None:
            lines.append(f"input {name}: {'removed' if after is None else 'new'}")
            continue
        step = sources[name].step if name in sources else None
        what = f"{step}'s output changed" if step else "changed"
        lines.append(f"input {name}: {_files(listing(before), listing(after), what, bool(step))}")
    for name in sorted({*old.code, *new.code}):
        if old.code.get(name) != new.code.get(name):
            folder = _folder_name(ready) if name == "step" else name
            lines += _code(folder, listing(old.code.get(name, "")), listing(new.code.get(name, "")))
    lines += changes(old.distributions, new.distributions, colon="")
    if old.python != new.python:
        lines.append(f"Python: {old.python} -> {new.python}")
    lines += [f"{kind} changed" for kind in changed_keys(old.environment, new.environment)]
    return lines


def changed_keys(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    return [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]


def changes(old: Mapping[str, str], new: Mapping[str, str], colon: str = ":") -> list[str]:
    """`name: old -> new` for what changed, `name: new (x)`, `name: removed (x)`."""
    lines = []
    for name in changed_keys(old, new):
        if name not in old:
            lines.append(f"{name}: new ({new[name]})")
        elif name not in new:
            lines.append(f"{name}: removed (was {old[name]})")
        elif old[name].startswith(_BY_CONTENT) and new[name].startswith(_BY_CONTENT):
            lines.append(f"{name}: its code changed")
        else:
            lines.append(f"{name}{colon} {old[name]} -> {new[name]}")
    return lines


def _folder_name(ready: ReadyStep) -> str:
    return str(ready.step.path or f"component {ready.step.uses}")


def _files(
    before: Mapping[str, str] | None, after: Mapping[str, str] | None, what: str, of_step: bool
) -> str:
    if before is None or after is None:
        return what
    added, removed, changed = _sets(before, after)
    sets = ((added, "added"), (removed, "removed"), (changed, "changed"))
    counts = [f"{len(names)} {word}" for names, word in sets if names]
    if counts:
        number, word = counts[0].split(" ")
        counts[0] = f"{number} {'file' if number == '1' else 'files'} {word}"
    names = [*added, *removed, *changed]
    shown = " ".join(names[:_NAMED]) + (" ..." if len(names) > _NAMED else "")
    detail = f"{', '.join(counts)}: {shown}"
    return f"{what} ({detail})" if of_step else detail


def _code(folder: str, before: Mapping[str, str] | None, after: Mapping[str, str] | None) -> list[str]:
    if before is None or after is None:
        return [f"code: {folder} changed"]
    lines = []
    for names, word in zip(_sets(before, after), ("added", "removed", "changed"), strict=True):
        lines += [f"code: {folder}/{name} {word}" for name in names[:_NAMED]]
        if len(names) > _NAMED:
            lines.append(f"code: {len(names) - _NAMED} more files of {folder} {word}")
    return lines


def _sets(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[list[str], list[str], list[str]]:
    added = sorted(set(after) - set(before))
    removed = sorted(set(before) - set(after))
    changed = sorted(name for name in set(before) & set(after) if before[name] != after[name])
    return added, removed, changed
