"""What a device keeps of each model: versions, starts, returns, halts, and the app's own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import coremlops
from coremlops import golden
from coremlops.client.slot import MAX_REFUSED, Installed, Refused, Slot
from coremlops.client.starts import MOST, Starts, starts_file
from coremlops.client.state import MAX_REASON, MAX_STATE_BYTES, State
from coremlops.collection import MAX_MODELS, bucket
from coremlops.errors import ModelError, RepositoryError, UpdateError
from coremlops.files import exclusive_lock
from coremlops.release.terms import Terms
from tests.client.conftest import Pair, Version
from tests.client.test_models import RED, ends


def carried(pair: Pair, versions: object) -> None:
    """The app carries these."""
    (pair.device.folder / "profile.json").write_text(json.dumps({"embedded_version": versions}))


def test_a_rollback_of_one_leaves_the_other(pair: Pair) -> None:
    pair.publish_two()
    pair.device.update()
    pair.of("detector").rollback("staging")
    pair.server.log.clear()
    assert ends(pair.device.update()) == {"classifier": ("current", 2), "detector": ("updated", 1)}
    assert len([each for each in pair.server.log if "/members/" in each.path]) == 1  # the manifest alone
    assert pair.active() == {"classifier": 2, "detector": 1}


def test_a_halt_is_of_one_version_of_one_model(pair: Pair) -> None:
    pair.publish_two()
    pair.of("detector").halt("staging")
    result = pair.device.update()
    assert ends(result) == {"classifier": ("updated", 2), "detector": ("current", 1)}
    assert pair.device.status().slot("detector").refused == ()


def test_a_rule_of_one_keeps_nobody_from_the_other(pair: Pair) -> None:
    pair.publish("classifier", pair.versions[2], terms=Terms(basis_points=0))
    pair.publish("detector", pair.versions[3])
    assert ends(pair.device.update()) == {"classifier": ("current", 1), "detector": ("updated", 2)}


def test_a_share_of_all_devices_reaches_those_of_them_that_it_takes_in(pair: Pair) -> None:
    pair.publish("detector", pair.versions[3], terms=Terms(basis_points=5000))
    entry = pair.of("detector").line("staging").current
    assert entry is not None
    assert entry.rollout is not None
    for number in range(8):
        folder = shutil.copytree(pair.device.folder, pair.folder / f"phone-{number}")
        state = State.load(folder / "state.json")
        own = hashlib.sha256(str(number).encode()).hexdigest()[:32]
        replace(state, install_id=own).save(folder / "state.json")
        expected = ("updated", 2) if bucket(entry.rollout.salt, own) < 5000 else ("current", 1)
        assert ends(type(pair.device)(folder).update())["detector"] == expected
    made = pair.device.status().install_id
    mine = ("updated", 2) if bucket(entry.rollout.salt, made) < 5000 else ("current", 1)
    assert ends(pair.device.update())["detector"] == mine


def test_three_starts_of_one_return_it_alone(pair: Pair) -> None:
    pair.publish_two()
    pair.device.update()
    for _ in range(MOST):
        assert pair.again().start("detector").version == 2
    assert pair.again().start("classifier").version == 2
    found = pair.again().start("detector")
    assert (found.version, found.returned) == (1, "version 2: 3 starts in a row were not confirmed")
    assert pair.active() == {"classifier": 2, "detector": 1}
    state = pair.again().status()
    assert [each.version for each in state.slot("detector").refused] == [2]
    assert state.slot("classifier").refused == ()
    assert state.last is not None
    assert state.last.reason == "detector: version 2: 3 starts in a row were not confirmed"
    result = pair.again().update()
    assert ends(result) == {"classifier": ("current", 2), "detector": ("refused", 1)}


def test_starts_are_confirmed_and_failed_by_name(pair: Pair) -> None:
    folder = pair.device.folder
    counts = {}
    with pytest.raises(ModelError), pair.device.running("detector"):
        raise ModelError("it does not load")
    with pair.device.running("classifier") as found:
        assert found.version == 1
    for slot in pair.device.status().models:
        assert slot.active is not None
        counts[slot.name] = Starts.load(starts_file(folder, slot.name), slot.active.manifest)
    assert counts["classifier"].count == 0
    assert (counts["detector"].count, counts["detector"].reason) == (1, "ModelError: it does not load")
    pair.device.started("detector")
    assert not starts_file(folder, "detector").exists()
    for _ in range(2 * MOST):
        assert pair.again().predict(RED, "detector")["classLabel"] == "red"  # each confirms its start


def test_a_return_of_one_undoes_no_update_of_the_other(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start reads the state, then waits for an update's lock: it must not write back what it read."""
    pair.publish_two()
    pair.device.update()
    for _ in range(MOST):
        pair.device.start("detector")
    late, before = pair.again(), pair.again().status()
    pair.of("classifier").rollback("staging")
    assert pair.again().update().of("classifier").version == 1
    monkeypatch.setattr(late, "status", lambda: before)
    assert late.start("detector").version == 1
    assert pair.active() == {"classifier": 1, "detector": 1}


def test_a_return_of_a_version_that_was_replaced_meanwhile_is_none(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.publish_two()
    pair.device.update()
    for _ in range(MOST):
        pair.device.start("detector")
    late, before = pair.again(), pair.again().status()
    pair.publish("detector", pair.versions[0])
    assert pair.again().update().of("detector").version == 3
    monkeypatch.setattr(late, "status", lambda: before)
    found = late.start("detector")
    assert (found.version, found.returned) == (3, "")
    assert pair.active() == {"classifier": 2, "detector": 3}


@pytest.mark.parametrize("turns", [[None], [["classifier"], ["detector"]]], ids=["together", "in turns"])
def test_models_that_take_the_check_down_are_refused_in_the_end(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, turns: list[list[str] | None]
) -> None:
    """Each of them: the count of one is not lost by the check of the other."""
    pair.publish_two()
    for turn in range(2 * MOST):
        child = os.fork()
        if child == 0:
            try:
                monkeypatch.setattr("coremlops.golden.check", lambda *given: os.kill(os.getpid(), 9))
                pair.again().update(names=turns[turn % len(turns)])
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert pair.active() == {"classifier": 1, "detector": 1}
    result = pair.again().update()
    assert ends(result) == {"classifier": ("refused", 1), "detector": ("refused", 1)}
    assert result.of("detector").reason == "3 checks of its golden set in a row did not end"
    monkeypatch.setattr(coremlops, "__version__", "99.0")  # a newer one judges anew
    assert ends(pair.again().update()) == {"classifier": ("updated", 2), "detector": ("updated", 2)}


def test_a_start_while_an_update_holds_the_lock_goes_on(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.publish_two()
    pair.device.update()
    monkeypatch.setattr("coremlops.client.starts.WAIT_S", 0.05)
    with exclusive_lock(pair.device.folder / "lock", wait_s=0):
        for _ in range(MOST):
            assert pair.again().start("detector").version == 2
        assert pair.again().start("detector").version == 1
    assert pair.active() == {"classifier": 2, "detector": 2}  # not remembered: the next start does it
    assert pair.again().start("detector").version == 1
    assert pair.active() == {"classifier": 2, "detector": 1}


def test_a_folder_that_takes_nothing_still_returns(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pair.publish_two()
    pair.device.update()
    for digest in pair.digests(1, 3):
        shutil.rmtree(pair.device.folder / "models" / digest)

    def refuse(*given: object, **named: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("coremlops.client.state.write_atomic", refuse)
    found = pair.again().start("detector")  # both of its versions are gone
    assert found.path is None
    assert found.returned == "version 2: its files are gone; version 1: its files are gone"


def test_the_app_carries_a_version_of_each(pair: Pair) -> None:
    carried(pair, {"detector": 3})
    assert pair.again().start("detector").path is None  # newer than what the channel brought
    assert pair.again().start("classifier").version == 1
    assert ends(pair.again().update()) == {"classifier": ("current", 1), "detector": ("embedded", 1)}
    assert pair.again().status().slot("detector").embedded
    pair.publish("detector", pair.versions[3], terms=Terms(hold=True))
    assert ends(pair.again().update()) == {"classifier": ("current", 1), "detector": ("updated", 2)}
    assert pair.again().start("detector").version == 2


def test_a_model_that_only_the_app_has_is_the_apps_own(pair: Pair) -> None:
    carried(pair, {"detector": 1, "speech": 4})
    found = pair.again().start("speech")
    assert (found.path, found.version) == (None, None)
    with pair.again().running("speech") as found:
        assert found.path is None
    with pytest.raises(UpdateError, match="is to use the app's own model, which is not here"):
        pair.again().predict(RED, "speech")
    with pytest.raises(UpdateError, match="app has no model 'spech' here"):
        pair.again().start("spech")


def test_one_model_sent_to_the_apps_own(pair: Pair) -> None:
    carried(pair, {"classifier": 1, "detector": 1})
    pair.of("detector").offer_embedded("staging")
    assert ends(pair.again().update()) == {"classifier": ("current", 1), "detector": ("embedded", 1)}
    assert pair.again().start("detector").path is None
    assert pair.again().start("classifier").version == 1


def other_golden(pair: Pair, version: Version, folder: Path) -> Version:
    """The same model with a golden set of fewer pictures."""
    pictures = Path(shutil.copytree(version.golden, folder / "pictures"))
    for path in pictures.iterdir():
        if path.suffix != ".png" or path.name == "0003.png":
            path.unlink()
    golden.make(version.model, pictures, folder / "golden")
    return Version(version.model, folder / "golden")


def test_two_names_of_the_same_model_share_its_folder(pair: Pair, tmp_path: Path) -> None:
    same = other_golden(pair, pair.versions[0], tmp_path)  # the classifier's version 1
    path = pair.device.model("classifier")
    inode, original = path.stat().st_ino, (path.parent / "golden" / "golden.json").read_bytes()
    pair.publish("detector", same)
    result = pair.device.update()
    assert ends(result) == {"classifier": ("current", 1), "detector": ("updated", 2)}
    assert result.received_bytes < 10_000  # a manifest and a golden set: the model is here
    assert pair.device.model("detector") == path == pair.device.model("classifier")
    assert path.stat().st_ino == inode  # nobody touched what an app may run
    taken = path.parent / "golden" / "golden.json"
    assert taken.read_bytes() == (same.golden / "golden.json").read_bytes() != original
    assert golden.check(path, path.parent / "golden").ok
    assert pair.kept() == pair.digests(0, 1)
    assert ends(pair.device.update()) == {"classifier": ("current", 1), "detector": ("current", 2)}
    for _ in range(MOST):
        pair.device.start("detector")
    assert pair.device.start("detector").version == 1
    assert pair.device.start("classifier").path == path  # its own starts are its own
    pair.publish("classifier", pair.versions[2])
    pair.publish("detector", pair.versions[3])
    pair.device.update()
    pair.of("classifier").rollback("staging")
    assert ends(pair.device.update())["classifier"] == ("updated", 1)
    assert pair.active() == {"classifier": 1, "detector": 3}


def test_two_names_get_the_same_model_in_one_update(pair: Pair, tmp_path: Path) -> None:
    pair.publish("classifier", pair.versions[2])
    pair.publish("detector", other_golden(pair, pair.versions[2], tmp_path))
    plan = pair.device.plan()
    assert 200_000 < plan.missing < 250_000  # once
    result = pair.device.update()
    assert ends(result) == {"classifier": ("updated", 2), "detector": ("updated", 2)}
    assert result.received_bytes == plan.missing
    assert pair.kept() == pair.digests(0, 1, 2)
    assert pair.active() == {"classifier": 2, "detector": 2}


def test_state_json_is_read_strictly(pair: Pair) -> None:
    value = json.loads((pair.device.folder / "state.json").read_text())
    assert [each["name"] for each in value["models"]] == ["classifier", "detector"]

    def refused(models: object) -> str:
        with pytest.raises(RepositoryError) as caught:
            State.from_bytes(json.dumps({**value, "models": models}).encode())
        return caught.value.message

    one, two = value["models"]
    assert refused([two, one]) == "state: the names of 'models' do not rise"
    assert refused([one, one]) == "state: the names of 'models' do not rise"
    assert refused([{**one, "name": f"m{number:02}"} for number in range(17)]).startswith(
        "state: 'models': expected a list of at most 16"
    )
    assert "unknown key 'x'" in refused([{**one, "x": 1}])
    assert "'embedded' is missing" in refused([{key: one[key] for key in one if key != "embedded"}])
    assert "a model's name is" in refused([{**one, "name": "../x"}])
    assert "state: models[1]: active: 'version'" in refused(
        [one, {**two, "active": {**two["active"], "version": 0}}]
    )
    with pytest.raises(RepositoryError, match="'install_id': expected 32 lower-case hex digits"):
        State.from_bytes(json.dumps({**value, "install_id": "\u00e4" * 32}).encode())


def test_the_largest_state_can_be_read_back(tmp_path: Path) -> None:
    said = "\U0001f600" * MAX_REASON
    refused = tuple(Refused(2, f"{number:064x}", said, "0.1.0") for number in range(MAX_REFUSED))
    one = Installed(1, "default", "a" * 64, "b" * 64)
    slots = tuple(Slot(f"m{number:02}", one, one, refused=refused) for number in range(MAX_MODELS))
    state = State("http://x", "app", "staging", "f" * 32, slots)
    assert len(state.to_bytes()) < MAX_STATE_BYTES
    state.save(tmp_path / "state.json")
    assert State.load(tmp_path / "state.json") == state


def test_a_state_holds_sixteen_models_and_forgets_those_that_are_offered_no_more() -> None:
    old = State("http://x", "app", "staging").knowing(f"old-{number:02}" for number in range(MAX_MODELS))
    new = old.knowing(("zoo", "ant"))
    assert len(new.models) == MAX_MODELS
    assert {"ant", "zoo"} <= set(new.names)
    assert list(new.names) == sorted(new.names)
    assert State.from_bytes(new.to_bytes()) == new
    assert new.having(replace(new.slot("zoo"), embedded=True)).slot("zoo").embedded


def test_what_is_offered_no_more_is_forgotten_before_what_is() -> None:
    old = State("http://x", "app", "staging").knowing(f"m-{number:02}" for number in range(MAX_MODELS))
    offered = ("new", *old.names[1:])
    assert old.knowing(["new"], offered).names == (*offered[1:], "new")
    mine = old.having(replace(old.slot("m-15"), active=Installed(1, "default", "a" * 64, "b" * 64)))
    assert "m-15" in mine.knowing(["new"]).names  # of several that are not, those without a version


def test_a_device_that_lost_its_state_fetches_no_model_again(pair: Pair) -> None:
    for name in ("state.json", "state.copy.json"):
        (pair.device.folder / name).unlink()
    root = pair.of("detector").root_file
    device = type(pair.device).install(pair.device.folder, pair.server.url, "app", "staging", root)
    assert ends(device.update(names=["classifier"])) == {"classifier": ("updated", 1)}
    assert pair.kept() == pair.digests(0, 1)  # the other one will be asked for, too
    result = device.update()
    assert ends(result) == {"classifier": ("current", 1), "detector": ("updated", 1)}
    assert result.received_bytes < 10_000  # its manifest


def test_a_device_makes_its_install_id_once(pair: Pair) -> None:
    made = pair.device.status().install_id
    assert len(made) == 32
    pair.publish_two()
    pair.device.update()
    root = pair.of("detector").root_file
    again = type(pair.device).install(pair.device.folder, pair.server.url, "app", "staging", root)
    assert again.status().install_id == again.profile().install_id == made
    other = type(pair.device).install(pair.folder / "other", pair.server.url, "app", "staging", root)
    assert other.status().install_id not in ("", made)
