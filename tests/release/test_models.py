"""A collection holds models: each has its own versions, and what is done to one leaves the others alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from coremlops.collection import CHANNELS, Entry, Rule, System, index_path
from coremlops.errors import RepositoryError
from coremlops.release import Repository
from coremlops.release.audit import Act
from coremlops.release.targets import as_target, write_served
from coremlops.release.terms import Form, Terms
from coremlops.release.upkeep import audit
from tests.release.models import write_model

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
    pair.add("shop")
    with pytest.raises(RepositoryError, match="was rolled back from") as info:
        detector.promote()
    assert f"promote --collection {pair.collection} --model detector --version 2" in info.value.hint


@pytest.mark.parametrize("index", [b"{}\n", b"no index"])
@pytest.mark.parametrize("verb", ["halt", "rollback", "rollout"])
def test_staging_key_theft_keeps_release_from_nothing(
    repository: Repository, models: Models, golden: Path, verb: str, index: bytes
) -> None:
    """Whoever has the key of staging writes what nobody can read; release is halted all the same."""
    for model in models[:2]:
        repository.publish([Form(model, golden)])
        repository.promote()
    contents = repository.contents()
    target, file = as_target(index_path("faces", "staging"), index)
    write_served(repository.folder / "targets" / file, index)
    contents.roles.targets("faces-staging").signed.targets[target.path] = target
    contents.roles.commit(["faces-staging"], Act("publish", "faces"))
    for name in (None, "faces"):
        one = replace(Repository.open(repository.folder), name=name)
        assert one.names == ("faces",)
        changes: dict[str, Callable[[], Entry]] = {
            "halt": partial(one.halt, "release"),
            "rollback": partial(one.rollback, "release", 1),
            "rollout": partial(one.rollout, "release", 10_000),
        }
        assert changes[verb]().version == (1 if verb == "rollback" else 2)
        with pytest.raises(RepositoryError, match=r"^faces/staging/index\.json: index: "):
            one.publish([Form(models[2], golden)])


def no_device(form: Form) -> Form:
    return replace(form, requires=Rule(os=(System("iOS"),), device_class=("watch",)))


@pytest.mark.parametrize(
    ("limit", "alter", "expected"),
    [
        ("MAX_MODELS", replace, "faces would hold 3 models, at most 2 are possible"),
        ("MAX_INDEX_BYTES", replace, "the index of staging would have "),
        ("MAX_HALTS", no_device, "no device can get version 1: "),
    ],
)
def test_a_version_that_is_refused_leaves_no_copy_of_a_model(
    pair: Repository,
    tmp_path: Path,
    golden: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    alter: Callable[[Form], Form],
    expected: str,
) -> None:
    size = len(pair.index("staging").to_bytes())
    monkeypatch.setattr(
        f"coremlops.collection.index.{limit}", {"MAX_MODELS": 2, "MAX_INDEX_BYTES": size}.get(limit, 500)
    )
    before = sorted(pair.folder.rglob("*"))
    model = write_model(tmp_path / "new.mlpackage", gain=0.7, extra_bytes=900)
    with pytest.raises(RepositoryError, match=expected):
        of(pair, "third").publish([alter(Form(model, golden))])
    assert sorted(pair.folder.rglob("*")) == before
    assert pair.names == ("classifier", "detector")


def test_staging_key_theft_gives_release_no_version_that_is_not_as_its_manifest_says(
    pair: Repository,
) -> None:
    """What devices are told of a version before they have its manifest: how much there is to fetch."""
    detector = of(pair, "detector")
    contents = detector.contents()
    line = contents.line("staging")
    forged = tuple(
        replace(each, variants=(replace(each.variants[0], length=1),), start=None) for each in line.offers
    )
    contents.put_line(replace(line, offers=forged), contents.history("staging"))
    contents.roles.commit(["faces-staging"], Act("publish", "faces"))
    expected = "the index says mlpackage of 1 bytes, the manifest mlpackage of "
    with pytest.raises(RepositoryError, match=expected):
        detector.promote(terms=Terms())
    assert expected in " ".join(audit(detector).problems)
