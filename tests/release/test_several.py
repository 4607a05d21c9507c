"""Looking after a repository of several collections: each command is for all of them, in one commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from coremlops.errors import PendingError, RepositoryError
from coremlops.release import Repository
from coremlops.release.audit import MAX_LINE_BYTES, Act, Log
from coremlops.release.keeping import Keeper
from coremlops.release.keys import KeyPlan
from coremlops.release.rotation import Rotation
from coremlops.release.terms import Form
from coremlops.release.upkeep import audit, collect
from tests.release.conftest import Clock
from tests.release.test_adding import PLAIN, Models, files, keeper, of, roles_of
from tests.release.test_adding import both as both
from tests.release.test_publishers import PUBLISH
from tests.release.test_upkeep import age, one, spoiled

SHOP = [each.replace("faces", "shop") for each in PLAIN]


def test_what_is_due_of_every_collection_is_signed_in_one_commit(
    repository: Repository, models: Models, golden: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bins are in the first and in the last of them."""
    monkeypatch.setattr("coremlops.release.members.FLAT", 2)
    whole = keeper(repository)
    for name in ("shop", "cats"):
        whole.add(name)
    for name in ("faces", "cats"):
        of(whole, name).publish([Form(models[0], golden)])
    clock.move(days=65)
    due = [f"{name}-{kind}" for name in ("faces", "shop", "cats") for kind in ("halt", "staging", "members")]
    before = roles_of(whole)
    assert {each.role for each in whole.status() if each.due} == {*due, "snapshot", "timestamp"}
    assert set(keeper(whole).renew()) == {*due, "snapshot", "timestamp"}
    after = roles_of(whole)
    assert not [each.role for each in whole.status() if each.due]
    assert after["timestamp"] == before["timestamp"] + 1
    assert {each for each in after if after[each] != before[each]} == {*due, "snapshot", "timestamp"}
    for name in ("faces", "cats"):
        assert len(whole.roles().bins(name)) > 2
        ends = {whole.roles().targets(each).signed.expires for each in whole.roles().bins(name)}
        assert min(ends) > clock() + timedelta(days=80)
    assert audit(keeper(whole)).problems == ()


def test_publishing_in_one_renews_what_is_due_in_all(
    both: Keeper, models: Models, golden: Path, clock: Clock
) -> None:
    """A pipeline that only ever publishes to one collection keeps the others alive too."""
    clock.move(days=65)
    of(both, "faces", "classifier").publish([Form(models[0], golden)])
    assert not [each.role for each in both.status() if each.due]


@pytest.mark.parametrize("name", ["halt", "release", "staging", "targets"])
def test_a_rotation_is_of_all_collections(both: Keeper, models: Models, golden: Path, name: str) -> None:
    of(both, "shop", "detector").promote()
    done = keeper(both).rotate(Rotation((name,)))
    now = keeper(both)
    trusted = {each.role: list(each.keys) for each in now.status() if each.key == name}
    assert len(trusted) == {"staging": 4, "targets": 1}.get(name, 2)
    assert all(each == list(done.made[name]) for each in trusted.values())
    for collection in ("faces", "shop"):
        of(both, collection, "detector").publish([Form(models[2], golden)])
        of(both, collection, "detector").promote()
        of(both, collection, "detector").halt("release")
    assert audit(keeper(both)).problems == ()


def test_a_higher_threshold_counts_for_all_and_a_new_one_has_it(both: Keeper, tmp_path: Path) -> None:
    keeper(both).rotate(Rotation(("release",), add=True, threshold=2))
    keeper(both).add("cats")
    found = {each.role: (each.threshold, len(each.keys)) for each in both.status() if each.key == "release"}
    assert found == dict.fromkeys(("faces-release", "shop-release", "cats-release"), (2, 2))
    second = next(path for path in both.keys.paths("release") if path.name != "release.pem")
    second.rename(tmp_path / "second.pem")
    with pytest.raises(PendingError, match="cats-release has 1 of 2 signatures"):
        keeper(both).renew(["cats-release"])


def test_an_audit_sees_every_collection(both: Keeper) -> None:
    found = audit(both)
    assert (found.problems, found.versions, found.lines) == ((), 4, 5)
    spoiled(one(both.folder, "targets/shop/members/*"))
    assert any("targets/shop/members/" in each for each in audit(both).problems)


def test_gc_keeps_what_any_collection_names(both: Keeper) -> None:
    stray = both.folder / "targets/shop/members" / ("0" * 64 + "." + "0" * 64)
    stray.write_bytes(b"left by a crash")
    age(both.folder, 40)
    removed = collect(both)
    assert stray.relative_to(both.folder).as_posix() in removed.files
    assert (audit(both).problems, audit(both).versions) == ((), 4)


def test_a_crashs_leftovers_go_wherever_they_are(both: Keeper, models: Models, golden: Path) -> None:
    left = [
        both.folder / f"targets/{each}/.x.1.tmp" for each in ("shop/members", "shop/halt", "faces/release")
    ]
    for path in left:
        path.write_bytes(b"x")
    of(both, "faces", "detector").promote()
    assert not any(path.exists() for path in left)


@pytest.mark.parametrize("place", ["targets", "targets/shop", "targets/shop/members", "metadata", "pending"])
def test_no_command_removes_anything_through_a_link(both: Keeper, tmp_path: Path, place: str) -> None:
    """Whoever may write to the repository has it lead to a folder of the person who runs `gc`."""
    mine = tmp_path / "mine"
    (mine / "members").mkdir(parents=True)
    path = both.folder / place
    if path.exists():
        shutil.copytree(path, mine, dirs_exist_ok=True)
        shutil.rmtree(path)
    for name in ("thesis.txt", ".draft.tmp", "members/.draft.tmp"):
        (mine / name).write_text("mine")
    path.symlink_to(mine)
    age(mine, 400)
    collect(both, grace=timedelta(0))
    of(both, "faces", "detector").promote()
    assert all((mine / name).exists() for name in ("thesis.txt", ".draft.tmp", "members/.draft.tmp"))
    assert [f"{path} is a link" in each for each in audit(both).problems].count(True) == 1


def test_two_publishers_in_two_collections_at_once(both: Keeper, models: Models, golden: Path) -> None:
    script = PUBLISH.replace("open(folder)", "open(folder, NAME, 'classifier')")
    assert script != PUBLISH
    before, new = {name: files(both, name) for name in ("faces", "shop")}, list(map(str, models[1:]))
    running = [
        subprocess.Popen(
            [sys.executable, "-c", f"NAME = {name!r}\n{script}", str(both.folder), str(golden), *new],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        for name in ("faces", "shop")
    ]
    for each in running:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    for each in running:
        assert each.stdin is not None
        each.stdin.write("\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60)[0].split() for each in running]
    assert said == [["2", "3"], ["2", "3"]]
    for name in ("faces", "shop"):
        line = of(both, name, "classifier").line("staging")
        assert [entry.version for entry in line.offers] == [3, 2, 1]
        assert before[name].items() <= files(both, name).items()
    assert audit(keeper(both)).problems == ()


def test_a_line_that_nobody_could_read_is_not_written(tmp_path: Path, clock: Clock) -> None:
    log = Log(tmp_path / "audit.jsonl")
    with pytest.raises(RepositoryError, match=f"at most {MAX_LINE_BYTES} bytes a line"):
        log.append(
            Act("renew", detail={"x": "x" * MAX_LINE_BYTES}),
            at=clock(),
            roles={},
            keys={},
            timestamp=2,
            signers=[],
        )
    assert not log.path.exists()


def test_a_snapshot_that_no_device_would_take_is_not_committed(
    both: Keeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coremlops.release.roles.MAX_SNAPSHOT_BYTES", 500)
    before = (both.folder / "metadata" / "timestamp.json").read_bytes()
    with pytest.raises(RepositoryError, match="devices take at most 500"):
        of(both, "faces", "detector").promote()
    assert (both.folder / "metadata" / "timestamp.json").read_bytes() == before


def test_the_log_of_many_keys_and_collections_can_be_read(tmp_path: Path, config: Path) -> None:
    plan = KeyPlan({"staging": 16, "release": 16, "halt": 16})
    whole: Keeper = Repository.init(tmp_path / "repository", "c0", plan=plan)
    for number in range(1, 16):
        whole.add(f"c{number}-{'x' * 30}")
    whole.rotate(Rotation(("staging", "release", "halt")))
    assert max(len(each) for each in (whole.folder / "audit.jsonl").read_bytes().splitlines()) > 64_000
    assert audit(keeper(whole)).problems == ()
