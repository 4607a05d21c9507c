"""After a theft of staging's key: other keys, then staging begins anew from what release has."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import DelegatedRole, Delegations, Key, SuccinctRoles

from coremlops.collection import Index, index_path
from coremlops.errors import PendingError, RepositoryError
from coremlops.release import Repository
from coremlops.release import members as members_module
from coremlops.release.change import Change, load, save
from coremlops.release.contents import Contents
from coremlops.release.keys import KeyPlan
from coremlops.release.resetting import reset
from coremlops.release.rotation import Rotation
from coremlops.release.terms import Form
from coremlops.release.upkeep import audit
from tests.client.thief import Thief
from tests.release.conftest import Clock

Models = tuple[Path, Path, Path]
LAST = 2**31 - 1


@pytest.fixture
def robbed(repository: Repository, models: Models, golden: Path) -> tuple[Repository, Thief]:
    """`detector` and `classifier` in release; a second detector and a third model on staging alone."""
    for name, model in (("detector", 0), ("classifier", 1)):
        one = replace(repository, name=name)
        one.publish([Form(models[model], golden)])
        one.promote()
    replace(repository, name="detector").publish([Form(models[2], golden)])
    replace(repository, name="detector").rollout("release", 500, lower=True)
    replace(repository, name="third").publish([Form(models[2], golden)])
    return repository, Thief(repository, repository.folder, ("staging", "snapshot", "timestamp"))


def garbage(thief: Thief) -> dict[str, int]:
    path = index_path("faces", "staging")
    return {"faces_staging": thief.forge("faces-staging", thief.document(path, b"{}"), by="staging")}


def fast_forward(thief: Thief) -> dict[str, int]:
    now = Repository.open(thief.folder).index("staging")
    lines = tuple(replace(line, last_version=LAST) for line in now.lines)
    data = Index("faces", "staging", lines).to_bytes()
    path = index_path("faces", "staging")
    return {"faces_staging": thief.forge("faces-staging", thief.document(path, data), by="staging")}


def members_gone(thief: Thief) -> dict[str, int]:
    return {"faces_members": thief.forge("faces-members", lambda role: role.targets.clear(), by="staging")}


def bins_of_his(thief: Thief) -> dict[str, int]:
    key: Key = thief.repository.keys.signers("halt")[0].public_key  # any that is not staging's

    def delegate(role: Any) -> None:
        bins = SuccinctRoles([key.keyid], 1, 2, "faces-members2")
        role.targets, role.delegations = {}, Delegations({key.keyid: key}, succinct_roles=bins)

    return {"faces_members": thief.forge("faces-members", delegate, by="staging")}


def delegating(thief: Thief) -> dict[str, int]:
    key: Key = thief.repository.keys.signers("staging")[0].public_key

    def delegate(role: Any) -> None:
        role.delegations = Delegations(
            {key.keyid: key}, roles={"mine": DelegatedRole("mine", [key.keyid], 1, True, paths=["*"])}
        )

    return {"faces_staging": thief.forge("faces-staging", delegate, by="staging")}


UNREADABLE = {bins_of_his: "faces-members2-0", delegating: "faces-staging may not delegate"}


@pytest.mark.parametrize("deed", [garbage, fast_forward, members_gone, bins_of_his, delegating])
@pytest.mark.parametrize("split", [False, True])
def test_staging_begins_anew_from_release(
    robbed: tuple[Repository, Thief],
    golden: Path,
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
    deed: Callable[[Thief], dict[str, int]],
    split: bool,
) -> None:
    repository, thief = robbed
    if split:
        for limit, value in {"FLAT": 2, "FULL": 1, "SPLIT": 1}.items():
            monkeypatch.setattr(members_module, limit, value)
    released = Repository.open(repository.folder).index("release")
    thief.lead_to(**deed(thief))
    fresh = Repository.open(repository.folder)
    if deed in UNREADABLE:  # so it cannot be signed anew
        with pytest.raises(RepositoryError, match=UNREADABLE[deed]):
            fresh.rotate(Rotation(("staging", "snapshot", "timestamp")))
        reset(fresh, "faces")
    fresh.rotate(Rotation(("staging", "snapshot", "timestamp")))
    lines = reset(Repository.open(repository.folder), "faces")
    assert [(line.name, [each.variants for each in line.offers], line.last_version) for line in lines] == [
        ("classifier", [each.variants for each in released.line("classifier").offers], 1),
        ("detector", [each.variants for each in released.line("detector").offers], 2),  # two were published
    ]
    assert not any(each.rollout for line in lines for each in line.offers)  # 5 % is what release offers
    fresh = Repository.open(repository.folder)
    assert fresh.index("release") == released
    assert fresh.names == ("classifier", "detector")
    # What the thief committed has no line in the log, and stays noticed.
    assert [each for each in audit(fresh).problems if "audit.jsonl" not in each] == []
    detector = replace(fresh, name="detector")
    assert detector.publish([Form(models[2], golden)]).version == 3
    assert detector.rollback("staging", 1).version == 1
    assert [each for each in audit(fresh).problems if "audit.jsonl" not in each] == []


def test_without_a_theft_it_is_a_plain_change(robbed: tuple[Repository, Thief]) -> None:
    repository = robbed[0]
    lines = repository.audit()
    reset(repository, "faces")
    assert repository.audit() == lines + 1
    assert audit(repository).problems == ()


def test_a_damaged_manifest_is_not_named(robbed: tuple[Repository, Thief]) -> None:
    repository = robbed[0]
    sha256 = repository.index("release").line("detector").offers[0].variants[0].manifest
    (repository.folder / f"targets/faces/members/{sha256}.{sha256}").write_bytes(b"{}")
    before = (repository.folder / "metadata" / "timestamp.json").read_bytes()
    with pytest.raises(RepositoryError, match="is damaged"):
        reset(repository, "faces")
    assert (repository.folder / "metadata" / "timestamp.json").read_bytes() == before


def offers_of_before(now: Contents, change: Change) -> None:
    path = index_path("app", "staging")
    change.roles["app-staging"].signed.targets[path] = now.roles.targets("app-staging").signed.targets[path]


def number(now: Contents, change: Change) -> None:
    after = Contents(now.roles.after(change), now.folder, "app")
    after.put_line(replace(after.line("staging"), last_version=LAST), after.history("staging"))


def held(now: Contents, change: Change) -> None:
    after = Contents(now.roles.after(change), now.folder, "app")
    (offer,) = (line := after.line("staging")).offers
    after.put_line(replace(line, offers=(replace(offer, hold=True, resumed=9),)), after.history("staging"))


def history(now: Contents, change: Change) -> None:
    after = Contents(now.roles.after(change), now.folder, "app")
    after.put_line(after.line("staging"), now.history("staging"))


def member(now: Contents, change: Change) -> None:
    change.roles["app-members"].signed.targets.popitem()


SNEAKED: dict[Callable[[Contents, Change], None], str] = {
    offers_of_before: "staging of app would have other offers than release has",
    number: "staging of app would have other offers than release has",
    held: "staging of app would have other offers than release has",
    history: "the history of app would be another than release has",
    member: "which release has, would be named no longer",
}


@pytest.mark.parametrize("sneaked", SNEAKED)
def test_one_that_waits_for_signatures_does_what_reset_does(
    tmp_path: Path,
    config: Path,
    clock: Clock,
    models: Models,
    golden: Path,
    sneaked: Callable[[Contents, Change], None],
) -> None:
    made = Repository.init(tmp_path / "repository", "app", clock=clock, plan=KeyPlan({"staging": 2}))
    for model in models[:2]:
        made.publish([Form(model, golden)])
    made.promote(1)
    key = made.keys.folder / "online" / "staging-2.pem"
    key.rename(tmp_path / key.name)
    with pytest.raises(PendingError) as caught:
        reset(Repository.open(made.folder), "app")
    (tmp_path / key.name).rename(key)
    change = load(made.folder, caught.value.change)
    worse = load(made.folder, caught.value.change)
    sneaked(made.contents(), worse)
    for metadata in worse.roles.values():
        metadata.signatures.clear()
        metadata.sign(made.keys.signers("staging")[0])
    save(made.folder, worse)
    with pytest.raises(RepositoryError, match=SNEAKED[sneaked]):
        made.sign(worse.id)
    save(made.folder, change)
    made.sign(change.id)
    current = Repository.open(made.folder).line("staging").current
    assert current is not None
    assert current.version == 1
    assert audit(made).problems == ()


def test_one_that_waits_may_be_of_what_cannot_be_read(
    tmp_path: Path, config: Path, models: Models, golden: Path
) -> None:
    made = Repository.init(tmp_path / "repository", plan=KeyPlan({"staging": 2}))
    made.publish([Form(models[0], golden)])
    thief = Thief(made, made.folder, ("staging", "snapshot", "timestamp"))
    thief.lead_to(**delegating(thief))
    key = made.keys.folder / "online" / "staging-2.pem"
    key.rename(tmp_path / key.name)
    with pytest.raises(PendingError) as caught:
        reset(Repository.open(made.folder), "faces")
    (tmp_path / key.name).rename(key)
    (review,) = made.pending()
    assert (review.what, review.refused) == ("reset in staging of faces", "")
    made.sign(caught.value.change)
    assert Repository.open(made.folder).index("staging").names == ()


def test_halts_stand_where_release_has_them_too(repository: Repository, models: Models, golden: Path) -> None:
    for model in models[:2]:
        repository.publish([Form(model, golden)])
        repository.promote()
        repository.halt("staging")
    repository.halt("release", 2)
    (line,) = reset(repository, "faces")
    halts = repository.halts("staging")
    assert [(each.version, halts.halted("faces", each)) for each in line.offers] == [(2, True), (1, False)]


def test_a_damaged_log_keeps_nobody_from_it(robbed: tuple[Repository, Thief]) -> None:
    repository = robbed[0]
    log = repository.folder / "audit.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    odd = lines[0].replace(b'"name":"detector"', b'"name":["detector"]')
    assert odd != lines[0]
    for damaged in (odd, b"{}\n"):
        log.write_bytes(b"".join([damaged, *lines[1:]]))
        assert [line.name for line in reset(repository, "faces")] == ["classifier", "detector"]
        lines = log.read_bytes().splitlines(keepends=True)


def test_a_number_that_is_used_again_is_not_halted_as_that_before_it_was(
    robbed: tuple[Repository, Thief], models: Models, golden: Path
) -> None:
    third = replace(robbed[0], name="third")
    third.halt("staging")
    reset(third, "faces")
    entry = third.publish([Form(models[2], golden)])
    assert (entry.version, third.halts("staging").halted("third", entry)) == (1, False)


def test_bins_get_the_members_own_keys_whoever_s_they_had(
    robbed: tuple[Repository, Thief], golden: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, thief = robbed
    for limit, value in {"FLAT": 2, "FULL": 1, "SPLIT": 1}.items():
        monkeypatch.setattr(members_module, limit, value)
    replace(repository, name="detector").publish([Form(models[1], golden)])
    key = repository.keys.signers("halt")[0].public_key

    def add(role: Any) -> None:
        role.delegations.succinct_roles.keyids.append(key.keyid)
        role.delegations.keys[key.keyid] = key

    thief.lead_to(faces_members=thief.forge("faces-members", add, by="staging"))
    fresh = Repository.open(repository.folder)
    fresh.rotate(Rotation(("staging", "snapshot", "timestamp")))
    members = Repository.open(repository.folder).contents().roles.targets("faces-members").signed
    assert members.delegations is not None
    assert members.delegations.succinct_roles is not None
    assert key.keyid not in {*members.delegations.succinct_roles.keyids, *members.delegations.keys}
