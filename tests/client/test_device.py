"""An honest repository: what a device does from its first update to a return."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from coremlops import golden
from coremlops.client import Device
from coremlops.errors import UpdateError, UsageError
from coremlops.model import model_digest
from coremlops.release.terms import Form
from tests.client.conftest import QUICK, World
from tests.release.models import write_model, write_pictures


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_update_activates_the_new_model_and_keeps_the_previous(world: World) -> None:
    world.publish_two()
    result = world.device.update()
    assert (result.outcome, result.version, result.digest) == ("updated", 2, world.two.digest)
    assert result.changed
    assert result.ok
    assert result.judgement is not None
    assert (result.judgement.ok, result.judgement.agreement) == (True, 1.0)
    assert world.device.update().judgement is None  # nothing to judge: it has it
    state = world.device.status()
    assert state.previous is not None
    assert state.previous.model == world.one.digest
    models = world.device.folder / "models"
    assert names(models) == sorted([world.one.digest, world.two.digest])
    assert names(models / world.two.digest) == ["golden", "model.mlpackage"]
    assert names(world.device.folder / "downloads") == []
    for colour, label in (((255, 0, 0), "red"), ((0, 255, 0), "green"), ((0, 0, 255), "blue")):
        picture = Image.new("RGB", (31, 17), colour)
        assert world.device.predict({"image": picture})["classLabel"] == label


def test_a_poll_with_nothing_new_is_two_requests_and_369_bytes(world: World) -> None:
    result = world.device.update()
    assert (result.outcome, result.version, result.changed) == ("current", 1, False)
    assert [(each.path, each.status, each.sent) for each in world.server.log] == [
        ("/metadata/2.root.json", 404, 0),
        ("/metadata/timestamp.json", 200, 369),
    ]


def test_a_rollback_returns_to_the_kept_model_without_a_download(world: World) -> None:
    world.publish_two()
    world.device.update()
    world.repository.rollback("staging")
    world.server.log.clear()
    result = world.device.update()
    assert (result.outcome, result.version, result.digest) == ("updated", 1, world.one.digest)
    fetched = [each.path for each in world.server.log if "/members/" in each.path]
    assert len(fetched) == 1  # the manifest alone
    world.assert_old_model_works()


def test_only_the_previous_model_is_kept(world: World, tmp_path: Path) -> None:
    from coremlops import golden
    from tests.release.models import write_model, write_pictures

    world.publish_two()
    world.device.update()
    three = write_model(tmp_path / "three.mlpackage", gain=0.04)
    golden.make(three, write_pictures(tmp_path / "pictures"), tmp_path / "golden")
    entry = world.repository.publish([Form(three, tmp_path / "golden")])
    assert world.device.update().version == 3
    assert names(world.device.folder / "models") == sorted([world.two.digest, *entry.models])


def test_a_new_golden_set_for_the_active_model_is_taken_without_fetching_the_model(
    world: World, tmp_path: Path
) -> None:
    from coremlops import golden
    from tests.release.models import write_pictures

    pictures = write_pictures(tmp_path / "pictures")
    (pictures / "blue.png").unlink()
    golden.make(world.one.model, pictures, tmp_path / "golden")
    entry = world.repository.publish([Form(world.one.model, tmp_path / "golden")], again=True)
    plan = world.device.plan()
    world.server.log.clear()
    result = world.device.update()
    assert (result.outcome, result.version, result.digest) == ("updated", 2, world.one.digest)
    fetched = [each.path[-64:] for each in world.server.log if "/members/" in each.path]
    assert fetched == [world.member("golden.json")]  # its pictures are here, too
    assert 0 < plan.missing == result.received_bytes < 5000 < 200_000 < plan.total
    here = names(world.device.folder / "models" / entry.models[0] / "golden")
    assert here == names(tmp_path / "golden")
    assert world.device.status().previous is None


def test_a_device_on_release_sees_nothing_until_it_is_promoted(world: World, tmp_path: Path) -> None:
    device = Device.install(
        tmp_path / "public", world.server.url, None, "release", world.repository.root_file, limits=QUICK
    )
    assert device.status().collection == "faces"
    result = device.update()
    assert (result.outcome, result.version, result.ok) == ("empty", None, True)
    with pytest.raises(UpdateError, match="has no model yet"):
        device.model()
    world.repository.promote()
    result = device.update()
    assert (result.outcome, result.version, result.digest) == ("updated", 1, world.one.digest)


def test_a_repository_in_a_folder_needs_no_server(world: World, tmp_path: Path) -> None:
    root = world.repository.root_file
    url = world.repository.folder.as_uri()
    device = Device.install(tmp_path / "local", url, "faces", "staging", root.read_bytes())
    assert device.update().version == 1
    assert device.update().outcome == "current"


def test_an_offline_device_keeps_working_and_says_so(world: World) -> None:
    world.publish_two()
    elsewhere = Device.install(
        world.device.folder,
        "http://127.0.0.1:9",
        "faces",
        "staging",
        world.repository.root_file,
        limits=QUICK,
    )
    result = elsewhere.update()
    assert (result.outcome, result.version, result.ok) == ("offline", 1, False)
    assert "cannot be reached" in result.reason
    assert "(host=" not in result.reason  # urllib3 begins with its object
    assert result.refused is None
    world.assert_old_model_works()
    last = elsewhere.status().last
    assert last is not None
    assert (last.outcome, last.reason) == ("offline", result.reason)


def test_what_a_device_follows_can_be_put_right_until_it_had_a_model(world: World, tmp_path: Path) -> None:
    root, url = world.repository.root_file, world.server.url
    mistyped = Device.install(tmp_path / "new", url, "facs", "staging", root, limits=QUICK)
    assert mistyped.update().outcome == "refused"
    right = Device.install(tmp_path / "new", url, "faces", "staging", root, limits=QUICK)
    result = right.update()
    assert (result.outcome, result.version) == ("updated", 1)
    with pytest.raises(UpdateError, match="follows faces/staging, not facs/staging"):
        Device.install(tmp_path / "new", url, "facs", "staging", root)


def test_a_device_is_installed_once(world: World, tmp_path: Path) -> None:
    root = world.repository.root_file
    folder, url = world.device.folder, world.server.url
    assert Device.install(folder, url, None, "staging", root).status().url == url
    with pytest.raises(UpdateError, match="follows faces/staging, not faces/release"):
        Device.install(folder, url, "faces", "release", root)
    from coremlops.release import Repository

    other = Repository.init(tmp_path / "other")
    with pytest.raises(UpdateError, match="trusts another root"):
        Device.install(folder, url, "faces", "staging", other.root_file)
    for bad in ("ftp://x/", "file://relative", "http://", "http://x/?a=b", "repository"):
        with pytest.raises(UsageError, match="a repository's URL is"):
            Device.install(tmp_path / "new", bad, "faces", "staging", root)
    for data in (b"", b"{}", (world.repository.folder / "metadata" / "1.targets.json").read_bytes()):
        with pytest.raises(UpdateError, match="root"):
            Device.install(tmp_path / "new", url, "faces", "staging", data)
    assert not (tmp_path / "new" / "state.json").exists()


def test_a_root_that_nobody_signed_is_refused(world: World, tmp_path: Path) -> None:
    data = world.repository.root_file.read_bytes().replace(b'"version":1', b'"version":2')
    with pytest.raises(UpdateError, match="the root is no signed TUF root"):
        Device.install(tmp_path / "new", world.server.url, "faces", "staging", data)


def test_a_folder_that_is_no_device_says_what_to_do(tmp_path: Path) -> None:
    for act in (Device(tmp_path / "none").update, Device(tmp_path).update, Device(tmp_path).status):
        with pytest.raises(UpdateError, match="is no device yet") as caught:
            act()
        assert "--url" in caught.value.hint


def test_a_damaged_state_is_named(world: World) -> None:
    (world.device.folder / "state.json").write_text("{}")
    (world.device.folder / "state.copy.json").unlink()
    with pytest.raises(UpdateError, match=r"state\.json is damaged: state: 'format' is missing"):
        world.device.update()


def test_a_model_folder_that_vanished_is_fetched_again(world: World) -> None:
    import shutil

    shutil.rmtree(world.device.folder / "models" / world.one.digest)
    assert world.device.update().outcome == "updated"
    world.assert_old_model_works()


@pytest.mark.parametrize("damage", ["no weights", "no manifest", "empty folder"])
def test_an_active_model_that_lost_files_is_repaired(world: World, damage: str) -> None:
    """A folder's existence is not validity: "nothing newer" would leave the app without a model for good."""
    model = world.device.model()
    weights = next(model.rglob("weight.bin"))
    if damage == "no weights":
        shutil.rmtree(weights.parent)
    elif damage == "no manifest":
        (model / "Manifest.json").unlink()
    else:
        shutil.rmtree(model)
        model.mkdir()
    assert world.again().update().outcome == "updated"
    world.assert_old_model_works()
    assert world.again().update().outcome == "current"


def test_a_folder_that_cannot_be_written_is_our_error(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UpdateError, match="cannot be written: Not a directory"):
        Device.install(
            tmp_path / "file" / "phone", world.server.url, "faces", "staging", world.repository.root_file
        )
    with pytest.raises(UpdateError, match=r"the root .* cannot be read"):
        Device.install(tmp_path / "phone", world.server.url, "faces", "staging", tmp_path / "none.json")


def test_a_model_without_weights_is_taken(world: World, tmp_path: Path) -> None:
    # coremltools writes an empty folder for them, and no release holds a folder.
    model = write_model(tmp_path / "bare.mlpackage", gain=0.04)
    (model / "Data/com.apple.CoreML/weights/weight.bin").unlink()
    golden.make(model, write_pictures(tmp_path / "pictures"), tmp_path / "golden")
    world.repository.publish([Form(model, tmp_path / "golden")])
    result = world.device.update()
    assert (result.outcome, result.version) == ("updated", 2), result.reason
    assert model_digest(world.device.model()) == model_digest(model)
    assert (world.device.model() / "Data/com.apple.CoreML/weights").is_dir()


def test_a_state_of_one_model_a_collection_says_that_it_is_older(world: World) -> None:
    file = world.device.folder / "state.json"
    value = json.loads(file.read_bytes())
    del value["models"]
    file.write_text(json.dumps({**value, "active": None, "previous": None, "embedded": False, "refused": []}))
    with pytest.raises(UpdateError, match=r"state\.json: state: an older coremlops wrote it") as caught:
        world.device.status()
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("remove it and update with --url and --root")
    file.unlink()
    anew = Device.install(
        world.device.folder, world.server.url, "faces", "staging", world.repository.root_file, limits=QUICK
    )
    assert anew.update().outcome == "updated"
    assert not world.server.sent("weight.bin")
