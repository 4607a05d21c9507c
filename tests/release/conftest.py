"""A repository with keys of its own, and models to publish."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from coremlops.release import Repository
from tests.release.models import write_model


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> None:
        self.now += timedelta(**by)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "config"
    monkeypatch.setenv("COREMLOPS_CONFIG", str(folder))
    return folder


@pytest.fixture
def repository(tmp_path: Path, config: Path, clock: Clock) -> Repository:
    return Repository.init(tmp_path / "repository", "faces", clock=clock)


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """Any files: the repository does not look into a golden set."""
    folder = tmp_path / "golden"
    (folder / "pictures").mkdir(parents=True)
    (folder / "golden.json").write_text("{}\n")
    (folder / "pictures" / "red.png").write_bytes(b"red")
    return folder


@pytest.fixture
def models(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three models, each another digest."""
    first, second, third = (
        write_model(tmp_path / f"{name}.mlpackage", gain=gain, extra_bytes=500)
        for name, gain in (("one", 0.02), ("two", 0.03), ("three", 0.04))
    )
    return first, second, third
