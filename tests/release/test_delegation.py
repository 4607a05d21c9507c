"""Disjoint roles: no path may be named by two."""

from __future__ import annotations

from fnmatch import fnmatchcase
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuf.api.metadata import DelegatedRole, Delegations, SuccinctRoles, Targets

from coremlops.errors import RepositoryError
from coremlops.release import Repository
from coremlops.release.delegation import check_delegations


def targets(*paths: list[str] | None, terminating: bool = True) -> Targets:
    roles = {
        f"role{place}": DelegatedRole(
            f"role{place}", [], 1, terminating, paths=each, path_hash_prefixes=None if each else ["0"]
        )
        for place, each in enumerate(paths)
    }
    return Targets(1, delegations=Delegations({}, roles))


@pytest.mark.parametrize(
    "paths",
    [
        (["faces/*"], ["faces/a"]),
        (["faces/release/*"], ["faces/*/*"]),
        (["faces/release/*", "x/*"], ["y/*", "x/*"]),
        (["faces/rel*"], ["faces/*ease"]),
        (["faces/[rs]taging/*"], ["faces/staging/*"]),
        (["*"], ["a?"]),
    ],
)
def test_a_diamond_is_refused(paths: tuple[list[str], list[str]]) -> None:
    for one, other in (paths, paths[::-1]):
        with pytest.raises(RepositoryError, match=r"role0 .* and role1 .* may name the same file"):
            check_delegations("targets", targets(one, other))


@pytest.mark.parametrize(
    "paths",
    [
        (["faces/release/*"], ["faces/staging/*"]),
        (["faces/release/*"], ["dogs/release/*"]),
        (["faces/*"], ["faces/*/*"]),
        (["a/*.json"], ["a/*.png"]),
        (["a/x*"], ["a/y*"]),
    ],
)
def test_disjoint_roles_are_accepted(paths: tuple[list[str], list[str]]) -> None:
    check_delegations("targets", targets(*paths))


_PATTERN = st.lists(st.text("ab*?", min_size=1, max_size=4), min_size=1, max_size=2).map("/".join)


@settings(max_examples=300, deadline=None)
@given(_PATTERN, _PATTERN)
def test_what_is_accepted_has_no_path_in_common(one: str, other: str) -> None:
    """Every path of up to two parts of up to three letters is tried, with TUF's rule of a wildcard a part."""
    try:
        check_delegations("targets", targets([one], [other]))
    except RepositoryError:
        return

    def matches(path: str, pattern: str) -> bool:
        parts, wanted = path.split("/"), pattern.split("/")
        return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))

    words = ["".join(each) for size in (1, 2, 3) for each in product("ab", repeat=size)]
    paths = [*words, *("/".join(each) for each in product(words, repeat=2))]
    assert not [path for path in paths if matches(path, one) and matches(path, other)]


def test_a_role_that_does_not_end_the_search_is_refused() -> None:
    with pytest.raises(RepositoryError, match="role0 must have paths and end the search"):
        check_delegations("targets", targets(["a/*"], terminating=False))
    with pytest.raises(RepositoryError, match="role0 must have paths and end the search"):
        check_delegations("targets", targets(None))


@pytest.mark.parametrize(
    ("role", "said"),
    [
        ("faces-release", "may not delegate"),
        ("faces-members", "may delegate to hash bins alone, it names role0"),
    ],
)
def test_a_role_that_delegates_where_none_may_is_refused(role: str, said: str) -> None:
    with pytest.raises(RepositoryError, match=said):
        check_delegations(role, targets(["a/*"]))


def test_hash_bins_are_disjoint_by_what_they_are() -> None:
    bins = Targets(1, delegations=Delegations({}, succinct_roles=SuccinctRoles([], 1, 4, "faces-members4")))
    check_delegations("faces-members", bins)


def test_what_we_make_is_disjoint(repository: Repository) -> None:
    assert len(repository.status()) == 8
