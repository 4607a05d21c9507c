"""kill -9 at every file operation of every command, and a disk that is full from there on: a device sees the
old release or the new, never a mixture."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coremlops import golden
from coremlops.client import Device
from coremlops.errors import RepositoryError
from coremlops.release import Repository
from coremlops.release.resetting import reset
from coremlops.release.rotation import Rotation
from coremlops.release.terms import Form
from tests.release.models import write_model, write_pictures

pytestmark = pytest.mark.slow

EVENTS = {"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}
WRITING = {"open", "os.link", "os.mkdir", "os.rename"}
REFUSED = 7
MOST = 400  # operations of a command
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND

Act = Callable[[Repository, Form], object]
ACTS: dict[str, Act] = {
    "publish": lambda repository, form: repository.publish([form]),
    "promote": lambda repository, form: repository.promote(),
    "rollback": lambda repository, form: repository.rollback("staging"),
    "rollout": lambda repository, form: repository.rollout("release", 2_000, lower=True),
    "halt": lambda repository, form: repository.halt("release"),
    "embedded": lambda repository, form: repository.offer_embedded("staging"),
    "renew": lambda repository, form: repository.renew(["faces-staging", "root"]),
    "add": lambda repository, form: repository.add("shop"),
    "rotate": lambda repository, form: repository.rotate(Rotation(("timestamp", "staging"))),
    "reset": lambda repository, form: reset(repository, "faces"),
}
FULL = ("publish", "halt", "rotate", "add")


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Form, Form, Form]:
    """Three models with their golden sets."""
    folder = tmp_path_factory.mktemp("forms")
    pictures, made = write_pictures(folder / "pictures"), []
    for gain in (0.02, 0.03, 0.04):
        model = write_model(folder / f"{gain}.mlpackage", gain=gain, extra_bytes=500)
        golden.make(model, pictures, folder / f"golden-{gain}")
        made.append(Form(model, folder / f"golden-{gain}"))
    return made[0], made[1], made[2]


def stopped_at(number: int, folder: Path, act: Callable[[], object], *, full: bool) -> bool:
    """Run `act` in a child that is killed before its file operation of this number below `folder`, or whose
    disk is full from then on; whether that stopped it. A child that ends otherwise must have done it."""
    child = os.fork()
    if child == 0:
        count = 0

        def step() -> None:
            nonlocal count
            if count == number and not full:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            if count > number:
                raise OSError(28, "No space left on device")

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event not in (WRITING if full else EVENTS) or not str(arguments[0]).startswith(str(folder)):
                return
            if event != "open" or (isinstance(arguments[2], int) and arguments[2] & WRITES):
                step()

        fsync = os.fsync

        def synced(descriptor: Any) -> None:
            step()
            fsync(descriptor)

        status = 1
        try:
            os.fsync = synced  # type: ignore[assignment]
            sys.addaudithook(hook)
            act()
            status = 0
        except RepositoryError as error:
            status = REFUSED if "No space left" in error.message else 1
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) in (0, REFUSED)
    return os.WEXITSTATUS(status) == REFUSED


def seen(repository: Repository, device: Path, work: Path) -> tuple[object, ...]:
    """What both channels offer to a device that had version 1, by signatures alone."""
    found: list[object] = []
    for channel in ("staging", "release"):
        folder = work / channel
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(device / channel, folder)
        phone = Device(folder)
        result = phone.update()
        assert result.outcome in ("updated", "current", "embedded", "kept"), result
        found.append((result.outcome, result.version))
    return (*found, repository.collections)


@pytest.mark.parametrize(
    ("act", "full"),
    [*((act, False) for act in ACTS), *((act, True) for act in FULL)],
)
def test_stopped_at_every_file_operation(
    act: str,
    full: bool,
    tmp_path: Path,
    config: Path,
    forms: tuple[Form, Form, Form],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("coremlops.release.repository.new_salt", lambda: "0" * 32)  # the same share each time
    start, work = tmp_path / "start", tmp_path / "work"
    begun = Repository.init(start)
    begun.publish([forms[0]])
    begun.promote()
    here = Repository(work, "faces", keys=begun.keys)
    shutil.copytree(start, work)
    for channel in ("staging", "release"):
        device = Device.install(tmp_path / "had" / channel, work.as_uri(), "faces", channel, begun.root_file)
        assert device.update().version == 1
    begun.publish([forms[1]])
    keys = begun.keys.folder
    shutil.copytree(keys, tmp_path / "keys")

    def fresh() -> Repository:
        for old, new in ((work, start), (keys, tmp_path / "keys")):
            shutil.rmtree(old)
            shutil.copytree(new, old)
        return Repository.open(work, "faces")

    def do() -> object:
        return ACTS[act](Repository.open(work, "faces"), forms[2])

    before = seen(fresh(), tmp_path / "had", tmp_path / "phones")
    do()
    after = seen(here, tmp_path / "had", tmp_path / "phones")
    states: list[tuple[object, ...]] = []
    for number in range(MOST):
        fresh()
        if not stopped_at(number, tmp_path, do, full=full):
            break
        states.append(seen(here, tmp_path / "had", tmp_path / "phones"))
        assert states[-1] in (before, after), f"operation {number}"
        # The next command, whatever it is, repairs what is left over.
        repaired = Repository.open(work, "faces")
        repaired.publish([forms[2]], again=True)
        assert repaired.audit() >= 4
        assert not list(work.rglob("*.tmp"))
        assert repaired.line("staging").current is not None
    assert len(states) > 15
    if before != after:
        assert states[0] == before
