"""`coremlops watch`, as a process."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.conftest import Tiny, quiet, tiny

__all__ = ["quiet", "tiny"]


class Watch:
    """A running `coremlops watch --json`."""

    def __init__(self, root: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "coremlops", "watch", "--json", "--settle-s", "0.2"],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def event(self, name: str) -> dict[str, Any]:
        """The next event, which must be `name`."""
        assert self.process.stdout is not None
        event: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert event["event"] == name, event
        return event

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


@pytest.fixture
def watch(tiny: Tiny) -> Iterator[Callable[[], Watch]]:
    started: list[Watch] = []

    def start() -> Watch:
        started.append(Watch(tiny.root))
        started[-1].event("watching")
        return started[-1]

    yield start
    for item in started:
        if item.process.poll() is None:
            item.end(signal.SIGKILL)


def once(root: Path, *options: str) -> tuple[int, list[str], str]:
    done = subprocess.run(
        [sys.executable, "-m", "coremlops", "watch", "--once", "--json", "--settle-s", "0.1", *options],
        cwd=root,
        capture_output=True,
        text=True,
    )
    return done.returncode, [json.loads(line)["event"] for line in done.stdout.splitlines()], done.stderr


def test_new_content_runs_the_pipeline_and_a_restart_does_not(tiny: Tiny, watch: Callable[[], Watch]) -> None:
    first = watch()
    first.event("started")
    assert first.event("finished")["ran_steps"] == 3
    (tiny.root / "data" / "ada" / "2.txt").write_text("two")
    first.event("started")
    assert first.event("finished")["ran_steps"] == 3
    assert first.end() == 130
    second = watch()
    (tiny.root / "data" / "ada" / "3.txt").write_text("three")
    second.event("started")
    assert second.event("finished")["ok"] is True
    assert second.end(signal.SIGINT) == 130
    assert once(tiny.root)[:2] == (0, ["watching", "unchanged"])


def test_a_failing_run_is_reported_and_the_watch_goes_on(tiny: Tiny, watch: Callable[[], Watch]) -> None:
    (tiny.root / "b" / "count.sh").write_text('grep -q two "$1/all.txt"\n')
    running = watch()
    running.event("started")
    failed = running.event("finished")
    assert (failed["ok"], failed["error"]["type"]) == (False, "StepError")
    (tiny.root / "data" / "ada" / "2.txt").write_text("two")
    running.event("started")
    assert running.event("finished")["ok"] is True


def test_a_killed_run_is_started_again(tiny: Tiny, watch: Callable[[], Watch]) -> None:
    (tiny.root / "b" / "count.sh").write_text(
        f"touch {tiny.root}/begun; while [ ! -e {tiny.root}/gate ]; do sleep 0.02; done\n"
    )
    first = watch()
    content = first.event("started")["content"]
    until = time.monotonic() + 60
    while not (tiny.root / "begun").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
    first.end(signal.SIGKILL)
    (tiny.root / "gate").touch()
    second = watch()
    assert second.event("started")["content"] == content
    assert second.event("finished")["ok"] is True


def test_once_looks_once(tiny: Tiny) -> None:
    code, events, _ = once(tiny.root)
    assert (code, events) == (0, ["watching", "started", "finished"])
    assert once(tiny.root)[:2] == (0, ["watching", "unchanged"])


def test_a_wrong_override_is_said_at_once_and_costs_no_content(tiny: Tiny) -> None:
    code, events, said = once(tiny.root, "-P", "wrd=x")
    assert (code, events) == (2, [])
    assert "no step has this parameter" in said
    assert once(tiny.root)[1] == ["watching", "started", "finished"]


def test_each_pipeline_has_its_own_contents(tiny: Tiny) -> None:
    assert once(tiny.root)[1] == ["watching", "started", "finished"]
    with (tiny.root / "coremlops.yaml").open("a") as file:
        file.write("  other: {steps: {a: {path: a, inputs: {data: ./data}}}}\n")
    assert once(tiny.root, "--pipeline", "other")[1] == ["watching", "started", "finished"]
    assert once(tiny.root, "--pipeline", "other")[1] == ["watching", "unchanged"]


def test_once_answers_with_the_runs_exit_code(tiny: Tiny) -> None:
    (tiny.root / "b" / "count.sh").write_text("exit 3\n")
    code, events, stderr = once(tiny.root)
    assert (code, events) == (3, ["watching", "started", "finished"])
    assert "a gate said no" in stderr


def test_once_refuses_half_a_picture(tiny: Tiny) -> None:
    (tiny.root / "data" / "ada" / "2.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    code, events, stderr = once(tiny.root)
    assert (code, events) == (1, ["watching", "waiting"])
    assert "2.png is not whole" in stderr


def test_a_pipeline_that_reads_nothing_has_nothing_to_watch(tiny: Tiny) -> None:
    tiny.steps = []
    tiny.step("z", "echo x > {downstream}/x", {})
    tiny.save()
    code, _, stderr = once(tiny.root)
    assert code == 2
    assert "there is nothing to watch" in stderr
