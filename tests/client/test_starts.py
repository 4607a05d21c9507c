"""A model that takes the app down: the device goes back to the one before, by itself, without a network."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from PIL import Image

import coremlops.runtime
from coremlops import golden
from coremlops.client import Device
from coremlops.client.starts import MOST, Starts, starts_file
from coremlops.errors import MissingExtraError, ModelError, UpdateError
from coremlops.files import exclusive_lock
from coremlops.model import model_digest
from coremlops.release.terms import Form, Terms
from tests.client.conftest import World
from tests.release.models import write_model, write_pictures

RED = {"image": Image.new("RGB", (30, 30), (250, 5, 5))}


@pytest.fixture
def updated(world: World) -> Device:
    """Version 2 is active, version 1 is in the other slot, and the network is gone."""
    world.publish_two()
    assert world.again().update().version == 2
    world.server.folder = world.folder / "nowhere"
    return world.again()


def test_a_confirmed_start_counts_nothing(updated: Device) -> None:
    for _ in range(2 * MOST):
        found = updated.start()
        assert (found.version, found.returned) == (2, "")
        assert found.path == updated.model()
        updated.started()


def test_after_three_crashes_the_model_before_is_active(world: World, updated: Device) -> None:
    for _ in range(MOST):
        assert world.again().start().version == 2
    found = world.again().start()
    assert found.version == 1
    assert found.returned == "version 2: 3 starts in a row were not confirmed"
    assert found.path is not None
    assert model_digest(found.path) == world.one.digest
    state = world.again().status()
    assert state.last is not None
    assert (state.last.outcome, state.active and state.active.version) == ("returned", 1)
    assert [each.version for each in state.refused] == [2]
    assert world.again().start().returned == ""


def test_what_it_returned_from_is_not_taken_again(world: World, updated: Device) -> None:
    for _ in range(MOST + 1):
        updated.start()
    world.server.folder = world.repository.folder
    world.server.log.clear()
    result = world.again().update()
    assert (result.outcome, result.version, result.offered) == ("refused", 1, 2)
    assert "3 starts in a row" in result.reason
    assert not any("/members/" in each.path for each in world.server.log)
    world.repository.publish([_form(world)])
    assert world.again().update().version == 3


def _form(world: World) -> Form:
    model = write_model(world.folder / "three.mlpackage", gain=0.05)
    golden.make(model, write_pictures(world.folder / "pictures-3"), world.folder / "golden-3")
    return Form(model, world.folder / "golden-3")


def test_kill_9_counts(world: World, updated: Device) -> None:
    for _ in range(MOST):
        child = os.fork()
        if child == 0:
            try:
                Device(updated.folder).start()
                os.kill(os.getpid(), signal.SIGKILL)
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
    assert world.again().start().version == 1


def test_a_model_that_cannot_be_loaded_counts_too(
    world: World, updated: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = coremlops.runtime.load

    def load(path: Path, *given: object, **named: object) -> object:
        if model_digest(path) == world.two.digest:
            raise ModelError("no memory for it")
        return real(path, *given, **named)  # type: ignore[arg-type]  # passed on as given

    monkeypatch.setattr(coremlops.runtime, "load", load)
    for _ in range(MOST):
        with pytest.raises(ModelError):
            world.again().predict(RED)
    assert world.again().predict(RED)["classLabel"] == "red"
    state = world.again().status()
    assert state.active is not None
    assert state.active.version == 1
    assert "ModelError: no memory for it" in state.refused[0].reason


def test_a_version_whose_files_were_damaged_here_is_left_and_fetched_again(
    world: World, updated: Device
) -> None:
    weights = next(updated.model().rglob("weight.bin"))
    data = weights.read_bytes()
    weights.unlink()  # it may be one file with a download
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    for _ in range(MOST):
        updated.start()
    found = world.again().start()
    assert found.version == 1
    assert found.returned == "version 2: 3 starts in a row were not confirmed; its files are damaged"
    assert world.again().status().refused == ()
    world.server.folder = world.repository.folder
    assert world.again().update().version == 2
    assert model_digest(world.again().model()) == world.two.digest


def test_a_model_that_the_channel_took_back_answers_nothing(world: World) -> None:
    (world.device.folder / "profile.json").write_text(json.dumps({"embedded_version": 1}))
    world.repository.offer_embedded("staging")
    assert world.again().update().outcome == "embedded"
    assert world.again().start().path is None
    with pytest.raises(UpdateError, match="is to use the app's own model"):
        world.again().predict(RED)


def test_a_wrong_question_is_no_fault_of_the_model(world: World, updated: Device) -> None:
    for _ in range(2 * MOST):
        with pytest.raises(Exception, match="image"):
            world.again().predict({"sound": 1})
    assert world.again().start().version == 2


@pytest.mark.parametrize("error", [KeyboardInterrupt(), MissingExtraError("onnxruntime", "runtime")])
def test_what_is_no_fault_of_the_model_is_not_counted(
    world: World, updated: Device, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def load(path: Path) -> None:
        raise error

    with pytest.raises(ModelError), updated.running():
        raise ModelError("it does not load")
    with monkeypatch.context() as patch:
        patch.setattr(coremlops.runtime, "load", load)
        for _ in range(2 * MOST):
            with pytest.raises(type(error)):
                world.again().predict(RED)
    active = updated.status().active
    assert active is not None
    assert (
        Starts.load(starts_file(updated.folder, "faces"), active.manifest).count == 1
    )  # the fault before still counts
    assert updated.start().version == 2


def test_running_confirms_or_tells(updated: Device) -> None:
    with updated.running() as found:
        assert found.version == 2
    with pytest.raises(ZeroDivisionError), updated.running():
        raise ZeroDivisionError("of the app")
    active = updated.status().active
    assert active is not None
    starts = Starts.load(starts_file(updated.folder, "faces"), active.manifest)
    assert (starts.count, starts.reason) == (1, "ZeroDivisionError: of the app")


def test_when_both_slots_are_bad_the_app_uses_its_own(world: World, updated: Device) -> None:
    (updated.folder / "profile.json").write_text(json.dumps({"embedded_version": 1}))
    for _ in range(2 * MOST):
        assert world.again().start().path is not None
    found = world.again().start()
    assert (found.path, found.version) == (None, None)
    state = world.again().status()
    assert (state.active, state.embedded) == (None, True)
    assert [each.version for each in state.refused] == [2, 1]


def test_files_that_are_gone_lead_to_the_other_slot_and_are_fetched_again(
    world: World, updated: Device
) -> None:
    shutil.rmtree(updated.folder / "models" / world.two.digest)
    found = world.again().start()
    assert found.version == 1
    assert "its files are gone" in found.returned
    world.server.folder = world.repository.folder
    assert world.again().update().version == 2


def test_an_update_in_another_process_does_not_stop_a_start(
    world: World, updated: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coremlops.client.starts.WAIT_S", 0.05)
    with exclusive_lock(updated.folder / "lock", wait_s=0):
        for _ in range(MOST):
            assert world.again().start().version == 2
        assert world.again().start().version == 1
        assert world.again().status().active is not None
    assert world.again().start().version == 1
    state = world.again().status()
    assert state.active is not None
    assert state.active.version == 1


def test_a_newer_model_in_the_app_wins_unless_the_version_holds(world: World) -> None:
    (world.device.folder / "profile.json").write_text(json.dumps({"embedded_version": 5}))
    assert world.again().start().path is None  # at once after the app's update, without a network
    assert world.again().update().outcome == "embedded"
    world.repository.publish([Form(world.two.model, world.two.golden)], terms=Terms(hold=True))
    assert world.again().update().version == 2
    found = world.again().start()
    assert (found.version, found.path) == (2, world.again().model())


def test_damaged_counts_are_no_counts(updated: Device) -> None:
    for data in (b"", b"{", b"[]", b'{"format":0}', b"x" * 100_000):
        (updated.folder / "starts-faces.json").write_bytes(data)
        assert updated.start().version == 2


def test_a_read_only_folder_still_starts(updated: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: object, **named: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("coremlops.client.starts.write_atomic", refuse)
    assert updated.start().version == 2


def test_a_model_that_takes_the_check_down_is_refused_in_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.publish_two()
    for _ in range(MOST):
        child = os.fork()
        if child == 0:
            try:
                monkeypatch.setattr("coremlops.golden.check", lambda *given: os.kill(os.getpid(), 9))
                world.again().update()
            finally:
                os._exit(1)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1])
        world.assert_old_model_works()
    result = world.again().update()
    assert (result.outcome, result.version) == ("refused", 1)
    assert result.reason == "3 checks of its golden set in a row did not end"
    assert world.again().update().outcome == "refused"


def test_a_device_without_a_model_starts_nothing(world: World, tmp_path: Path) -> None:
    device = Device.install(
        tmp_path / "new", world.server.url, "faces", "staging", world.repository.root_file
    )
    assert device.start().path is None
    with pytest.raises(UpdateError, match="no model yet"):
        device.predict(RED)
