"""kill -9 at every stage of an update, in a process of its own: the next one goes on from there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.client.conftest import Pair, World
from tests.client.test_resume import WHOLE

# The n-th call of one of these, or the n-th piece of a body, is the last thing that the process does.
CHILD = """
import os, signal, sys
from coremlops.client import Device, Limits
from coremlops.client import web

folder, stage, count = sys.argv[1], sys.argv[2], int(sys.argv[3])

def killing(real):
    def call(*args, **options):
        global count
        count -= 1
        if count == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    return call

device = Device(folder, limits=Limits(connect_s=5, read_s=5, retries=0))
if stage == "piece":
    web.PIECE_BYTES = 16_384
    pieces = web.Web._pieces
    def one_by_one(self, url, response):
        step = killing(lambda piece: piece)
        for piece in pieces(self, url, response):
            yield step(piece) if "/members/" in url else piece
    web.Web._pieces = one_by_one
else:
    setattr(os, stage, killing(getattr(os, stage)))
print(device.update().outcome)
"""


def update(world: World | Pair, stage: str, count: int) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", CHILD, str(world.device.folder), stage, str(count)]
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )


@pytest.mark.parametrize("count", [3, 9])
def test_a_killed_download_goes_on_where_it_was(world: World, count: int) -> None:
    world.publish_two()
    killed = update(world, "piece", count)
    assert killed.returncode == -9, killed.stderr
    part = world.device.folder / "downloads" / f"{world.member('weight.bin')}.part"
    here = sum(path.stat().st_size for path in part.parent.iterdir())
    have = part.stat().st_size if part.exists() else 0
    assert here > 0
    world.assert_old_model_works()
    world.server.log.clear()
    missing = world.again().plan().missing
    result = world.again().update()
    assert (result.outcome, result.version, result.received_bytes) == ("updated", 2, missing)
    sent = world.server.sent(world.member("weight.bin"))
    assert sent == [(f"bytes={have}-" if have else None, WHOLE - have)]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["replace", "fsync", "link", "unlink", "open", "rmdir"])
def test_kill_9_at_every_stage(world: World, stage: str) -> None:
    world.publish_two()
    ended: Counter[int] = Counter()
    for count in range(1, 60):
        done = update(world, stage, count)
        ended[done.returncode] += 1
        device = world.again()
        active = device.status().active
        assert active is not None
        assert device.model().exists()
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
        if active.version == 1:
            world.assert_old_model_works()
    assert ended[0] == 1
    assert world.again().update().outcome == "current"
    models = sorted(path.name for path in (world.device.folder / "models").iterdir())
    assert models == sorted([world.one.digest, world.two.digest])


@pytest.mark.parametrize(("stage", "counts"), [("replace", range(4, 24, 3)), ("piece", (5, 8))])
def test_kill_9_in_an_update_of_two_models(pair: Pair, stage: str, counts: Iterable[int]) -> None:
    """Each of them is the one or the other version, whole; the next update brings both."""
    pair.publish_two()
    for count in counts:
        done = update(pair, stage, count)
        assert done.returncode in (0, -9), done.stderr
        assert set(pair.active().values()) <= {1, 2}
    result = pair.again().update()
    assert result.ok, result
    assert pair.active() == {"classifier": 2, "detector": 2}
    assert (pair.kept(), pair.parts()) == (pair.digests(0, 1, 2, 3), {})


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["replace", "fsync", "link", "unlink", "open", "rmdir"])
def test_kill_9_at_every_stage_of_two_models(pair: Pair, stage: str) -> None:
    pair.publish_two()
    for count in range(1, 120):
        done = update(pair, stage, count)
        assert set(pair.active().values()) <= {1, 2}
        if done.returncode == 0:
            break
        assert done.returncode == -9, done.stderr
    assert done.returncode == 0
    assert {each.outcome for each in pair.again().update().models} == {"current"}
    assert pair.active() == {"classifier": 2, "detector": 2}
    assert (pair.kept(), pair.parts()) == (pair.digests(0, 1, 2, 3), {})
