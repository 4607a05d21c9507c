"""What is signed where somebody else asks for it can be had by devices, and is of the model that is named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coremlops.collection import Entry, History, Line
from coremlops.errors import PendingError, RepositoryError
from coremlops.release import Repository
from coremlops.release.change import load, save
from coremlops.release.contents import Contents
from coremlops.release.forgetting import forget
from coremlops.release.keeping import Keeper
from coremlops.release.keys import KeyPlan
from coremlops.release.terms import Form
from coremlops.release.upkeep import audit
from tests.release.conftest import Clock
from tests.release.models import write_model

Models = tuple[Path, Path, Path]


@pytest.fixture
def careful(tmp_path: Path, config: Path, clock: Clock, models: Models, golden: Path) -> Repository:
    """Two models, each at version 1 in release and 2 on staging; two release keys sign, one is away."""
    made = Repository.init(tmp_path / "repository", "app", clock=clock, plan=KeyPlan({"release": 2}))
    for model in models[:2]:
        for name in ("classifier", "detector"):
            replace(made, name=name).publish([Form(model, golden)])
            if model == models[0]:
                replace(made, name=name).promote()
    away(made)
    return made


def away(repository: Repository) -> None:
    key = repository.keys.folder / "release" / "release-2.pem"
    key.rename(repository.folder.parent / key.name)


def back(repository: Repository) -> Keeper:
    key = repository.keys.folder / "release" / "release-2.pem"
    (repository.folder.parent / key.name).rename(key)
    return Keeper.open(repository.folder, clock=repository.clock)


def of(repository: Keeper, name: str) -> Repository:
    return Repository.open(repository.folder, name=name, clock=repository.clock)


def asked(repository: Repository, name: str, version: int | None = None) -> str:
    with pytest.raises(PendingError) as caught:
        of(repository, name).promote(version)
    return caught.value.change


def test_a_version_that_was_forgotten_meanwhile_is_not_promoted(
    careful: Repository, tmp_path: Path, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its members are named no longer: a device that it is offered to would look for them in vain."""
    monkeypatch.setattr("coremlops.collection.index.MAX_OFFERS", 2)
    change = asked(careful, "detector")
    for number in range(3):
        model = write_model(tmp_path / f"later{number}.mlpackage", gain=0.1 + number / 100, extra_bytes=500)
        of(careful, "detector").publish([Form(model, golden)])
    assert [each.versions for each in forget(careful, 2)] == [(2, 3)]
    signer = back(careful)
    assert "version 2" in signer.pending()[0].refused
    with pytest.raises(RepositoryError, match="version 2"):
        signer.sign(change)
    assert versions(signer, "release") == [1]
    assert audit(signer).problems == ()


def test_a_version_that_was_promoted_meanwhile_is_not_forgotten(
    tmp_path: Path, config: Path, clock: Clock, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coremlops.collection.index.MAX_OFFERS", 2)
    made = Repository.init(tmp_path / "repository", "detector", clock=clock, plan=KeyPlan({"staging": 2}))
    for number in range(5):
        model = write_model(tmp_path / f"{number}.mlpackage", gain=0.1 + number / 100, extra_bytes=500)
        made.publish([Form(model, golden)])
    key = made.keys.folder / "online" / "staging-2.pem"
    key.rename(tmp_path / key.name)
    with pytest.raises(PendingError) as caught:
        forget(Keeper.open(made.folder, clock=clock), 2)
    of(made, "detector").promote(2)
    (tmp_path / key.name).rename(key)
    with pytest.raises(RepositoryError, match="would offer what no device can have: version 2"):
        Keeper.open(made.folder, clock=clock).sign(caught.value.change)
    assert audit(made).problems == ()


def test_a_promotion_of_one_model_changes_no_other(careful: Repository) -> None:
    """Two promotions in one change, and a person is told of the first."""
    asked(careful, "detector")

    def alter(contents: Contents) -> None:
        for name in ("classifier", "detector"):
            put(contents, name, lambda line: of(careful, line.name).line("staging").offers)

    change = by_a_traitor(careful, alter)
    with pytest.raises(RepositoryError) as caught:
        back(careful).sign(change)
    assert caught.value.message == (
        f"change {change} is to promote detector 2 in release of app, "
        "and would change classifier in release of app"
    )


def test_a_model_that_no_command_names_is_not_taken_away(careful: Repository) -> None:
    asked(careful, "detector")

    def alter(contents: Contents) -> None:
        index = contents.index("release")
        contents._indexes["release"] = replace(index, lines=index.lines[1:])
        put(contents, "detector", lambda line: line.offers)

    with pytest.raises(RepositoryError, match="and would change classifier in release of app"):
        back(careful).sign(by_a_traitor(careful, alter))


def test_a_version_of_another_model_is_not_offered(careful: Repository) -> None:
    asked(careful, "detector")

    def alter(contents: Contents) -> None:
        put(contents, "detector", lambda line: of(careful, "classifier").line("staging").offers)

    with pytest.raises(RepositoryError, match=r"the manifest of detector version 2, default .* is of app's"):
        back(careful).sign(by_a_traitor(careful, alter))


@pytest.mark.parametrize(
    ("name", "alter", "said"),
    [
        ("classifier", lambda history: history.entries[1:], "and would change classifier in release of app"),
        ("detector", lambda history: (*history.entries, replace(history.entries[0], version=3)), "never had"),
    ],
)
def test_a_history_holds_what_was_offered_and_is_left_alone(
    careful: Repository, name: str, alter: Callable[[History], tuple[Entry, ...]], said: str
) -> None:
    """A later rollback would go by it."""
    asked(careful, "detector")

    def spoil(contents: Contents) -> None:
        put(contents, "detector", lambda line: of(careful, "detector").line("staging").offers)
        line, history = contents.index("release").line(name), contents.history("release", name)
        if name == "detector":
            history = replace(of(careful, name).history("staging"), channel="release")
        contents.put_line(line, replace(history, entries=alter(history)))

    with pytest.raises(RepositoryError, match=said):
        back(careful).sign(by_a_traitor(careful, spoil))


def test_a_file_that_is_lost_already_keeps_no_other_version_back(careful: Repository) -> None:
    change = asked(careful, "detector")
    classifier = of(careful, "classifier")
    entry = classifier.line("release").offers[0]
    member = next(
        each.sha256 for each in classifier.manifest(entry).members if each.path.endswith("model.mlmodel")
    )
    detectors = of(careful, "detector")
    assert (
        detectors.manifest(detectors.line("release").offers[0]).members == classifier.manifest(entry).members
    )
    (careful.folder / "targets/app/members" / f"{member}.{member}").unlink()
    back(careful).sign(change)
    assert versions(careful, "release") == [2, 1]


def versions(repository: Keeper, channel: str) -> list[int]:
    return [each.version for each in of(repository, "detector").line(channel).offers]


def put(contents: Contents, name: str, offers: Callable[[Line], tuple[Entry, ...]]) -> None:
    line = contents.index("release").line(name)
    changed = replace(line, offers=offers(line), last_version=2)
    history = contents.history("release", name)
    for entry in reversed(changed.offers):
        history = history.having(entry)
    contents.put_line(changed, history)


def by_a_traitor(repository: Repository, alter: Callable[[Contents], None]) -> str:
    """The waiting change with other contents, signed with the release key that is here."""
    change = load(repository.folder, repository.waiting()[0])
    contents = of(repository, "detector").contents()
    alter(contents)
    role = contents.roles.targets("app-release")
    change.roles["app-release"].signed.targets = role.signed.targets
    change.roles["app-release"].sign(repository.keys.here("release")[0])
    (repository.folder / "pending" / f"{repository.waiting()[0]}.json").unlink()
    save(repository.folder, change)
    return change.id
