"""A collection holds models: each has its own versions, and what is done to one leaves the others alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coremlops.collection import CHANNELS, Entry
from coremlops.errors import RepositoryError
from coremlops.release import Repository
from coremlops.release.terms import Form
from coremlops.release.upkeep import audit

Models = tuple[Path, Path, Path]


@pytest.fixture
def pair(repository: Repository, models: Models, golden: Path) -> Repository:
    """`detector` at versions 1 and 2 in both channels, `classifier` at version 1."""
    for name, model in (("detector", 0), ("detector", 1), ("classifier", 2)):
        one = replace(repository, name=name)
        one.publish([Form(models[model], golden)])
        one.promote()
    return repository


def of(repository: Repository, name: str) -> Repository:
    return replace(Repository.open(repository.folder), name=name)


def entries(repository: Repository, name: str) -> list[bytes]:
    """Everything that the repository says of a model, as bytes."""
    one = of(repository, name)
    lines = [one.line(channel) for channel in CHANNELS]
    said = [[entry.to_json() for entry in line.offers] for line in lines]
    halts = [[each for each in one.halts(channel).counts if each[0][0] == name] for channel in CHANNELS]
    return [
        json.dumps([said, halts, [line.last_version for line in lines]]).encode(),
        *(one.history(channel).to_bytes() for channel in CHANNELS),
    ]


def test_versions_count_for_each_model(pair: Repository) -> None:
    assert pair.names == ("classifier", "detector")
    now = {line.name: (line.current.version if line.current else 0) for line in pair.index("release").lines}
    assert now == {"classifier": 1, "detector": 2}
    manifest = of(pair, "classifier").manifest(of(pair, "classifier").line("release").offers[0])
    assert (manifest.name, manifest.version) == ("classifier", 1)
    found = audit(pair)
    assert (found.versions, found.problems) == (3, ())
    log = [json.loads(line)["line"] for line in (pair.folder / "audit.jsonl").read_text().splitlines()]
    assert [(line["action"], line["name"], line["version"]) for line in log][-2:] == [
        ("publish", "classifier", 1),
        ("promote", "classifier", 1),
    ]


VERBS: dict[str, Callable[[Repository], Entry]] = {
    "rollout": lambda one: one.rollout("release", 1000, lower=True),
    "halt": lambda one: one.halt("release"),
    "rollback": lambda one: one.rollback("release"),
    "embedded": lambda one: one.offer_embedded("release"),
    "promote": lambda one: one.promote(1),
}


@pytest.mark.parametrize("verb", VERBS)
def test_what_is_done_to_one_model_leaves_the_other_as_it_was(pair: Repository, verb: str) -> None:
    before, own = entries(pair, "classifier"), entries(pair, "detector")
    VERBS[verb](of(pair, "detector"))
    assert entries(pair, "classifier") == before
    assert entries(pair, "detector") != own


def test_a_model_must_be_named_where_there_are_several(
    pair: Repository, models: Models, golden: Path
) -> None:
    for act in (
        lambda: pair.publish([Form(models[0], golden)]),
        lambda: pair.promote(),
        lambda: pair.halt("release"),
        lambda: pair.line("release"),
        lambda: pair.model_name,
    ):
        with pytest.raises(RepositoryError, match="faces holds several models: classifier, detector") as info:
            act()
        assert "--model" in info.value.hint


def test_a_name_that_is_not_there_is_an_error_but_where_a_model_is_made(
    pair: Repository, models: Models, golden: Path
) -> None:
    wrong = of(pair, "detectr")
    before = (pair.folder / "metadata" / "timestamp.json").read_bytes()
    for verb, act in (VERBS | {"name": lambda one: one.model_name}).items():
        with pytest.raises(RepositoryError, match="holds no model 'detectr'; it holds classifier, detector"):
            act(wrong)
        assert (pair.folder / "metadata" / "timestamp.json").read_bytes() == before, verb
    with pytest.raises(RepositoryError, match="a model's name is"):
        of(pair, "../x").publish([Form(models[0], golden)])
    assert of(pair, "third").publish([Form(models[0], golden)]).version == 1
    assert pair.names == ("classifier", "detector", "third")


def test_the_only_model_needs_no_name_and_the_first_is_called_like_the_collection(
    repository: Repository, models: Models, golden: Path
) -> None:
    assert (repository.names, repository.model_name) == ((), "faces")
    repository.publish([Form(models[0], golden)])
    assert (repository.names, repository.model_name) == (("faces",), "faces")


def test_the_same_model_under_two_names_is_stored_once(
    repository: Repository, models: Models, golden: Path
) -> None:
    one, two = (replace(repository, name=name).publish([Form(models[0], golden)]) for name in ("one", "two"))
    assert one.variants[0].model == two.variants[0].model
    assert one.variants[0].manifest != two.variants[0].manifest
    members = repository.manifest(one).members
    stored = [path for path in (repository.folder / "targets/faces/members").iterdir() if path.is_file()]
    assert len(stored) == len({each.sha256 for each in members}) + 2


def test_a_command_that_is_advised_names_the_model(pair: Repository) -> None:
    detector = of(pair, "detector")
    detector.rollback("release")
    with pytest.raises(RepositoryError, match="was rolled back from") as info:
        detector.promote()
    assert "coremlops release promote --model detector --version 2" in info.value.hint
    with pytest.raises(RepositoryError, match="is offered to 100 %") as info:
        detector.rollout("release", 100)
    assert "coremlops release rollout --model detector --channel release" in info.value.hint
