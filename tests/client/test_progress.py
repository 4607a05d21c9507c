"""How far an update is, what it would do, and stopping it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from coremlops.cli import main
from coremlops.client import Device, Step
from coremlops.errors import UpdateError
from tests.client.conftest import World
from tests.client.server import answer


def downloads(steps: list[Step]) -> list[Step]:
    return [step for step in steps if step.phase == "download"]


def test_bytes_are_counted_and_never_fall(world: World) -> None:
    world.publish_two()
    steps: list[Step] = []
    assert world.again().update(steps.append).version == 2
    phases = list(dict.fromkeys(step.phase for step in steps))
    assert phases == ["metadata", "download", "check", "activate"]
    seen = downloads(steps)
    total = seen[0].total
    assert total > 200_000
    assert {step.total for step in seen} == {total}
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert seen[0].done < total
    assert steps[-1].done == total


def test_what_was_here_counts_from_the_start(world: World) -> None:
    world.publish_two()
    weights = world.member("weight.bin")
    world.server.cut = {weights: 150_000}
    assert world.again().update().outcome == "offline"
    world.server.cut = {}
    steps: list[Step] = []
    assert world.again().update(steps.append).version == 2
    assert downloads(steps)[0].done >= 150_000


def test_a_content_that_is_fetched_twice_does_not_run_backwards(world: World) -> None:
    world.publish_two()
    weights = world.member("weight.bin")
    world.server.cut = {weights: 150_000}
    assert world.again().update().outcome == "offline"
    part = world.device.folder / "downloads" / f"{weights}.part"
    part.write_bytes(b"x" * part.stat().st_size)  # the wrong half
    world.server.cut = {}
    steps: list[Step] = []
    assert world.again().update(steps.append).version == 2
    done = [step.done for step in downloads(steps)]
    assert done == sorted(done)
    assert max(done) <= downloads(steps)[0].total


def test_a_plan_fetches_no_member(world: World) -> None:
    plan = world.again().plan()
    assert (plan.outcome, plan.version) == ("current", 1)
    world.publish_two()
    world.server.log.clear()
    plan = world.again().plan()
    assert (plan.outcome, plan.version, plan.variant) == ("get", 2, "default")
    assert 200_000 < plan.missing <= plan.total
    fetched = [each for each in world.server.log if "/members/" in each.path]
    assert len(fetched) == 1  # the manifest
    assert world.again().status().active is not None
    result = world.again().update()
    assert result.received_bytes == plan.missing
    assert world.again().plan().outcome == "current"


def test_a_plan_says_what_cannot_be_reached(world: World) -> None:
    world.server.hidden = {"timestamp.json"}
    with pytest.raises(UpdateError, match="cannot be reached"):
        world.again().plan()


def test_cancel_between_two_pieces_keeps_what_has_come(world: World) -> None:
    world.publish_two()
    seen: list[Step] = []
    result = world.again().update(
        seen.append, cancelled=lambda: bool(downloads(seen)) and seen[-1].done > 50_000
    )
    assert (result.outcome, result.version) == ("cancelled", 1)
    assert not result.ok
    world.assert_old_model_works()
    kept = sum(path.stat().st_size for path in (world.device.folder / "downloads").glob("*.part"))
    assert kept > 50_000
    last = world.again().status().last
    assert last is not None
    assert last.outcome == "cancelled"
    result = world.again().update()
    assert result.version == 2
    assert result.received_bytes < 220_000


def test_cancel_while_a_server_is_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish_two()
    silent = threading.Event()

    def stall(handler: object, server: object) -> None:
        if not silent.is_set() and "/members/" in handler.path:  # type: ignore[attr-defined]  # of every handler
            silent.set()
            time.sleep(4)
        answer(handler, server)  # type: ignore[arg-type]  # what the server gives

    monkeypatch.setattr("tests.client.server.answer", stall)
    device = world.again()
    results: list[str] = []
    stop = threading.Event()
    thread = threading.Thread(
        target=lambda: results.append(device.update(cancelled=stop.is_set).outcome), daemon=True
    )
    thread.start()
    assert silent.wait(5)
    begun = time.monotonic()
    stop.set()
    thread.join(3)
    assert results == ["cancelled"]
    assert time.monotonic() - begun < 3  # the server would have answered after four
    world.assert_old_model_works()


def test_cancel_while_the_golden_set_is_checked(world: World) -> None:
    world.publish_two()
    checks: list[Step] = []
    result = world.device.update(
        lambda step: checks.append(step) if step.phase == "check" else None, cancelled=lambda: bool(checks)
    )
    assert (result.outcome, result.version) == ("cancelled", 1)
    world.assert_old_model_works()
    result = world.again().update()
    assert (result.outcome, result.version, result.received_bytes) == ("updated", 2, 0)


def test_cancelled_before_it_began(world: World) -> None:
    world.publish_two()
    world.server.log.clear()
    assert world.again().update(cancelled=lambda: True).outcome == "cancelled"
    assert world.server.log == []


def test_the_command_line(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    phone = ["--device", str(world.device.folder)]
    world.publish_two()
    assert main(["device", "update", *phone, "--plan"]) == 0
    assert "would get version 2, default: " in capsys.readouterr().out
    assert main(["device", "update", *phone]) == 0
    said = capsys.readouterr()
    assert "weight.bin (200000 bytes)" in said.err
    assert "checking the golden set" in said.err
    for _ in range(3):
        assert main(["device", "start", *phone]) == 0
    assert main(["device", "started", *phone, "--failed", "no memory"]) == 0
    capsys.readouterr()
    assert main(["device", "start", *phone, "--json"]) == 0
    said = capsys.readouterr()
    assert '"version": 1' in said.out
    assert "not confirmed: no memory" in said.err
    assert main(["device", "started", *phone]) == 0
    assert main(["device", "status", *phone]) == 0
    assert "returned: version 2" in capsys.readouterr().out


def test_ctrl_c_says_so_and_keeps_what_has_come(
    world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world.publish_two()
    from coremlops.client.progress import Meter

    real = Meter.add

    def add(self: Meter, count: int) -> None:
        real(self, count)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Meter, "add", add)
        assert main(["device", "update", "--device", str(world.device.folder)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert list((world.device.folder / "downloads").glob("*.part"))
    world.assert_old_model_works()
    assert Device(world.device.folder).update().version == 2


def test_a_state_of_a_newer_coremlops_is_not_called_damaged(world: World, tmp_path: Path) -> None:
    path = world.device.folder / "state.json"
    path.write_text(path.read_text().replace('"format":0', '"format":1'))
    with pytest.raises(UpdateError, match="format 1, and this coremlops reads format 0") as caught:
        world.again().status()
    assert "update coremlops" in caught.value.hint


@pytest.mark.parametrize("data", [b"", b"{", b"\xff" * 100, b"x" * 2_000_000])
def test_with_a_damaged_state_the_last_good_model_starts_without_a_network(world: World, data: bytes) -> None:
    world.publish_two()
    assert world.again().update().version == 2
    url, world.server.folder = world.again().status().url, world.folder / "nowhere"
    (world.device.folder / "state.json").write_bytes(data)
    assert world.again().start().version == 2
    assert world.again().update().outcome == "offline"
    assert world.again().status().url == url
    assert (world.device.folder / "state.json").read_bytes() != data  # whole again


def test_a_damaged_state_says_what_to_do_and_nothing_is_fetched_again(world: World) -> None:
    path = world.device.folder / "state.json"
    path.write_bytes(b"{")
    (path.parent / "state.copy.json").write_bytes(b"")
    with pytest.raises(UpdateError) as caught:
        world.again().update()
    assert "remove it" in caught.value.hint
    path.unlink()
    again = Device.install(
        world.device.folder, world.server.url, "faces", "staging", world.repository.root_file
    )
    world.server.log.clear()
    assert again.update().version == 1
    fetched = [each for each in world.server.log if "/members/" in each.path]
    assert len(fetched) <= 1  # the manifest at most
    world.assert_old_model_works()
