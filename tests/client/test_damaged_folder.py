"""Whatever lies in a device's folder instead of its files: the next update takes the new version, and nothing
outside of the folder is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coremlops.client import Device
from coremlops.errors import UpdateError
from tests.client.conftest import QUICK, World

Change = Callable[[Path, Path], None]


def folder(path: Path, victim: Path) -> None:
    path.mkdir()
    (path / "x").write_text("x")


def link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def dangling(path: Path, victim: Path) -> None:
    path.symlink_to("/nowhere/at/all")


def pipe(path: Path, victim: Path) -> None:
    os.mkfifo(path)


NAMES = [
    *(
        "index.json",
        "halt.json",
        "metadata/timestamp.json",
        "metadata/snapshot.json",
        "metadata/targets.json",
    ),
    *("metadata/faces-staging.json", "metadata/faces-members.json", "metadata/root_history/1.root.json"),
    *("checks-faces.json", "downloads/PART", "models/.incoming", "models/TWO", "models/.TWO.old.tmp"),
]


@pytest.mark.parametrize("change", [folder, link, dangling, pipe], ids=lambda each: each.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_of_ours_is_replaced(world: World, name: str, change: Change) -> None:
    world.publish_two()
    victim = world.folder / "victim"
    victim.write_text("mine")
    name = name.replace("TWO", world.two.digest).replace("PART", f"{world.member('weight.bin')}.part")
    path = world.device.folder / name
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    change(path, victim)
    result = world.again().update()
    assert (result.outcome, result.version) == ("updated", 2), result
    assert victim.read_text() == "mine"
    assert sorted(each.name for each in (world.device.folder / "models").iterdir()) == sorted(
        (world.one.digest, world.two.digest)
    )
    assert world.again().update().outcome == "current"


@pytest.mark.parametrize("name", ["metadata", "metadata/root_history", "downloads"])
def test_a_file_in_place_of_a_folder_is_replaced(world: World, name: str) -> None:
    world.publish_two()
    shutil.rmtree(world.device.folder / name)
    (world.device.folder / name).write_text("x")
    assert world.again().update().version == 2


@pytest.mark.parametrize("data", [None, b"", b"{}", b'{"signed": {}}'])
def test_a_damaged_root_says_which_file_and_what_to_do(world: World, data: bytes | None) -> None:
    world.publish_two()
    root = world.device.folder / "root.json"
    if data is None:
        root.unlink()
    else:
        root.write_bytes(data)
    result = world.again().update()
    assert (result.outcome, result.version) == ("refused", 1)
    assert f"{root}, which came with the app, is damaged" in result.reason
    world.assert_old_model_works()
    root.unlink(missing_ok=True)
    (world.device.folder / "state.json").unlink()
    device = Device.install(
        world.device.folder, world.server.url, "faces", "staging", world.repository.root_file, limits=QUICK
    )
    assert device.update().version == 2


def test_a_state_of_a_newer_format_is_not_called_damaged(world: World) -> None:
    file = world.device.folder / "state.json"
    file.write_text('{"format": 1, "repositories": []}')
    with pytest.raises(UpdateError, match="format 1, and this coremlops reads format 0") as caught:
        world.again().update()
    assert "damaged" not in str(caught.value)
    assert caught.value.hint == "update coremlops: a newer one wrote it"


@pytest.mark.parametrize("name", ["state.json", "starts-faces.json", "root.json"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(world: World, name: str) -> None:
    path = world.device.folder / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    code = "import sys; from coremlops.client import Device; d = Device(sys.argv[1]); d.update(); d.start()"
    done = subprocess.run(
        [sys.executable, "-c", code, str(world.device.folder)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_a_pipe_in_place_of_the_profile_is_our_error(world: World) -> None:
    os.mkfifo(world.device.folder / "profile.json")
    with pytest.raises(UpdateError, match=r"profile.json is damaged: .*no regular file"):
        world.again().profile()
