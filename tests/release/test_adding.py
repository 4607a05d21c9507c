"""A second collection in a repository: four roles more, in one commit; nothing of the first changes."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coremlops.collection import CHANNELS, channel_role, halt_role, members_role
from coremlops.errors import RepositoryError
from coremlops.release import Repository
from coremlops.release import adding as adding_module
from coremlops.release.expiry import Expiry, without_bin
from coremlops.release.first import role_paths
from coremlops.release.keeping import Keeper
from coremlops.release.roles import Roles
from coremlops.release.rotation import Rotation
from coremlops.release.signing import key_of
from coremlops.release.terms import Form
from coremlops.release.upkeep import audit

Models = tuple[Path, Path, Path]
PLAIN = ["faces-halt", "faces-release", "faces-staging", "faces-members"]


def keeper(repository: Keeper) -> Keeper:
    return Keeper.open(repository.folder, clock=repository.clock)


def of(repository: Keeper, collection: str, name: str | None = None) -> Repository:
    return Repository.open(repository.folder, collection, name, clock=repository.clock)


def files(repository: Keeper, collection: str) -> dict[str, bytes]:
    """All files of a collection, by their place: its roles' metadata, and its targets."""
    metadata = {*role_paths(collection)}
    return {
        path.relative_to(repository.folder).as_posix(): path.read_bytes()
        for part in ("metadata", f"targets/{collection}")
        for path in (repository.folder / part).rglob("*")
        if path.is_file() and (part != "metadata" or without_bin(path.name.split(".")[1]) in metadata)
    }


def roles_of(repository: Keeper) -> dict[str, int]:
    return {each.role: each.version for each in repository.status()}


@pytest.fixture
def both(repository: Repository, models: Models, golden: Path) -> Keeper:
    """Collections faces and shop, of two models each."""
    keeper(repository).add("shop")
    for collection in ("faces", "shop"):
        of(repository, collection, "classifier").publish([Form(models[0], golden)])
        of(repository, collection, "detector").publish([Form(models[1], golden)])
    return keeper(repository)


def test_a_collection_is_added_by_one_commit(repository: Repository) -> None:
    before = files(repository, "faces")
    whole = keeper(repository)
    whole.add("shop")
    assert whole.collections == ("faces", "shop")
    assert [each.role for each in whole.status()] == [
        *("root", "targets", *PLAIN, "shop-halt", "shop-release", "shop-staging", "shop-members"),
        *("snapshot", "timestamp"),
    ]
    versions = roles_of(whole)
    assert {each: versions[each] for each in versions if "shop" in each} == dict.fromkeys(
        role_paths("shop"), 1
    )
    assert (versions["targets"], versions["snapshot"], versions["timestamp"]) == (2, 2, 2)
    assert files(repository, "faces") == before
    shop = of(repository, "shop")
    assert [shop.index(each).lines for each in CHANNELS] == [(), ()]
    assert [shop.halts(each).counts for each in CHANNELS] == [(), ()]
    found = audit(whole)
    assert (found.problems, found.lines) == ((), 1)
    line = json.loads((repository.folder / "audit.jsonl").read_text())["line"]
    assert (line["action"], line["collection"], line["name"]) == ("add", "shop", "")
    assert line["roles"] == {"targets": 2, **dict.fromkeys(role_paths("shop"), 1)}


def test_its_roles_stand_as_those_of_the_first(repository: Repository) -> None:
    """By the same keys, in the same order, and each ends the search."""
    keeper(repository).add("shop")
    delegations = keeper(repository).roles().targets("targets").signed.delegations
    assert delegations is not None
    assert delegations.roles is not None
    plain = [each.to_dict() for each in delegations.roles.values()]
    assert plain[4:] == [json.loads(json.dumps(each).replace("faces", "shop")) for each in plain[:4]]
    assert [each["paths"] for each in plain[4:]] == [[each] for each in role_paths("shop").values()]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("faces", "has a collection faces already"),
        ("Shop", "a collection's name is 1 to 40 of a-z, 0-9 and '-'"),
        ("../shop", "a collection's name is"),
        ("", "a collection's name is"),
    ],
)
def test_a_name_that_cannot_be_adds_nothing(repository: Repository, name: str, said: str) -> None:
    before = roles_of(repository)
    with pytest.raises(RepositoryError, match=said):
        keeper(repository).add(name)
    assert roles_of(repository) == before
    assert not (repository.folder / "pending").exists()


def test_there_is_an_end_to_collections(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adding_module, "MOST_COLLECTIONS", 2)
    keeper(repository).add("shop")
    with pytest.raises(RepositoryError, match="has 2 collections; no more are possible"):
        keeper(repository).add("third")


def test_without_any_of_its_keys_none_is_added(repository: Repository) -> None:
    for name in ("targets", "halt", "release", "staging"):
        repository.keys.path(name).unlink()
    with pytest.raises(RepositoryError, match="no key that signs a new collection is here"):
        keeper(repository).add("shop")
    assert not (repository.folder / "targets" / "shop").exists()
    assert not (repository.folder / "pending").exists()


def test_a_repository_of_several_asks_which_one_is_meant(both: Keeper) -> None:
    with pytest.raises(RepositoryError, match="has several collections: faces, shop") as caught:
        Repository.open(both.folder)
    assert caught.value.hint == "name one: --collection NAME"
    with pytest.raises(RepositoryError, match="has no collection 'cats'; it has faces, shop") as caught:
        Repository.open(both.folder, "cats")
    assert caught.value.hint == "coremlops repo add NAME   makes one"


def test_what_is_done_in_one_touches_nothing_of_the_other(both: Keeper, models: Models, golden: Path) -> None:
    before = files(both, "faces")
    assert len(before) > 10
    detector = of(both, "shop", "detector")
    detector.publish([Form(models[2], golden)])
    detector.promote()
    detector.rollout("release", 1000, lower=True)
    detector.halt("release")
    detector.rollback("staging")
    assert files(both, "faces") == before
    assert of(both, "faces", "detector").line("staging").last_version == 1
    assert detector.line("staging").last_version == 2
    assert audit(keeper(both)).problems == ()


TRICKY = ["a", "a-halt", "a-members", "a-members2-3", "a-staging", "a-members-members", "a-release", "0-0"]


def test_names_that_begin_as_roles_of_others_are_told_apart(
    tmp_path: Path, config: Path, models: Models, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coremlops.release.members.FLAT", 2)
    whole: Keeper = Repository.init(tmp_path / "repository", TRICKY[0])
    for name in TRICKY[1:]:
        whole.add(name)
    assert whole.collections == tuple(TRICKY)
    for name in TRICKY:
        of(whole, name).publish([Form(models[0], golden)])
        assert len(whole.roles().bins(name)) > 1
    for name in TRICKY:
        before = {each: files(whole, each) for each in TRICKY if each != name}
        of(whole, name).publish([Form(models[1], golden)])
        assert of(whole, name).line("staging").last_version == 2
        assert {each: files(whole, each) for each in before} == before
    whole.renew([members_role("a-members"), "a-members"])
    whole.rotate(Rotation(("staging", "release")))
    assert audit(keeper(whole)).problems == ()


_NAME = st.from_regex(
    r"[a-c0-1][a-c0-1-]{0,8}|[ab](-(halt|release|staging|members[0-9]?(-[0-9a-f])?)){0,3}", fullmatch=True
)


@settings(max_examples=300, deadline=None)
@given(st.sets(_NAME, min_size=2, max_size=4), st.integers(1, 14))
def test_no_two_collections_have_a_role_in_common(names: set[str], bits: int) -> None:
    """Nor does a bin of one look like a role, or a bin, of another; each name tells whose it is."""
    seen: dict[str, str] = {}
    for name in names:
        bins = [f"{members_role(name)}{bits}-{each:x}" for each in (0, 2**bits - 1)]
        for role in [*role_paths(name), *dict.fromkeys(bins)]:
            assert seen.setdefault(role, name) == name
            is_bin = role in bins
            assert Roles.is_bin(role) is is_bin
            assert without_bin(role) == (members_role(name) if is_bin else role)
        kinds = {halt_role(name): "halt", channel_role(name, "release"): "release"}
        assert [key_of(each) for each in seen if seen[each] == name] == [
            kinds.get(each, "staging") for each in seen if seen[each] == name
        ]
        assert Expiry().lifetime(halt_role(name)) == timedelta(days=90)
        assert Expiry().lifetime(channel_role(name, "release")) == timedelta(days=365)
