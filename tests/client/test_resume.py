"""Downloads that end early, and crashes at every step: nothing is lost, nothing half is ever active."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from coremlops.release.terms import Form
from tests.client.conftest import World
from tests.release.test_crash import Crash, crash_at

CUT = 70_000
WHOLE = 200_000


def part(world: World) -> Path:
    return world.device.folder / "downloads" / f"{world.member('weight.bin')}.part"


def cut_once(world: World) -> None:
    """An update whose weights end after 70,000 bytes; the network is well again afterwards."""
    world.publish_two()
    world.server.cut[world.member("weight.bin")] = CUT
    result = world.device.update()
    assert (result.outcome, result.version) == ("offline", 1), result
    world.assert_old_model_works()
    world.server.cut.clear()
    world.server.log.clear()


def test_a_truncated_download_is_resumed_and_only_the_rest_is_fetched(world: World) -> None:
    cut_once(world)
    assert part(world).stat().st_size == CUT
    last = world.device.status().last
    assert last is not None
    name = "version 2: Data/com.apple.CoreML/weights/weight.bin"
    words = f"truncated: {name}: {CUT} of {WHOLE} bytes came; the rest is fetched next time"
    assert last.reason.replace("model.mlpackage/", "") == words
    result = world.again().update()
    assert (result.outcome, result.version) == ("updated", 2)
    assert world.server.sent(world.member("weight.bin")) == [(f"bytes={CUT}-", WHOLE - CUT)]
    assert world.server.sent(world.member("model.mlmodel")) == []
    assert result.received_bytes == WHOLE - CUT + sum(
        sent for name in ("Manifest.json",) for _, sent in world.server.sent(world.member(name))
    )


def test_network_errors_never_wipe_what_came(world: World) -> None:
    cut_once(world)
    for end in (50, 100):
        world.server.cut[world.member("weight.bin")] = end
        assert world.device.update().outcome == "offline"
    assert part(world).stat().st_size == CUT + 150
    world.server.hidden.add("timestamp.json")
    assert world.device.update().outcome == "offline"
    assert part(world).stat().st_size == CUT + 150


def test_a_server_without_ranges_begins_anew(world: World) -> None:
    cut_once(world)
    world.server.ranges = False
    result = world.device.update()
    assert (result.outcome, result.version) == ("updated", 2)
    assert world.server.sent(world.member("weight.bin")) == [(f"bytes={CUT}-", WHOLE)]


def test_a_part_that_is_wrong_is_fetched_anew(world: World) -> None:
    cut_once(world)
    part(world).write_bytes(b"x" * CUT)
    result = world.device.update()
    assert (result.outcome, result.version) == ("updated", 2)
    assert world.server.sent(world.member("weight.bin")) == [(f"bytes={CUT}-", WHOLE - CUT), (None, WHOLE)]


@pytest.mark.parametrize("size", [WHOLE, WHOLE + 1])
def test_a_part_that_is_wrong_and_whole_or_too_long_is_fetched_anew(world: World, size: int) -> None:
    cut_once(world)
    part(world).write_bytes(b"x" * size)
    assert world.device.update().version == 2
    assert world.server.sent(world.member("weight.bin")) == [(None, WHOLE)]


def test_parts_of_a_version_that_is_no_longer_offered_are_removed(world: World) -> None:
    cut_once(world)
    begun = part(world)
    world.server.hidden.add("timestamp.json")
    assert world.device.update().outcome == "offline"
    assert begun.exists()  # nobody knows yet
    world.server.hidden.clear()
    world.repository.rollback("staging")
    assert world.device.update().version == 1
    assert not begun.exists()
    world.repository.publish([Form(world.two.model, world.two.golden)], again=True)
    assert world.device.update().version == 2
    assert list((world.device.folder / "downloads").iterdir()) == []


@pytest.mark.parametrize("where", ["models", "state.json"])
def test_crash_between_download_and_activation(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    world.publish_two()
    real = os.replace

    def crash(source: Any, target: Any) -> None:
        path = Path(target)
        if where in (path.name, path.parent.name):
            raise Crash
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", crash)
        with pytest.raises(Crash):
            world.device.update()
    world.assert_old_model_works()
    world.server.log.clear()
    result = world.again().update()
    assert (result.outcome, result.version, result.received_bytes) == ("updated", 2, 0)
    assert [each.path for each in world.server.log if "/members/" in each.path] == []
    assert sorted(path.name for path in (world.device.folder / "models").iterdir()) == sorted(
        [world.one.digest, world.two.digest]
    )


@pytest.mark.parametrize("name", ["replace", "fsync", "link"])
def test_a_crash_at_every_step_leaves_a_model_that_works(
    world: World, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    world.publish_two()
    crashes = 0
    for count in range(1, 60):
        with monkeypatch.context() as patch:
            calls = crash_at(patch, name, count)
            try:
                result = world.again().update()
            except Crash:
                crashes += 1
            else:
                assert result.version == 2
                assert calls() < count
                break
        active = world.again().status().active
        assert active is not None
        if active.version == 1:
            world.assert_old_model_works()
        else:
            assert active.model == world.two.digest
    assert crashes >= 2
    device = world.again()
    assert device.update().outcome == "current"
    assert device.model().exists()


def test_two_updates_at_once_do_not_meet(world: World) -> None:
    from coremlops.errors import UpdateError
    from coremlops.files import exclusive_lock

    with (
        exclusive_lock(world.device.folder / "lock", wait_s=0.0),
        pytest.raises(UpdateError, match="another process is updating"),
    ):
        world.device.update()
    assert world.device.update().outcome == "current"


def test_a_disk_that_fills_up_while_updating(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    world.publish_two()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        result = world.device.update()
    assert (result.outcome, result.version) == ("refused", 1)
    assert "No space left on device" in result.reason
    world.assert_old_model_works()
    assert world.device.update().version == 2


def test_folders_that_somebody_emptied_come_back(world: World) -> None:
    import shutil

    for name in ("metadata", "downloads", "models"):
        shutil.rmtree(world.device.folder / name)
    assert world.device.update().outcome == "updated"
    world.assert_old_model_works()


def test_copied_members_are_on_the_disk_before_the_state_names_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there are no hard links the files are copied; a power cut must not leave empty ones."""
    synced: set[int] = set()
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        real(descriptor)

    def no_links(*args: object, **options: object) -> None:
        raise OSError("no hard links here")

    monkeypatch.setattr(os, "link", no_links)
    monkeypatch.setattr(os, "fsync", fsync)
    world.publish_two()
    assert world.device.update().version == 2
    files = list((world.device.folder / "models" / world.two.digest).rglob("*"))
    assert len(files) > 5
    assert [path for path in files if path.stat().st_ino not in synced] == []
