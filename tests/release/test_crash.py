"""A crash at any write of a publish: a client sees the old release or the new, and the next publish works."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coremlops.release import Repository
from coremlops.release.terms import Form

Models = tuple[Path, Path, Path]


class Crash(BaseException):
    """Not an Exception: nothing may catch it and go on."""


def crash_at(monkeypatch: pytest.MonkeyPatch, name: str, count: int) -> Callable[[], int]:
    """Let the `count`-th call of `os.<name>` raise; returns how many calls there were."""
    real: Callable[..., Any] = getattr(os, name)
    calls = 0

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            raise Crash
        return real(*args, **kwargs)

    monkeypatch.setattr(os, name, wrapped)
    return lambda: calls


@pytest.mark.parametrize("name", ["replace", "fsync", "unlink"])
@pytest.mark.parametrize("act", ["publish", "promote", "rollback"])
def test_a_crash_at_every_write_leaves_the_old_or_the_new(
    tmp_path: Path,
    config: Path,
    models: Models,
    golden: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: str,
    name: str,
) -> None:
    repository = Repository.init(tmp_path / "repository")
    repository.publish([Form(models[0], golden)])
    repository.publish([Form(models[1], golden)])
    acts: dict[str, Callable[[], Any]] = {
        "publish": lambda: repository.publish([Form(models[2], golden)]),
        "promote": repository.promote,
        "rollback": lambda: repository.rollback("staging"),
    }
    channel = "release" if act == "promote" else "staging"
    crashes = 0
    for count in range(1, 100):
        before = repository.line(channel)
        with monkeypatch.context() as patch:
            calls = crash_at(patch, name, count)
            try:
                acts[act]()
            except Crash:
                crashes += 1
                finished = False
            else:
                finished = calls() < count
        after = Repository.open(repository.folder).line(channel)
        assert after.channel == channel
        if finished:
            break
        if after != before:
            # Committed before the crash: the same call now finds nothing to do, or goes one version further.
            assert after.current is not None
            assert after.current != before.current
            break
    else:
        pytest.fail("never came to an end")
    if name != "unlink":
        assert crashes > 3
    final = {
        "publish": lambda: repository.publish([Form(models[2], golden)]).version == 3,
        "promote": lambda: repository.promote().version == 2,
        "rollback": lambda: repository.rollback("staging", 1).version == 1,
    }
    assert final[act]()
    assert repository.publish([Form(models[2], golden)]).version == 3
    assert not list(repository.folder.rglob("*.tmp"))
    assert repository.audit() >= 3


def _publish_and_crash(repository: Repository, form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is written but the timestamp, which would commit it."""
    real = os.replace

    def before_timestamp(source: Any, target: Any) -> None:
        if str(target).endswith("timestamp.json"):
            raise Crash
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", before_timestamp)
        with pytest.raises(Crash):
            repository.publish([form])


def test_what_a_crash_left_is_not_taken_for_a_release(
    tmp_path: Path, config: Path, models: Models, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = Repository.init(tmp_path / "repository")
    first = repository.publish([Form(models[0], golden)])
    _publish_and_crash(repository, Form(models[1], golden), monkeypatch)
    assert (repository.folder / "metadata" / "3.snapshot.json").exists()
    assert repository.line("staging").current == first
    second = repository.publish([Form(models[2], golden)])
    assert second.version == 2
    assert repository.history("staging").entries == (first, second)


def test_a_name_never_gets_another_content(
    tmp_path: Path, config: Path, models: Models, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache may have what a publish that was cut off left, and keeps it for ever."""
    repository = Repository.init(tmp_path / "repository")
    repository.publish([Form(models[0], golden)])
    _publish_and_crash(repository, Form(models[1], golden), monkeypatch)
    lasting = {
        path: path.read_bytes() for path in repository.folder.rglob("*.json") if path.name != "timestamp.json"
    }
    assert any(path.name == "3.snapshot.json" for path in lasting)
    repository.publish([Form(models[2], golden)])
    assert all(path.read_bytes() == data for path, data in lasting.items())
    assert repository.line("staging").current is not None
