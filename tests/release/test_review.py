"""Pending changes that somebody with write access to the repository made or altered: none is signed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import DelegatedRole, Delegations

from coremlops.errors import PendingError, RepositoryError
from coremlops.release import Repository
from coremlops.release.change import Change, load, save
from coremlops.release.keys import KeyPlan
from coremlops.release.terms import Form
from tests.release.conftest import Clock

Models = tuple[Path, Path, Path]


@pytest.fixture
def waiting(tmp_path: Path, config: Path, clock: Clock, models: Models, golden: Path) -> Repository:
    """A promotion that has one of its two signatures."""
    plan = KeyPlan({"release": 2})
    made = Repository.init(tmp_path / "repository", clock=clock, plan=plan)
    made.publish([Form(models[0], golden)])
    (made.keys.folder / "release" / "release-2.pem").rename(tmp_path / "second.pem")
    repository = Repository.open(made.folder, clock=clock)
    with pytest.raises(PendingError) as caught:
        repository.promote()
    assert caught.value.exit_code == 3
    assert repository.waiting() == (caught.value.change,)
    (tmp_path / "second.pem").rename(made.keys.folder / "release" / "release-2.pem")
    return Repository.open(made.folder, clock=clock)


def resigned(repository: Repository, alter: Callable[[Change], None]) -> str:
    """The change, altered and signed with one release key: that of a traitor."""
    change = load(repository.folder, repository.waiting()[0])
    (repository.folder / "pending" / f"{change.id}.json").unlink()
    alter(change)
    for metadata in change.roles.values():
        metadata.sign(repository.keys.signers("release")[0])
    save(repository.folder, change)
    return change.id


def test_it_can_be_signed(waiting: Repository) -> None:
    review = waiting.pending()[0]
    assert review.refused == ""
    assert [(each.role, each.have, each.need) for each in review.lacks] == [("faces-release", 1, 2)]
    assert "faces-release: changed faces/release/index.json: offers version 1" in review.differences
    assert waiting.sign(review.id).id == review.id
    assert waiting.pending() == ()


def lives_long(change: Change) -> None:
    change.roles["faces-release"].signed.expires += timedelta(days=900)


def skips(change: Change) -> None:
    change.roles["faces-release"].signed.version += 7


def adds_a_role(change: Change) -> None:
    change.roles["faces-evil"] = copy.deepcopy(change.roles["faces-release"])
    change.base["faces-evil"] = 0


def hides_its_base(change: Change) -> None:
    change.base.clear()


def is_a_timestamp(change: Change) -> None:
    change.roles["timestamp"] = change.roles.pop("faces-release")
    change.base = {"timestamp": 2}


def delegates(change: Change) -> None:
    role = DelegatedRole("mine", [], 1, True, paths=["faces/members/*"])
    change.roles["faces-release"].signed.delegations = Delegations({}, {"mine": role})


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (lives_long, "would live until .*, at most 365 days from now are signed"),
        (skips, "faces-release is to be version 2"),
        (adds_a_role, "faces-evil"),
        (hides_its_base, "does not say what it was made from"),
        (is_a_timestamp, "timestamp"),
        (delegates, "faces-release may not delegate"),
    ],
)
def test_a_change_that_does_what_no_command_would_is_not_signed(
    waiting: Repository, alter: Callable[[Change], None], said: str
) -> None:
    change = resigned(waiting, alter)
    before = sorted(path.name for path in (waiting.folder / "metadata").iterdir())
    with pytest.raises(RepositoryError, match=said):
        waiting.sign(change)
    assert waiting.pending()[0].refused
    assert sorted(path.name for path in (waiting.folder / "metadata").iterdir()) == before


def test_a_change_that_has_grown_too_old_is_not_signed(waiting: Repository, clock: Clock) -> None:
    clock.move(days=366)
    with pytest.raises(RepositoryError, match="faces-release would live until"):
        waiting.sign(waiting.waiting()[0])
    waiting.drop(waiting.waiting()[0])
    assert waiting.pending() == ()
