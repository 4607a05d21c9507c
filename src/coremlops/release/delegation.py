"""Who may name which paths: each path belongs to one role alone, so no order of roles decides what is true.

Where two delegations overlap (a diamond), the weaker key may answer for the other's files.
"""

from __future__ import annotations

from itertools import combinations

from tuf.api.metadata import DelegatedRole, Targets

from coremlops.errors import RepositoryError


def check_delegations(role: str, targets: Targets) -> None:
    """Raise `RepositoryError` unless the roles that `role` delegates to are disjoint.

    `targets` delegates by path patterns, each role ending the search; a collection's members to hash bins,
    which are disjoint by what they are; no other role delegates. `targets` names no file itself: a device
    would take its word before that of the role whose path it is.
    """
    if role == "targets" and targets.targets:
        raise RepositoryError(f"targets may name no file itself, it names {min(targets.targets)!r:.100}")
    delegations = targets.delegations
    if delegations is None:
        return
    if role.endswith("-members"):
        if delegations.roles:
            raise RepositoryError(
                f"{role} may delegate to hash bins alone, it names {_names(delegations.roles)}"
            )
        return
    if role != "targets":
        raise RepositoryError(f"{role} may not delegate")
    roles = delegations.roles or {}
    for each in roles.values():
        if not each.paths or each.path_hash_prefixes or not each.terminating:
            raise RepositoryError(f"targets: {each.name} must have paths and end the search")
    for one, other in combinations(roles.values(), 2):
        for path in one.paths or ():
            for beside in other.paths or ():
                if _overlap(path, beside):
                    raise RepositoryError(
                        f"targets: {one.name} ({path}) and {other.name} ({beside}) may name the same file",
                        hint="each path belongs to one role; make targets anew with its key",
                    )


def _overlap(one: str, other: str) -> bool:
    """Whether a path could match both patterns; said also of some that none matches.

    A wildcard matches no slash (TUF 4.5), so patterns meet part by part.
    """
    ours, theirs = one.split("/"), other.split("/")
    return len(ours) == len(theirs) and all(map(_parts_overlap, ours, theirs))


def _parts_overlap(one: str, other: str) -> bool:
    if not (_wild(one) or _wild(other)):
        return one == other
    ends = [_ends(each) for each in (one, other)]
    (start, end), (beside, behind) = ends
    starts_meet = start.startswith(beside) or beside.startswith(start)
    return starts_meet and (end.endswith(behind) or behind.endswith(end))


def _wild(part: str) -> bool:
    return any(each in part for each in "*?[")


def _ends(part: str) -> tuple[str, str]:
    """What stands before the first wildcard and behind the last; all of a part without."""
    wild = [place for place, each in enumerate(part) if each in "*?[]"]
    return (part[: wild[0]], part[wild[-1] + 1 :]) if wild else (part, part)


def _names(roles: dict[str, DelegatedRole]) -> str:
    return ", ".join(roles)
