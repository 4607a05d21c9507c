"""A device with several models says of each how its own version did."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from coremlops.cli import main
from coremlops.client import outbox, reports
from coremlops.client.outbox import Sent
from coremlops.client.reports import Enrolment
from coremlops.client.results import ModelResult, UpdateResult
from coremlops.errors import UpdateError
from coremlops.golden import Judgement, OutputError
from coremlops.release.terms import Form
from coremlops.telemetry.count import Count
from tests.client.conftest import Version, World
from tests.client.test_reports import Post, _said, enrolled
from tests.client.test_reports import post as post


def publish(world: World, name: str, version: Version, golden: Path | None = None) -> None:
    replace(world.repository, name=name).publish([Form(version.model, golden or version.golden)])


@pytest.fixture
def both(world: World) -> World:
    """Beside `faces`, whose version 1 the device has, the collection holds `hands`; the device looks next."""
    publish(world, "faces", world.two)
    publish(world, "hands", world.two)
    return world


def test_one_update_is_one_report_of_each_model_that_it_judged(both: World, post: Post) -> None:
    enrolled(both, post)
    assert both.device.update().outcome == "updated"
    said = {each.name: each for each in post.reports()}
    assert [(name, said[name].version, said[name].ok) for name in said] == [
        *(("faces", 2, True), ("hands", 1, True)),
    ]
    assert said["faces"].manifest != said["hands"].manifest
    publish(both, "hands", both.one)
    both.device.update()
    assert [(each.name, each.version) for each in post.reports()[2:]] == [("hands", 2)]


def test_one_model_that_answers_wrongly_is_no_fault_of_the_other(world: World, post: Post) -> None:
    enrolled(world, post)
    broken = Path(shutil.copytree(world.two.golden, world.folder / "broken"))
    promised = json.loads((world.one.golden / "golden.json").read_text())
    (broken / "golden.json").write_text(json.dumps(promised | {"model": world.two.digest}))
    publish(world, "faces", world.two)
    publish(world, "hands", world.two, broken)
    assert world.device.update().outcome == "refused"
    assert [(each.name, each.version, each.failure) for each in post.reports()] == [
        *(("faces", 2, ""), ("hands", 1, "outputs")),
    ]


def test_what_was_judged_in_one_second_waits_in_files_of_its_own(both: World, post: Post) -> None:
    folder = enrolled(both, post)
    post.status, post.answer = 503, b"{}"
    both.device.update()
    names = sorted(path.name.split("-")[1] for path in (folder / "outbox").iterdir())
    assert names == ["faces", "hands"]
    found = Enrolment.load(folder)
    assert found is not None
    said = _said(7)
    for name in ("eyes", "ears"):
        outbox.put(folder, found.key, replace(said, name=name))
    assert len(list((folder / "outbox").iterdir())) == 4


def test_who_is_counted_adds_each_model_to_its_own_sums(both: World, post: Post) -> None:
    reports.count(both.device.folder, on=True, url=post.url)
    both.device.update()
    counted = [Count.from_bytes(body) for _, body in post.got]
    assert [(each.name, each.version, each.ok) for each in counted] == [
        ("faces", 2, True),
        ("hands", 1, True),
    ]


@pytest.mark.parametrize("signs", [True, False])
def test_who_cancels_is_not_kept_waiting_by_what_was_judged_before(
    world: World, post: Post, signs: bool
) -> None:
    folder = world.device.folder
    if signs:
        enrolled(world, post)
    reports.count(folder, on=True, url=post.url)
    state = world.device.status()
    assert state.active is not None
    faces = ModelResult("faces", "updated", 1, state.active.model, judged=state.active)
    result = UpdateResult.together([faces, ModelResult("hands", "cancelled", None, None)])
    reports.after_update(folder, state, world.device.profile, result)
    assert post.got == []
    waiting = list((folder / "outbox").iterdir()) if signs else []
    assert len(waiting) == signs
    reports.after_update(folder, state, world.device.profile, UpdateResult.together([faces]))
    assert {path for path, _ in post.got} == {"/report" if signs else "/count"}


def test_a_model_of_which_no_report_can_speak_keeps_no_other_back(world: World, post: Post) -> None:
    folder = enrolled(world, post)
    state = world.device.status()
    assert state.active is not None
    strange = Judgement("a" * 64, True, (OutputError("\x1b[2J", 0.0, 0.1, True),), 1.0, 1, 1, 0.1, None, 0.1)
    eyes = ModelResult("eyes", "updated", 1, None, judgement=strange, judged=state.active)
    faces = ModelResult("faces", "updated", 1, None, judged=state.active)
    reports.after_update(folder, state, world.device.profile, UpdateResult.together([eyes, faces]))
    assert [each.name for each in post.reports()] == ["faces"]


def test_a_model_that_did_not_start_takes_back_its_own_pass_alone(both: World, post: Post) -> None:
    enrolled(both, post)
    both.device.update()
    for _ in range(3):
        assert both.device.start("faces").version == 2
    assert both.device.start("faces").version == 1
    both.device.update()
    assert [(each.name, each.version, each.failure) for each in post.reports()[2:]] == [("faces", 2, "model")]


def test_a_device_reports_all_its_models_or_the_one_that_is_named(both: World, post: Post) -> None:
    enrolled(both, post)
    publish(both, "hands", both.one)
    both.device.update()
    post.got.clear()
    told, done = reports.report_now(both.device)
    assert ([(each.name, each.version) for each in told], done) == ([("faces", 2), ("hands", 2)], Sent(2))
    (hands,), _ = reports.report_now(both.device, "hands")
    assert hands.name == "hands"
    assert [each.name for each in post.reports()] == ["faces", "hands", "hands"]
    with pytest.raises(UpdateError, match="'mouths'"):
        reports.report_now(both.device, "mouths")


def test_the_command_names_models_only_where_there_are_several(
    both: World, post: Post, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(enrolled(both, post))
    report = ("device", "report", "--device", folder)
    assert main([*report]) == 0
    assert capsys.readouterr().out == "version 1: pass (emulated)\nsent 1\n"
    assert main([*report, "--json"]) == 0
    alone = json.loads(capsys.readouterr().out)
    assert (alone["name"], alone["version"], alone["ok"], alone["sent"]) == ("faces", 1, True, 1)
    publish(both, "hands", both.one)
    both.device.update()
    assert main([*report]) == 0
    assert capsys.readouterr().out == (
        "faces version 2: pass (emulated)\nhands version 2: pass (emulated)\nsent 2\n"
    )
    assert main([*report, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["ok"]) == (None, True)
    assert [(name, each["version"]) for name, each in found["models"].items()] == [("faces", 2), ("hands", 2)]
    assert main([*report, "--model", "hands"]) == 0
    assert capsys.readouterr().out == "hands version 2: pass (emulated)\nsent 1\n"
    assert main([*report, "--model", "hand"]) == 1
    assert "faces, hands" in capsys.readouterr().err


def test_a_model_whose_files_cannot_be_had_keeps_no_report_of_another_back(both: World, post: Post) -> None:
    enrolled(both, post)
    line = replace(both.repository, name="hands").line("staging")
    assert line.current is not None
    manifest = line.current.variants[0].manifest
    (both.repository.folder / f"targets/faces/members/{manifest}.{manifest}").unlink()
    result = both.device.update()
    assert {each.name: each.outcome for each in result.models} == {"faces": "updated", "hands": "offline"}
    assert [(each.name, each.version) for each in post.reports()] == [("faces", 2)]


def test_a_golden_set_that_may_be_another_models_is_reported_for_none(both: World, post: Post) -> None:
    enrolled(both, post)
    both.device.update()  # version 2 of the one and version 1 of the other are the same model
    before = len(post.reports())
    with pytest.raises(UpdateError, match="faces and hands are the same model, of which one golden set"):
        reports.report_now(both.device)
    assert len(post.reports()) == before
    publish(both, "hands", both.one)
    both.device.update()
    told, _ = reports.report_now(both.device)
    assert [(each.name, each.version) for each in told] == [("faces", 2), ("hands", 2)]
