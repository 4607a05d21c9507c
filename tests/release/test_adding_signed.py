"""A collection that waits for signatures; and pending changes that pretend to be one: none is signed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, SuccinctRoles, Targets

from coremlops.collection import Index
from coremlops.errors import PendingError, RepositoryError
from coremlops.release import Repository
from coremlops.release.change import Change, load, save
from coremlops.release.first import delegated, first_roles
from coremlops.release.keeping import Keeper
from coremlops.release.keys import KeyPlan
from coremlops.release.rotation import Rotation
from coremlops.release.targets import as_target
from coremlops.release.terms import Form
from coremlops.release.upkeep import audit, collect
from tests.release.conftest import Clock
from tests.release.test_adding import keeper, of, roles_of
from tests.release.test_upkeep import age

Models = tuple[Path, Path, Path]


class Away:
    """Keys that are on another machine until they are brought."""

    def __init__(self, repository: Keeper, folder: Path) -> None:
        self.keys, self.folder = repository.keys.folder, folder
        folder.mkdir()

    def take(self, file: str) -> None:
        (self.keys / file).rename(self.folder / Path(file).name)

    def bring(self, file: str) -> None:
        (self.folder / Path(file).name).rename(self.keys / file)


@pytest.fixture
def waiting(tmp_path: Path, config: Path, clock: Clock) -> Keeper:
    """A collection that has one of the two signatures of targets; both keys are here now."""
    made = Repository.init(tmp_path / "repository", "faces", clock=clock, plan=KeyPlan({"targets": 2}))
    away = Away(made, tmp_path / "away")
    away.take("root/targets-2.pem")
    with pytest.raises(PendingError, match="targets has 1 of 2 signatures"):
        keeper(made).add("shop")
    away.bring("root/targets-2.pem")
    return keeper(made)


def test_it_waits_for_the_signatures_that_targets_wants(waiting: Keeper) -> None:
    assert waiting.collections == ("faces",)
    age(waiting.folder, 40)
    assert collect(waiting).files == (), "what it names is not to be collected"
    found = waiting.pending()[0]
    assert (found.refused, found.what) == ("", "add shop")
    assert [(each.role, each.have, each.need) for each in found.lacks] == [("targets", 1, 2)]
    assert (
        "targets: a new collection, shop-halt, shop-release, shop-staging, shop-members, "
        "signed by the keys of the others" in found.differences
    )
    assert "shop-release: new shop/release/index.json: offers nothing" in found.differences
    assert not [each for each in found.differences if "a new key" in each]
    waiting.sign(found.id)
    assert keeper(waiting).collections == ("faces", "shop")
    assert keeper(waiting).pending() == ()
    assert audit(keeper(waiting)).problems == ()


def test_a_machine_with_one_key_alone_asks_and_the_others_give_theirs(
    repository: Repository, tmp_path: Path, models: Models, golden: Path
) -> None:
    """Business holds release and halt, the vault targets, and the publisher has the rest, and commits."""
    away = Away(repository, tmp_path / "away")
    for file in ("root/targets.pem", "release/release.pem", "halt/halt.pem"):
        away.take(file)
    with pytest.raises(PendingError) as caught:
        keeper(repository).add("shop")
    for file in ("release/release.pem", "root/targets.pem"):
        away.bring(file)
        with pytest.raises(PendingError):
            keeper(repository).sign(caught.value.change)
    away.bring("halt/halt.pem")
    keeper(repository).sign(caught.value.change)
    of(repository, "shop").publish([Form(models[0], golden)])
    assert audit(keeper(repository)).problems == ()


def test_it_is_stale_when_targets_changed_since(waiting: Keeper) -> None:
    change = waiting.waiting()[0]
    keeper(waiting).add("cats")
    with pytest.raises(RepositoryError, match="is stale: it was made from targets version 1"):
        keeper(waiting).sign(change)


def test_files_that_a_crash_left_are_passed_over(waiting: Keeper) -> None:
    """Their names may be in a cache, so a role goes on with the next number; such a change is signed too."""
    waiting.drop(waiting.waiting()[0])
    (waiting.folder / "metadata" / "1.shop-halt.json").write_text("{}")
    second = waiting.keys.folder / "root" / "targets-2.pem"
    second.rename(second.with_suffix(".away"))
    with pytest.raises(PendingError):
        keeper(waiting).add("shop")
    second.with_suffix(".away").rename(second)
    keeper(waiting).sign(waiting.waiting()[0])
    assert roles_of(keeper(waiting))["shop-halt"] == 2
    assert roles_of(keeper(waiting))["shop-release"] == 1


def delegations(change: Change) -> dict[str, DelegatedRole]:
    below = change.roles["targets"].signed.delegations
    assert below is not None
    assert below.roles is not None
    return below.roles


def names_more_paths(change: Change) -> None:
    delegations(change)["shop-release"].paths = ["shop/release/*", "shop/anything/*"]


def names_a_wider_path(change: Change) -> None:
    delegations(change)["shop-halt"].paths = ["shop/*/*"]


def does_not_end_the_search(change: Change) -> None:
    delegations(change)["shop-halt"].terminating = False


def takes_a_path_of_the_first(change: Change) -> None:
    delegations(change)["shop-release"].paths = ["faces/release/*"]


def has_a_key_of_its_own(change: Change) -> None:
    key = CryptoSigner.generate_ed25519().public_key
    below = change.roles["targets"].signed.delegations
    assert below is not None
    below.keys[key.keyid] = key
    for role in ("shop-staging", "shop-members"):
        delegations(change)[role].keyids = [key.keyid]


def has_a_key_more(change: Change) -> None:
    key = CryptoSigner.generate_ed25519().public_key
    below = change.roles["targets"].signed.delegations
    assert below is not None
    below.keys[key.keyid] = key
    delegations(change)["shop-release"].keyids.append(key.keyid)


def is_signed_by_another_role(change: Change) -> None:
    delegations(change)["shop-release"].keyids = list(delegations(change)["shop-staging"].keyids)


def wants_fewer(change: Change) -> None:
    delegations(change)["shop-release"].threshold = 1


def changes_the_first_ones_threshold(change: Change) -> None:
    delegations(change)["faces-release"].threshold = 1


def changes_the_first_ones_paths(change: Change) -> None:
    delegations(change)["faces-halt"].paths = ["faces/halt/*", "faces/other/*"]


def stands_before_the_first(change: Change) -> None:
    roles = delegations(change)
    order = [*list(roles)[4:], *list(roles)[:4]]
    below = change.roles["targets"].signed.delegations
    assert below is not None
    below.roles = {name: roles[name] for name in order}


def has_another_order(change: Change) -> None:
    roles = delegations(change)
    order = [*list(roles)[:4], *reversed(list(roles)[4:])]
    below = change.roles["targets"].signed.delegations
    assert below is not None
    below.roles = {name: roles[name] for name in order}


def adds_a_fifth_role(change: Change) -> None:
    role = copy.deepcopy(delegations(change)["shop-halt"])
    role.name, role.paths = "shop-more", ["shop/more/*"]
    delegations(change)["shop-more"] = role


def adds_two(change: Change) -> None:
    first = {key: delegations(change)[f"faces-{key}"] for key in ("halt", "release", "staging")}
    delegations(change).update(delegated("cats", first))


def is_another(change: Change) -> None:
    """The list says shop, the delegations cats."""
    for name in [each for each in delegations(change) if each.startswith("shop")]:
        del delegations(change)[name]
    first = {key: delegations(change)[f"faces-{key}"] for key in ("halt", "release", "staging")}
    delegations(change).update(delegated("cats", first))
    for name, role in first_roles("cats")[0].items():
        change.roles[name] = Metadata(role)
        role.expires = change.roles.pop(name.replace("cats", "shop")).signed.expires
        change.base[name] = change.base.pop(name.replace("cats", "shop"))


def leaves_a_role_out(change: Change) -> None:
    del delegations(change)["shop-members"]


def leaves_a_roles_metadata_out(change: Change) -> None:
    del change.roles["shop-members"], change.base["shop-members"]


def calls_itself_a_renewal(change: Change) -> None:
    change.act = type(change.act)("renew", "shop")


def has_an_impossible_name(change: Change) -> None:
    change.act = type(change.act)("add", "../shop")


def says_that_it_adds_the_first(change: Change) -> None:
    change.act = type(change.act)("add", "faces")


def offers_something_already(change: Change) -> None:
    target, _ = as_target("shop/release/index.json", Index("shop", "release").to_bytes())
    target.path = "shop/release/more.json"
    change.roles["shop-release"].signed.targets[target.path] = target


def lacks_its_index(change: Change) -> None:
    change.roles["shop-release"].signed.targets.clear()


def has_bins_already(change: Change) -> None:
    keyids = delegations(change)["shop-members"].keyids
    below = change.roles["targets"].signed.delegations
    assert below is not None
    bins = SuccinctRoles(list(keyids), 1, 1, "shop-members1")
    change.roles["shop-members"].signed.delegations = Delegations(
        {each: below.keys[each] for each in keyids}, succinct_roles=bins
    )


def changes_the_first_beside_it(change: Change) -> None:
    change.base["faces-halt"] = 1
    change.roles["faces-halt"] = Metadata(Targets(2, expires=change.roles["shop-halt"].signed.expires))


def begins_later(change: Change) -> None:
    change.roles["shop-halt"].signed.version = 9


def lives_long(change: Change) -> None:
    change.roles["shop-halt"].signed.expires = change.roles["targets"].signed.expires


AS_THE_OTHERS = "does not add shop as the others are"


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (names_more_paths, AS_THE_OTHERS),
        (names_a_wider_path, AS_THE_OTHERS),
        (does_not_end_the_search, AS_THE_OTHERS),
        (takes_a_path_of_the_first, AS_THE_OTHERS),
        (has_a_key_of_its_own, AS_THE_OTHERS),
        (has_a_key_more, AS_THE_OTHERS),
        (is_signed_by_another_role, AS_THE_OTHERS),
        (wants_fewer, AS_THE_OTHERS),
        (changes_the_first_ones_threshold, AS_THE_OTHERS),
        (changes_the_first_ones_paths, AS_THE_OTHERS),
        (stands_before_the_first, AS_THE_OTHERS),
        (has_another_order, AS_THE_OTHERS),
        (adds_a_fifth_role, AS_THE_OTHERS),
        (adds_two, AS_THE_OTHERS),
        (leaves_a_role_out, AS_THE_OTHERS),
        (is_another, "changes other roles beside it"),
        (leaves_a_roles_metadata_out, "changes other roles beside it"),
        (changes_the_first_beside_it, "changes other roles beside it"),
        (calls_itself_a_renewal, "no command changes which role names which paths"),
        (has_an_impossible_name, "a collection's name is"),
        (says_that_it_adds_the_first, "has a collection faces already"),
        (offers_something_already, "adds a collection that is not empty: shop-release"),
        (lacks_its_index, "adds a collection that is not empty: shop-release"),
        (has_bins_already, "adds a collection that is not empty: shop-members"),
        (begins_later, "shop-halt is to be version 1"),
        (lives_long, "shop-halt would live until"),
    ],
)
def test_a_change_that_is_no_such_addition_is_not_signed(
    tmp_path: Path, config: Path, clock: Clock, alter: Callable[[Change], None], said: str
) -> None:
    """By whoever has all of the keys but one of targets, and the disk."""
    plan = KeyPlan({"targets": 2, "release": 2})
    made = Repository.init(tmp_path / "repository", "faces", clock=clock, plan=plan)
    away = Away(made, tmp_path / "away")
    away.take("root/targets-2.pem")
    with pytest.raises(PendingError):
        keeper(made).add("shop")
    change = load(made.folder, made.waiting()[0])
    made.drop(change.id)
    alter(change)
    for name, metadata in change.roles.items():
        metadata.sign(made.keys.signers("targets" if name == "targets" else "staging")[0])
    save(made.folder, change)
    away.bring("root/targets-2.pem")
    before = sorted(path.name for path in (made.folder / "metadata").iterdir())
    with pytest.raises(RepositoryError, match=said):
        keeper(made).sign(change.id)
    assert said in keeper(made).pending()[0].refused
    assert sorted(path.name for path in (made.folder / "metadata").iterdir()) == before
    assert keeper(made).collections == ("faces",)


def test_an_addition_that_brings_a_root_is_not_signed(waiting: Keeper) -> None:
    change = load(waiting.folder, waiting.waiting()[0])
    waiting.drop(change.id)
    roles = waiting.roles()
    change.roots, change.base["root"] = [roles.renewed(copy.deepcopy(roles.root), "root")], 1
    save(waiting.folder, change)
    with pytest.raises(RepositoryError, match="changes other roles beside it"):
        waiting.sign(change.id)


def test_a_rotation_that_gives_one_collection_other_keys_is_not_signed(repository: Repository) -> None:
    """All collections have the same: what is done for one key counts for each of them."""
    keeper(repository).add("shop")
    repository.keys.path("timestamp").unlink()
    with pytest.raises(PendingError) as caught:
        keeper(repository).rotate(Rotation(("halt",)))
    change = load(repository.folder, caught.value.change)
    delegations(change)["shop-halt"].keyids = list(delegations(change)["shop-release"].keyids)
    change.roles["targets"].sign(repository.keys.signers("targets")[0])
    repository.drop(caught.value.change)
    save(repository.folder, change)
    with pytest.raises(RepositoryError, match="shop-halt would have other keys than its like"):
        keeper(repository).sign(change.id)
