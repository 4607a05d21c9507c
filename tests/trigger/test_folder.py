"""A folder trigger fires once for each distinct, complete content."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coremlops.errors import DataError, InputError, UsageError
from coremlops.trigger import Change, FolderTrigger, PictureCheck, folder

Make = Callable[..., FolderTrigger]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "ada").mkdir(parents=True)
    (folder / "ada" / "1.jpg").write_bytes(picture(1))
    return folder


@pytest.fixture
def make(tmp_path: Path, photos: Path) -> Iterator[Make]:
    made: list[FolderTrigger] = []

    def trigger(**options: object) -> FolderTrigger:
        for old in made:
            old.close()
        made[:] = [
            FolderTrigger(
                [photos],
                tmp_path / "watch.json",
                settle_s=0.1,
                ready=PictureCheck(),
                **options,  # type: ignore[arg-type]
            )
        ]
        return made[0]

    yield trigger
    for old in made:
        old.close()


def picture(shade: int, kind: str = "JPEG") -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.effect_noise((64, 64), 40 + shade).save(file, kind)
    return file.getvalue()


def handled(trigger: FolderTrigger, outcome: str = "ok") -> Change | None:
    change = trigger.check()
    if change is not None:
        trigger.done(change, outcome)
    return change


def test_a_content_is_handed_out_once(make: Make, photos: Path) -> None:
    trigger = make()
    first = handled(trigger)
    assert first is not None
    assert (first.files, first.again) == (1, False)
    assert handled(trigger) is None
    (photos / "eve").mkdir()
    (photos / "eve" / "1.jpg").write_bytes(picture(2))
    second = handled(trigger)
    assert second is not None
    assert second.digest != first.digest
    assert handled(trigger) is None


def test_a_restart_does_not_hand_it_out_again(make: Make) -> None:
    assert handled(make()) is not None
    assert handled(make()) is None


def test_a_touched_file_is_no_new_content(make: Make, photos: Path) -> None:
    trigger = make()
    handled(trigger)
    os.utime(photos / "ada" / "1.jpg")
    (photos / ".DS_Store").write_text("x")
    assert handled(trigger) is None


def test_a_content_that_comes_back_is_not_handed_out_again(make: Make, photos: Path) -> None:
    trigger = make()
    handled(trigger)
    (photos / "ada" / "2.jpg").write_bytes(picture(2))
    assert handled(trigger) is not None
    (photos / "ada" / "2.jpg").unlink()
    assert handled(trigger) is None


def test_a_content_whose_work_was_killed_is_handed_out_again(make: Make) -> None:
    first = make().check()
    assert first is not None
    second = handled(make())  # `done` was never said
    assert second == Change(first.digest, first.files, again=True)
    assert handled(make()) is None


def test_a_content_whose_work_failed_is_not_tried_in_a_loop(make: Make) -> None:
    assert handled(make(), "failed") is not None
    assert handled(make()) is None


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "PPM", "TIFF", "WEBP"])
def test_a_half_copied_picture_does_not_count(make: Make, photos: Path, kind: str) -> None:
    told: list[str] = []
    trigger = make(tell=told.append)
    handled(trigger)
    whole = picture(3, kind)
    path = photos / "ada" / f"2.{kind.lower()}"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=f"2.{kind.lower()} is not whole"):
        trigger.check()
    assert told == [f"waiting: {path} is not whole"]
    path.write_bytes(whole)
    assert handled(trigger) is not None


def test_a_jpeg_without_its_last_bytes_does_not_count(make: Make, photos: Path) -> None:
    trigger = make()
    (photos / "ada" / "2.jpg").write_bytes(picture(2)[:-2])
    with pytest.raises(DataError, match=r"2\.jpg is not whole"):
        trigger.check()


def test_an_empty_picture_does_not_count(make: Make, photos: Path) -> None:
    trigger = make()
    (photos / "ada" / "2.jpg").write_bytes(b"")
    with pytest.raises(DataError):
        trigger.check()


@pytest.mark.parametrize("name", [".2.jpg.Xy12Zq", "2.jpg.part", "Unconfirmed 4711.crdownload"])
def test_a_copy_under_way_does_not_count(make: Make, photos: Path, name: str) -> None:
    trigger = make()
    assert handled(trigger) is not None
    (photos / "ada" / name).write_bytes(picture(2)[:100])
    with pytest.raises(DataError, match="is not whole"):
        trigger.check()
    (photos / "ada" / name).write_bytes(picture(2))
    (photos / "ada" / name).rename(photos / "ada" / "2.jpg")
    assert handled(trigger) is not None


def test_what_lies_beside_a_picture_counts(make: Make, photos: Path) -> None:
    trigger = make()
    assert handled(trigger) is not None
    (photos / "ada" / "1.jpg.json").write_text("{}")
    (photos / "ada" / ".gitkeep").write_text("")
    assert handled(trigger) is not None


def test_links_in_circles_are_waited_for(make: Make, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_ENTRIES", 1000)  # two circles make 2 ** 40 folders
    trigger = make()
    for name in ("a", "b"):
        (photos / name).symlink_to(photos)
    with pytest.raises(DataError, match="more than 1000 files"):
        trigger.check()
    for name in ("a", "b"):
        (photos / name).unlink()
    assert handled(trigger) is not None


def test_a_pipe_named_as_a_picture_is_not_read(make: Make, photos: Path) -> None:
    os.mkfifo(photos / "ada" / "2.jpg")
    assert photos / "ada" / "2.jpg" not in folder.list_files([photos])


def test_a_file_that_still_grows_is_waited_for(make: Make, photos: Path) -> None:
    trigger = make()
    handled(trigger)
    stop = threading.Event()
    path = photos / "ada" / "notes.txt"
    written = []

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            for _ in range(20):
                file.write(b"x")
                written.append(1)
                time.sleep(0.02)
        stop.set()

    writer = threading.Thread(target=grow)
    writer.start()
    while not written:
        time.sleep(0.001)
    change = trigger.check()
    assert stop.is_set()
    writer.join()
    assert change is not None
    assert path.stat().st_size == 20


def test_changes_follow_the_folder(make: Make, photos: Path) -> None:
    trigger = make()
    seen = []
    changes = trigger.changes()
    for number in (1, 2, 3):
        change = next(changes)
        seen.append(change.digest)
        trigger.done(change, "ok")
        (photos / "ada" / f"{number}.png").write_bytes(picture(number, "PNG"))
    assert len(set(seen)) == 3


def test_a_change_during_the_work_is_handed_out_after_it(make: Make, photos: Path) -> None:
    trigger = make()
    changes = trigger.changes()
    first = next(changes)
    (photos / "ada" / "2.png").write_bytes(picture(2, "PNG"))
    trigger.done(first, "failed")
    assert next(changes).files == 2


def test_only_one_process_watches(make: Make, photos: Path, tmp_path: Path) -> None:
    make()
    with pytest.raises(UsageError, match=rf"another process \({os.getpid()}\) is watching already"):
        FolderTrigger([photos], tmp_path / "watch.json")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*nowhere to watch"):
        FolderTrigger([tmp_path / "nowhere"], tmp_path / "watch.json")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 9}', '{"format": 1, "done": 3, "started": null}']
)
def test_a_damaged_state_file_starts_over(make: Make, tmp_path: Path, text: str) -> None:
    handled(make())
    (tmp_path / "watch.json").write_text(text)
    assert handled(make()) is not None


def test_it_works_without_watchfiles(make: Make, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "watchfiles", None)
    trigger = make()
    changes = trigger.changes()
    trigger.done(next(changes), "ok")
    (photos / "ada" / "2.png").write_bytes(picture(2, "PNG"))
    assert next(changes).files == 2
