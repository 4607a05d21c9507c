"""Pending changes that somebody with write access to the repository made or altered: none is signed."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import CryptoSigner, Key
from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets

from coremlops.collection import Halts
from coremlops.errors import PendingError, RepositoryError
from coremlops.release import Repository
from coremlops.release.audit import Act
from coremlops.release.change import Change, load, named_files, save
from coremlops.release.expiry import Expiry
from coremlops.release.keys import KeyPlan
from coremlops.release.review import review
from coremlops.release.roles import Roles
from coremlops.release.rotation import Rotation
from coremlops.release.screen import check
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
    assert "faces-release: changed faces/release/index.json: offers of faces version 1" in review.differences
    assert waiting.sign(review.id).id == review.id
    assert waiting.pending() == ()


def test_a_publish_that_splits_the_members_into_bins_waits_and_is_committed(
    tmp_path: Path, config: Path, models: Models, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coremlops.release.members.FLAT", 3)
    made = Repository.init(tmp_path / "repository", plan=KeyPlan({"staging": 2}))
    second = made.keys.folder / "online" / "staging-2.pem"
    second.rename(tmp_path / "second.pem")
    with pytest.raises(PendingError) as caught:
        Repository.open(made.folder).publish([Form(models[0], golden)])
    assert Repository.open(made.folder).line("staging").current is None
    (tmp_path / "second.pem").rename(second)
    repository = Repository.open(made.folder)
    assert repository.pending()[0].refused == ""
    assert any(each.startswith("its bins: a new key ") for each in repository.pending()[0].differences)
    repository.sign(caught.value.change)
    entry = Repository.open(made.folder).line("staging").current
    assert entry is not None
    assert Repository.open(made.folder).manifest(entry).version == 1
    assert len(list((made.folder / "metadata").glob("1.faces-members*-*.json"))) >= 2


def test_a_change_that_is_left_again_keeps_its_signatures(waiting: Repository) -> None:
    """Nothing has moved, the clock included: it is the same change."""
    change = load(waiting.folder, waiting.waiting()[0])
    for signer in waiting.keys.signers("release"):
        change.roles["faces-release"].sign(signer, append=True)
    save(waiting.folder, change)
    bare = load(waiting.folder, change.id)
    bare.roles["faces-release"].signatures.clear()
    save(waiting.folder, bare)
    assert len(load(waiting.folder, change.id).roles["faces-release"].signatures) == 2


def test_the_files_that_it_names_are_not_to_be_collected(waiting: Repository) -> None:
    (waiting.folder / "pending" / "0123456789ab.json").write_bytes(b"{")
    named = named_files(waiting.folder)
    assert {each.rpartition(".")[0].rpartition(".")[2] for each in named} == {"index", "history"}
    assert all((waiting.folder / "targets" / each).is_file() for each in named)
    committed = {
        f"faces/release/{path.name}" for path in (waiting.folder / "targets/faces/release").iterdir()
    }
    assert named < committed


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


def names_many_files(change: Change) -> None:
    targets = change.roles["faces-release"].signed.targets
    known = next(iter(targets.values()))
    for number in range(100):
        path = f"faces/release/a{number}"
        targets[path] = TargetFile(known.length, known.hashes, path)


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (names_many_files, "faces/release/a0, which is not whole"),
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


@pytest.fixture
def rotating(repository: Repository, tmp_path: Path) -> Repository:
    """A new timestamp key, which waits for root's; root's key is here again."""
    away = tmp_path / "root.pem"
    repository.keys.path("root").rename(away)
    with pytest.raises(PendingError, match="root has 0 of 1 signatures"):
        Repository.open(repository.folder, clock=repository.clock).rotate(Rotation(("timestamp",)))
    away.rename(repository.keys.path("root"))
    return Repository.open(repository.folder, clock=repository.clock)


def altered_roots(repository: Repository, alter: Callable[[Root, Root, Key], None]) -> str:
    """The rotation, altered by whoever has the old timestamp key, with a root key of theirs."""
    change = load(repository.folder, repository.waiting()[0])
    repository.drop(change.id)
    thief = CryptoSigner.generate_ed25519()
    bridge, final = change.roots
    alter(bridge.signed, final.signed, thief.public_key)
    for metadata in change.roots:
        metadata.sign(repository.keys.signers("timestamp")[0])
    save(repository.folder, change)
    return change.id


def trusts_in_between(bridge: Root, final: Root, key: Key) -> None:
    bridge.add_key(key, "root")


def wants_fewer_in_between(bridge: Root, final: Root, key: Key) -> None:
    final.roles["root"].threshold = 2
    final.add_key(key, "root")


def trusts_for_another_role(bridge: Root, final: Root, key: Key) -> None:
    bridge.add_key(key, "targets")


def borrows_an_id(bridge: Root, final: Root, key: Key) -> None:
    for root in (bridge, final):
        keyid = root.roles["targets"].keyids[0]
        root.keys[keyid] = Key.from_dict(keyid, key.to_dict())


def names_no_key(bridge: Root, final: Root, key: Key) -> None:
    final.roles["targets"].keyids.append("0" * 64)


def skips_a_root(bridge: Root, final: Root, key: Key) -> None:
    final.version += 1


@pytest.mark.parametrize(
    ("alter", "said"),
    [
        (trusts_in_between, "its first root trusts other root keys than its last"),
        (wants_fewer_in_between, "its first root trusts other root keys than its last"),
        (trusts_for_another_role, "its first root trusts other targets keys than its last"),
        (borrows_an_id, "root names a key under an id that is not its own"),
        (names_no_key, "root: targets has a key's id without the key"),
        (skips_a_root, r"roots \[2, 3\] expected"),
    ],
)
def test_roots_that_hide_what_they_trust_are_not_signed(
    rotating: Repository, alter: Callable[[Root, Root, Key], None], said: str
) -> None:
    change = altered_roots(rotating, alter)
    with pytest.raises(RepositoryError, match=said):
        rotating.sign(change)
    assert len(list((rotating.folder / "metadata").glob("*.root.json"))) == 1
    assert said.replace("\\", "") in rotating.pending()[0].refused


@pytest.mark.parametrize("how", ["another path", "no role"])
def test_paths_do_not_change_hands_by_a_pending_change(repository: Repository, how: str) -> None:
    repository.keys.path("timestamp").unlink()
    with pytest.raises(PendingError) as caught:
        Repository.open(repository.folder, clock=repository.clock).rotate(Rotation(("halt",)))
    change = load(repository.folder, caught.value.change)
    delegations = change.roles["targets"].signed.delegations
    assert delegations is not None
    assert delegations.roles is not None
    if how == "no role":
        del delegations.roles["faces-release"]
    else:
        delegations.roles["faces-halt"].paths = ["faces/halted/*"]
    change.roles["targets"].sign(repository.keys.signers("targets")[0])
    save(repository.folder, change)
    with pytest.raises(RepositoryError, match="no command changes which role names which paths"):
        repository.sign(change.id)


def test_the_rotation_itself_is_signed(rotating: Repository) -> None:
    rotating.sign(rotating.waiting()[0])
    assert len(list((rotating.folder / "metadata").glob("*.root.json"))) == 3


def test_targets_that_name_a_file_themselves_are_refused(repository: Repository) -> None:
    """A device would take their word before that of the channel's role."""
    path = repository.folder / "metadata" / "1.targets.json"
    metadata: Metadata[Targets] = Metadata.from_file(str(path))
    metadata.signed.targets["faces/release/index.json"] = TargetFile(1, {"sha256": "0" * 64}, "x")
    metadata.sign(repository.keys.signers("targets")[0])
    metadata.to_file(str(path))
    with pytest.raises(RepositoryError, match="targets may name no file itself"):
        repository.status()


def test_rubbish_in_the_folder_of_pending_changes_stops_nobody(
    waiting: Repository, models: Models, golden: Path
) -> None:
    folder = waiting.folder / "pending"
    (folder / "0123456789ab.json").write_bytes(b"{")
    (folder / "0123456789ac.json").write_bytes(b"[" * 100_000)
    (folder / "what.json").write_text("no id")
    assert waiting.publish([Form(models[1], golden)]).version == 2
    found = {review.id: review.refused for review in waiting.pending()}
    assert len(found) == 3
    assert "no strict JSON" in found["0123456789ab"]
    assert [refused for refused in found.values() if not refused] == [""]


def test_what_a_terminal_would_obey_is_not_shown(waiting: Repository) -> None:
    change = load(waiting.folder, waiting.waiting()[0])
    change.actor = "root\x1b[2K\rgood\u202e"
    save(waiting.folder, change)
    assert waiting.pending()[0].actor == "root\ufffd[2K\ufffdgood\ufffd"


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from _places(each, (*path, key))


@pytest.mark.parametrize(
    ("asked", "part"),
    [("rotate", "file"), ("rotate", "root"), ("rotate", "role"), ("add", "file"), ("add", "role")],
)
def test_no_altered_change_leads_to_anything_but_our_error(
    repository: Repository, asked: str, part: str
) -> None:
    """Every value of a pending change, replaced by others of every type: refused, or harmless."""
    repository.keys.path("snapshot").unlink()
    opened = Repository.open(repository.folder, clock=repository.clock)
    with pytest.raises(PendingError) as caught:
        opened.add("shop") if asked == "add" else opened.rotate(Rotation(("targets", "release")))
    path = repository.folder / "pending" / f"{caught.value.change}.json"
    whole = json.loads(path.read_text())
    parts = {
        "file": whole,
        "root": json.loads(whole["roots"][1]) if asked == "rotate" else {},
        "role": json.loads(whole["roles"]["targets"]),
    }
    before = sorted(each.name for each in (repository.folder / "metadata").iterdir())
    for place in list(_places(parts[part]))[1:]:
        value: Any
        for value in (None, True, -1, 1.5, "", "\u202ex", "2026-13-01T00:00:00Z", [], {}, [{}], {"a": 1}):
            altered = copy.deepcopy(parts[part])
            target = altered
            for key in place[:-1]:
                target = target[key]
            target[place[-1]] = value
            if part == "root":
                altered = whole | {"roots": [whole["roots"][0], json.dumps(altered)]}
            elif part == "role":
                altered = whole | {"roles": whole["roles"] | {"targets": json.dumps(altered)}}
            roles = Roles(repository.folder, repository.keys, clock=repository.clock, expiry=Expiry())
            try:
                change = Change.from_bytes(json.dumps(altered).encode(), "x.json")
                review(roles, change, expiry=Expiry(), now=repository.clock())
                check(roles, change, expiry=Expiry(), now=repository.clock())
                roles.sign(change)
                roles.lacks(change)
            except RepositoryError:
                continue
    assert sorted(each.name for each in (repository.folder / "metadata").iterdir()) == before


def test_metadata_with_a_number_that_cannot_be_signed_is_our_error(repository: Repository) -> None:
    path = repository.folder / "metadata" / "timestamp.json"
    value = json.loads(path.read_text())
    value["signed"]["x"] = 1.5
    path.write_text(json.dumps(value))
    with pytest.raises(RepositoryError, match="timestamp: not signed by the key that it should be"):
        repository.status()


def test_a_halt_that_waits_says_what_it_halts(
    tmp_path: Path, config: Path, clock: Clock, models: Models, golden: Path
) -> None:
    made = Repository.init(tmp_path / "repository", plan=KeyPlan({"halt": 2}), clock=clock)
    made.publish([Form(models[0], golden)])
    (made.keys.folder / "halt" / "halt-2.pem").unlink()
    with pytest.raises(PendingError):
        Repository.open(made.folder, clock=clock).halt("staging")
    (review,) = made.pending()
    assert "faces-halt: changed faces/halt/staging.json: halts faces 1 (halt number 1)" in review.differences


def test_a_halt_beside_many_says_which_is_new(
    tmp_path: Path, config: Path, clock: Clock, models: Models, golden: Path
) -> None:
    made = Repository.init(tmp_path / "repository", plan=KeyPlan({"halt": 2}), clock=clock)
    made.publish([Form(models[0], golden)])
    with made.changing() as contents:
        counts = tuple((("old", version), 1) for version in range(1, 45))
        contents.put_halts(Halts("faces", "staging", counts))
        contents.roles.commit(["faces-halt"], Act("halt", "faces", channel="staging"))
    (made.keys.folder / "halt" / "halt-2.pem").unlink()
    with pytest.raises(PendingError):
        Repository.open(made.folder, clock=clock).halt("staging")
    (review,) = made.pending()
    (said,) = (each for each in review.differences if "halt/staging.json" in each)
    assert said == "faces-halt: changed faces/halt/staging.json: halts faces 1 (halt number 1)"
