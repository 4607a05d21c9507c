"""A collection of two models: one refresh for both, and whatever happens to one, the other has its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from coremlops import golden
from coremlops.client import Device, Step, UpdateResult, web
from coremlops.errors import RepositoryError, UpdateError, UsageError
from coremlops.model import model_digest
from coremlops.release.terms import Form
from tests.client.conftest import QUICK, Pair, Version, World
from tests.client.thief import Thief

CUT, WHOLE = 70_000, 200_000
RED = {"image": Image.new("RGB", (30, 30), (250, 5, 5))}


def ends(result: UpdateResult) -> dict[str, tuple[str, int | None]]:
    """Of each model: its outcome, and the version that is active now."""
    return {each.name: (each.outcome, each.version) for each in result.models}


def lie(version: Version, folder: Path) -> Version:
    """The same model with a golden set that it does not answer."""
    wrong = Path(shutil.copytree(version.golden, folder / "wrong"))
    promised = json.loads((wrong / "golden.json").read_text())
    for item in promised["examples"]:
        item["calls"][0]["outputs"]["classLabel"]["value"] = "blue"
    (wrong / "golden.json").write_text(json.dumps(promised))
    return Version(version.model, wrong)


def test_both_are_updated_with_one_refresh(pair: Pair) -> None:
    pair.publish_two()
    result = pair.device.update()
    assert ends(result) == {"classifier": ("updated", 2), "detector": ("updated", 2)}
    assert (result.outcome, result.changed, result.ok, result.version, result.digest) == (
        *("updated", True, True),
        *(None, None),
    )
    assert result.of("detector").digest == pair.versions[3].digest
    metadata = [each.path for each in pair.server.log if each.path.startswith("/metadata/")]
    assert len([path for path in metadata if path.endswith("timestamp.json")]) == 1
    assert len([each for each in pair.server.log if each.path.endswith(".index.json")]) == 1
    assert pair.kept() == pair.digests(0, 1, 2, 3)  # the active and the previous of both
    assert pair.parts() == {}
    assert {name: pair.again().predict(RED, name)["classLabel"] for name in ("classifier", "detector")} == {
        "classifier": "red",
        "detector": "red",
    }


def test_a_poll_with_nothing_new_is_two_requests(pair: Pair) -> None:
    assert ends(pair.device.update()) == {"classifier": ("current", 1), "detector": ("current", 1)}
    assert [each.path for each in pair.server.log] == ["/metadata/2.root.json", "/metadata/timestamp.json"]


def test_only_the_model_that_is_new_is_fetched(pair: Pair) -> None:
    weights = pair.publish("detector", pair.versions[3])
    result = pair.device.update()
    assert ends(result) == {"classifier": ("current", 1), "detector": ("updated", 2)}
    fetched = {each.path[-64:] for each in pair.server.log if "/members/" in each.path}
    assert weights in fetched
    assert pair.kept() == pair.digests(0, 1, 3)


def test_one_that_does_not_answer_its_golden_set_keeps_no_other_back(pair: Pair, tmp_path: Path) -> None:
    pair.publish("classifier", lie(pair.versions[2], tmp_path))
    pair.publish("detector", pair.versions[3])
    result = pair.device.update()
    assert ends(result) == {"classifier": ("refused", 1), "detector": ("updated", 2)}
    assert (result.outcome, result.ok, result.changed) == ("refused", False, True)
    assert result.reason.startswith("classifier: ")
    assert "expected 'blue'" in result.reason
    state = pair.again().status()
    assert [each.version for each in state.slot("classifier").refused] == [2]
    assert state.slot("detector").refused == ()
    assert pair.parts() == {}  # the refused one's too: nothing needs them any more
    pair.server.log.clear()
    assert ends(pair.device.update()) == {"classifier": ("refused", 1), "detector": ("current", 2)}
    assert len(pair.server.log) == 2


@pytest.mark.parametrize("broken", ["classifier", "detector"])
def test_one_that_the_server_has_not_is_resumed_later_and_keeps_no_other_back(
    pair: Pair, broken: str
) -> None:
    weights = dict(zip(("classifier", "detector"), pair.publish_two(), strict=True))
    other = "detector" if broken == "classifier" else "classifier"
    pair.server.cut[weights[broken]] = CUT
    first = pair.device.update()
    assert ends(first) == {broken: ("offline", 1), other: ("updated", 2)}
    assert first.outcome == "offline"
    assert pair.parts()[weights[broken]] == CUT  # the other's success wiped nothing
    pair.server.cut.clear()
    pair.server.hidden.add(weights[broken])
    second = pair.again().update()
    assert ends(second) == {broken: ("offline", 1), other: ("current", 2)}
    assert "404" in second.of(broken).reason
    assert pair.parts()[weights[broken]] == CUT
    pair.server.hidden.clear()
    pair.server.log.clear()
    assert ends(pair.again().update()) == {broken: ("updated", 2), other: ("current", 2)}
    assert pair.server.sent(weights[broken]) == [(f"bytes={CUT}-", WHOLE - CUT)]
    assert pair.parts() == {}


def test_one_whose_manifest_is_missing_keeps_no_other_back(pair: Pair) -> None:
    pair.publish_two()
    current = pair.of("classifier").line("staging").current
    assert current is not None
    pair.server.hidden.add(current.variants[0].manifest)
    assert [(each.name, each.outcome) for each in pair.device.plan().models] == [
        ("classifier", "offline"),
        ("detector", "get"),
    ]
    assert ends(pair.device.update()) == {"classifier": ("offline", 1), "detector": ("updated", 2)}


def test_one_that_is_tampered_keeps_no_other_back(pair: Pair) -> None:
    weights, _ = pair.publish_two()
    pair.server.change = lambda path, data: data[::-1] if path.endswith(weights) else data
    result = pair.device.update()
    assert ends(result) == {"classifier": ("refused", 1), "detector": ("updated", 2)}
    assert "its SHA-256 is not the signed one" in result.of("classifier").reason
    assert weights not in pair.parts()
    pair.server.change = None
    assert ends(pair.device.update())["classifier"] == ("updated", 2)


def test_a_manifest_of_another_model_is_refused(pair: Pair) -> None:
    """Signed by staging's key: the detector's version 1 is the classifier's version 1."""
    detector = pair.of("detector")
    thief = Thief.of(detector, pair.folder / "his", "staging", "snapshot", "timestamp")
    pair.server.folder = thief.folder
    index = detector.index("staging")
    theirs, ours = index.line("classifier").current, index.line("detector").current
    assert theirs is not None
    assert ours is not None
    line = index.line("detector").replacing(replace(ours, variants=theirs.variants))
    change = thief.document("app/staging/index.json", index.having(line).to_bytes())
    thief.lead_to(app_staging=thief.forge("app-staging", change, by="staging"))
    result = pair.device.update()
    assert ends(result) == {"classifier": ("current", 1), "detector": ("refused", 1)}
    said = "the manifest is of app, classifier version 1, default; the index says detector 1, default"
    assert result.of("detector").reason == said
    assert pair.active() == {"classifier": 1, "detector": 1}


def test_a_model_that_the_channel_names_no_more_stays(pair: Pair) -> None:
    pair.publish("classifier", pair.versions[2])
    detector = pair.of("detector")
    thief = Thief.of(detector, pair.folder / "later", "staging", "snapshot", "timestamp")
    pair.server.folder = thief.folder
    index = detector.index("staging")
    change = thief.document("app/staging/index.json", replace(index, lines=index.lines[:1]).to_bytes())
    thief.lead_to(app_staging=thief.forge("app-staging", change, by="staging"))
    assert ends(pair.device.update()) == {"classifier": ("updated", 2), "detector": ("empty", 1)}
    assert pair.active() == {"classifier": 2, "detector": 1}
    assert pair.again().start("detector").version == 1


def test_one_that_the_disk_has_no_room_for_keeps_no_other_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.publish_two()
    free = [0, 10**9]  # for the classifier, then for the detector
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free.pop(0)))
        result = pair.device.update()
    assert ends(result) == {"classifier": ("refused", 1), "detector": ("updated", 2)}
    assert "the disk has 0 bytes free" in result.of("classifier").reason
    assert ends(pair.device.update())["classifier"] == ("updated", 2)


def weights_of(step: Step) -> bool:
    return "weight.bin" in step.what


def test_a_stop_is_the_end_of_all_and_keeps_what_came(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "PIECE_BYTES", 16_384)
    _, weights = pair.publish_two()
    seen: list[Step] = []

    def stop() -> bool:
        return len([step for step in seen if step.what.startswith("detector") and weights_of(step)]) > 1

    result = pair.device.update(seen.append, cancelled=stop)
    assert ends(result) == {"classifier": ("updated", 2), "detector": ("cancelled", 1)}
    assert (result.outcome, result.ok) == ("cancelled", False)
    assert pair.active() == {"classifier": 2, "detector": 1}
    assert 0 < pair.parts()[weights] < WHOLE
    have = pair.parts()[weights]
    pair.server.log.clear()
    assert ends(pair.again().update()) == {"classifier": ("current", 2), "detector": ("updated", 2)}
    assert pair.server.sent(weights) == [(f"bytes={have}-", WHOLE - have)]


def test_a_stop_in_the_first_one_leaves_the_others_alone(pair: Pair) -> None:
    for name in ("classifier", "detector"):  # the same model: nothing is left to be fetched for the second
        pair.publish(name, pair.versions[2])
    checks: list[Step] = []
    result = pair.device.update(
        lambda step: checks.append(step) if step.phase == "check" else None, cancelled=lambda: bool(checks)
    )
    assert ends(result) == {"classifier": ("cancelled", 1), "detector": ("cancelled", 1)}
    assert result.reason == "cancelled; what has come is kept"
    assert [step.what for step in checks] == ["classifier version 2: checking the golden set"]


def test_progress_is_of_the_bytes_of_all_of_them(pair: Pair) -> None:
    pair.publish_two()
    plan = pair.device.plan()
    assert [each.outcome for each in plan.models] == ["get", "get"]
    assert plan.outcome == "get"
    steps: list[Step] = []
    result = pair.device.update(steps.append)
    loads = [step for step in steps if step.phase == "download"]
    assert {step.total for step in loads} == {plan.total}
    assert plan.total > 400_000
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert steps[-1].done == plan.total
    assert result.received_bytes == plan.missing == sum(each.missing for each in plan.models)
    assert [step.what for step in steps if step.phase == "activate"] == [
        "classifier version 2",
        "detector version 2",
    ]
    assert {each.outcome for each in pair.device.plan().models} == {"current"}


def test_names_takes_these_alone(pair: Pair) -> None:
    weights, _ = pair.publish_two()
    pair.server.cut[weights] = CUT
    assert ends(pair.device.update(names=["classifier"])) == {"classifier": ("offline", 1)}
    pair.server.cut.clear()
    result = pair.device.update(names=["detector"])
    assert ends(result) == {"detector": ("updated", 2)}
    assert (result.version, result.digest) == (2, pair.versions[3].digest)  # the only one of this update
    assert pair.active() == {"classifier": 1, "detector": 2}
    assert pair.parts()[weights] == CUT  # what another one needs stays
    assert ends(pair.device.update(names="classifier")) == {"classifier": ("updated", 2)}
    assert [each.name for each in pair.device.plan(names=["detector"]).models] == ["detector"]


def test_a_device_may_follow_one_model_alone_for_good(pair: Pair) -> None:
    root = pair.of("detector").root_file
    device = Device.install(pair.folder / "watch", pair.server.url, "app", "staging", root, limits=QUICK)
    assert device.update(names=["detector"]).version == 1
    assert device.status().names == ("detector",)
    assert device.start().version == 1
    assert [path.name for path in (device.folder / "models").iterdir()] == [pair.versions[1].digest]


def test_a_name_that_the_channel_has_not_is_said_and_keeps_no_other_back(pair: Pair) -> None:
    pair.publish_two()
    result = pair.device.update(names=["detectr", "detector"])
    assert ends(result) == {"detectr": ("refused", None), "detector": ("updated", 2)}
    assert result.reason == "detectr: app/staging has no model 'detectr'; it has classifier, detector"
    assert pair.device.status().names == ("classifier", "detector")
    with pytest.raises(RepositoryError, match="a model's name is"):
        pair.device.update(names=["../etc"])
    with pytest.raises(UpdateError, match="not about 'classifier': it was about detector, detectr"):
        result.of("classifier")


def test_without_a_name_several_models_are_an_error(pair: Pair) -> None:
    for act in (pair.device.model, pair.device.start, pair.device.started, pair.device.status().slot):
        with pytest.raises(UpdateError, match="app holds several models: classifier, detector") as caught:
            act()
        assert caught.value.hint == "name one: --model NAME"
    with pytest.raises(UpdateError, match="holds several"):
        pair.device.predict(RED)
    with pytest.raises(UpdateError, match="app has no model 'detectr' here; it has classifier, detector"):
        pair.device.start("detectr")


def test_offline_is_said_of_each(pair: Pair) -> None:
    pair.server.hidden.add("timestamp.json")
    result = pair.device.update()
    assert ends(result) == {"classifier": ("offline", 1), "detector": ("offline", 1)}
    assert result.reason == result.of("detector").reason  # once
    last = pair.again().status().last
    assert last is not None
    assert (last.outcome, last.reason) == ("offline", result.reason)


def test_a_newer_version_whose_manifest_is_missing_wipes_nothing_that_came(
    pair: Pair, tmp_path: Path
) -> None:
    weights = pair.publish("classifier", pair.versions[2])
    pair.server.cut[weights] = CUT
    pair.device.update()
    assert pair.parts()[weights] == CUT
    pair.server.cut.clear()
    other = lie(pair.versions[2], tmp_path)  # version 3: the same model
    pair.of("classifier").publish([Form(other.model, other.golden)], again=True)
    assert pair.member("classifier", "weight.bin") == weights
    pair.publish("detector", pair.versions[3])
    current = pair.of("classifier").line("staging").current
    assert current is not None
    manifest = current.variants[0].manifest
    pair.server.hidden.add(manifest)
    assert ends(pair.again().update()) == {"classifier": ("offline", 1), "detector": ("updated", 2)}
    assert pair.parts()[weights] == CUT
    assert pair.member("detector", "weight.bin") not in pair.parts()  # of what is active nothing stays
    pair.server.hidden.clear()
    pair.server.log.clear()
    assert ends(pair.again().update())["classifier"] == ("refused", 1)  # by its golden set
    assert pair.server.sent(weights) == [(f"bytes={CUT}-", WHOLE - CUT)]
    assert pair.parts() == {}


def test_what_is_not_installed_for_one_keeps_no_other_back(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, _ = pair.publish_two()
    check = golden.check

    def picky(model: Path, folder: Path) -> object:
        if model_digest(model) == pair.versions[2].digest:
            raise UsageError("the engine is not installed")
        return check(model, folder)

    with monkeypatch.context() as patch:
        patch.setattr(golden, "check", picky)
        result = pair.device.update()
        assert ends(result) == {"classifier": ("refused", 1), "detector": ("updated", 2)}
        assert result.reason == "classifier: the engine is not installed"
        assert pair.again().status().slot("classifier").refused == ()  # no verdict on the model
        with pytest.raises(UsageError, match="not installed"):
            pair.device.update(names=["classifier"])
    pair.server.log.clear()
    assert ends(pair.again().update()) == {"classifier": ("updated", 2), "detector": ("current", 2)}
    assert pair.server.sent(weights) == []  # what came was kept


def test_an_app_that_names_no_model_goes_on_when_its_collection_gets_another(world: World) -> None:
    replace(world.repository, name="hands").publish([Form(world.two.model, world.two.golden)])
    result = world.again().update()
    assert ends(result) == {"faces": ("current", 1), "hands": ("updated", 1)}
    device = world.again()
    assert device.status().active == device.status().slot("faces").active
    assert device.model() == device.model("faces")
    with device.running() as found:
        assert found.path == device.model("faces")
    assert device.start().version == 1
    device.started()
    assert device.predict(RED)["classLabel"] == "red"
    world.assert_old_model_works()
