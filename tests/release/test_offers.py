"""Variants, shares, halts and hash bins in a repository, and the log of who did it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import TargetFile

from coremlops.collection import Profile, Rule, choose
from coremlops.errors import RepositoryError
from coremlops.release import Repository
from coremlops.release import members as members_module
from coremlops.release.members import Members
from coremlops.release.terms import Form, Terms
from tests.release.conftest import Clock

Models = tuple[Path, Path, Path]
CHIP = Rule(chip=("A17 Pro",))


def gets(repository: Repository, clock: Clock, channel: str = "staging", **profile: Any) -> tuple[Any, Any]:
    index, halts = repository.line(channel), repository.halts(channel)
    choice = choose(index, halts, Profile(**profile), clock())
    version = choice.entry.version if choice.entry else None
    return version, choice.variant.name if choice.variant else None


def test_a_version_has_variants_each_with_its_manifest(
    repository: Repository, models: Models, golden: Path, clock: Clock
) -> None:
    forms = [Form(models[0], golden, "a17", CHIP), Form(models[1], golden, "all")]
    entry = repository.publish(forms)
    assert [each.name for each in entry.variants] == ["a17", "all"]
    assert repository.manifest(entry, "a17").model == entry.variants[0].model
    assert gets(repository, clock, chip="A17 Pro") == (1, "a17")
    assert gets(repository, clock) == (1, "all")
    assert repository.publish(forms) == entry
    assert repository.promote().variants == entry.variants


@pytest.mark.parametrize(
    ("names", "rules", "terms", "words"),
    [
        (("a", "a"), (CHIP, Rule()), Terms(), "each variant has a name of its own"),
        (("a", "b"), (Rule(), CHIP), Terms(), "no device can get variant b: a comes first"),
        (
            ("a",),
            (CHIP,),
            Terms(Rule(chip=("A16",))),
            "no device can get variant a: no chip is A16 and A17 Pro",
        ),
        (("A/..",), (CHIP,), Terms(), "a variant's name"),
        ((), (), Terms(), "1 to 16 variants, got 0"),
    ],
)
def test_what_no_device_can_get_is_not_published(
    repository: Repository, models: Models, golden: Path, names: Any, rules: Any, terms: Terms, words: str
) -> None:
    before = (repository.folder / "metadata" / "timestamp.json").read_bytes()
    forms = [Form(models[0], golden, name, rule) for name, rule in zip(names, rules, strict=True)]
    with pytest.raises(RepositoryError, match=words):
        repository.publish(forms, terms=terms)
    assert (repository.folder / "metadata" / "timestamp.json").read_bytes() == before


def test_a_share_grows_and_shrinks_only_on_purpose(
    repository: Repository, models: Models, golden: Path, clock: Clock
) -> None:
    repository.publish([Form(models[0], golden)])
    entry = repository.publish([Form(models[1], golden)], terms=Terms(basis_points=0))
    assert entry.rollout is not None
    device = {"install_id": "f" * 32}
    assert gets(repository, clock, **device) == (1, "default")
    wider = repository.rollout("staging", 5000)
    assert wider.rollout is not None
    assert wider.rollout.salt == entry.rollout.salt
    with pytest.raises(RepositoryError, match="offered to 50 % of all devices already"):
        repository.rollout("staging", 100)
    assert repository.rollout("staging", 0, lower=True).rollout == entry.rollout
    assert repository.rollout("staging", 10_000).rollout is None
    assert gets(repository, clock, **device) == (2, "default")
    with pytest.raises(RepositoryError, match="no version 7 on offer"):
        repository.rollout("staging", 100, 7)


def test_the_halt_role_stops_a_rollout_and_can_do_no_more(
    repository: Repository, models: Models, golden: Path, clock: Clock
) -> None:
    for model in models[:2]:
        repository.publish([Form(model, golden)])
        repository.promote()
    away = repository.folder.parent / "away"
    for holder in ("root", "release"):
        shutil.move(repository.keys.folder / holder, away / holder)
    (repository.keys.folder / "online" / "staging.pem").rename(away / "staging.pem")
    operator = Repository.open(repository.folder, clock=clock)
    assert operator.halt("release").version == 2
    written = (repository.folder / "metadata" / "timestamp.json").read_bytes()
    assert operator.halt("release").version == 2
    assert (repository.folder / "metadata" / "timestamp.json").read_bytes() == written
    assert gets(repository, clock, "release") == (1, "default")
    acts: tuple[Callable[[], object], ...] = (
        lambda: operator.rollout("release", 10_000),
        lambda: operator.rollback("release"),
        lambda: operator.promote(1),
        lambda: operator.publish([Form(models[2], golden)]),
    )
    for act in acts:
        with pytest.raises(RepositoryError, match=r"key of repository .* is not here"):
            act()
    shutil.move(away / "release", repository.keys.folder / "release")
    business = Repository.open(repository.folder, clock=clock)
    assert business.rollout("release", 10_000).resumed == 1
    assert gets(repository, clock, "release") == (2, "default")
    assert business.halt("release").version == 2
    assert gets(repository, clock, "release") == (1, "default")


def test_a_start_and_the_apps_own_model(
    repository: Repository, models: Models, golden: Path, clock: Clock
) -> None:
    repository.publish([Form(models[0], golden)], terms=Terms(start=clock() + timedelta(hours=1)))
    assert gets(repository, clock) == (None, None)
    clock.move(hours=1)
    assert gets(repository, clock) == (1, "default")
    assert repository.offer_embedded("staging", terms=Terms(CHIP)).version == 2
    assert gets(repository, clock, chip="A17 Pro") == (2, None)
    assert gets(repository, clock) == (1, "default")


def test_members_move_into_bins_when_they_are_many(
    repository: Repository, models: Models, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = repository.publish([Form(models[0], golden)])
    monkeypatch.setattr(members_module, "FLAT", 4)
    monkeypatch.setattr(members_module, "SPLIT", 2)
    repository.publish([Form(models[1], golden)])
    metadata = repository.folder / "metadata"
    bins = {path.name.split(".", 1)[1] for path in metadata.glob("*.faces-members*-*.json")}
    assert len(bins) >= 4
    assert repository.manifest(first).model == first.models[0]
    before = {each.role: each.version for each in repository.status()}
    third = repository.publish([Form(models[2], golden)])
    assert {each.role: each.version for each in repository.status()}["faces-members"] >= before[
        "faces-members"
    ]
    assert repository.promote().version == third.version == 3
    roles = repository.roles()
    found = Members(roles, "faces")
    for entry in repository.history("staging").entries:
        for member in repository.manifest(entry).members:
            assert found.get(f"faces/members/{member.sha256}") is not None
    for number in range(200):
        found.put(TargetFile(1, {"sha256": f"{number:064x}"}, f"faces/members/{number:064x}"))
    found.grow()
    assert len(found.roles()) > len(bins)
    assert len(found.paths()) >= 200
    found.drop(f"faces/members/{7:064x}")
    assert found.get(f"faces/members/{7:064x}") is None


def test_each_commit_has_its_line_and_a_changed_log_is_found(
    repository: Repository, models: Models, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COREMLOPS_ACTOR", "ada")
    repository.publish([Form(models[0], golden)])
    repository.promote()
    repository.halt("release")
    assert repository.audit() == 3
    log = repository.folder / "audit.jsonl"
    lines = [json.loads(line)["line"] for line in log.read_text().splitlines()]
    assert [(each["actor"], each["action"], each["version"]) for each in lines] == [
        ("ada", "publish", 1),
        ("ada", "promote", 1),
        ("ada", "halt", 1),
    ]
    assert [sorted(each["roles"]) for each in lines] == [
        ["faces-members", "faces-staging"],
        ["faces-release"],
        ["faces-halt"],
    ]
    whole = log.read_bytes()
    pieces = whole.splitlines(keepends=True)
    for damaged, words in (
        (b"".join(pieces[:2]), "lines are missing"),
        (b"".join(pieces[1:]), "the chain is broken"),
        (pieces[0] + pieces[2], "the chain is broken"),
        (whole.replace(b'"ada"', b'"bob"', 1), "no key that it names signed it"),
        (b"{}\n", "line 1 is damaged"),
    ):
        log.write_bytes(damaged)
        with pytest.raises(RepositoryError, match=words):
            repository.audit()
    log.write_bytes(whole + b'{"half a li')
    repository.rollout("release", 10_000)
    assert repository.audit() == 4
