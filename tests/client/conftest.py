"""A repository with two real models and their golden sets, a server, and a device; and one of a collection
of two models."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import pytest

from coremlops import golden
from coremlops.client import Device, Limits
from coremlops.model import model_digest
from coremlops.release import Repository
from coremlops.release.terms import Form, Terms
from tests.client.server import Server, serving
from tests.release.models import write_model, write_pictures

QUICK = Limits(connect_s=5, read_s=5, retries=0)


@dataclass(frozen=True)
class Version:
    """A model, its digest and its golden set."""

    model: Path
    golden: Path

    @property
    def digest(self) -> str:
        return model_digest(self.model)


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Version, Version]:
    """Two models that differ, each with a golden set made by executing it."""
    folder = tmp_path_factory.mktemp("models")
    pictures = write_pictures(folder / "pictures")
    versions = []
    for name, gain in (("one", 0.02), ("two", 0.03)):
        model = write_model(folder / f"{name}.mlpackage", gain=gain)
        golden.make(model, pictures, folder / f"golden-{name}")
        versions.append(Version(model, folder / f"golden-{name}"))
    return versions[0], versions[1]


@dataclass
class World:
    """Everything in one place; version 1 is published on staging, and the device has it."""

    folder: Path
    repository: Repository
    server: Server
    device: Device
    one: Version
    two: Version

    def publish_two(self) -> None:
        self.repository.publish([Form(self.two.model, self.two.golden)])

    def again(self) -> Device:
        """The device as after a restart."""
        return Device(self.device.folder, limits=QUICK)

    def member(self, name: str) -> str:
        """The SHA-256 of a member of the newest version, by the end of its path."""
        newest = self.repository.line("staging").current
        assert newest is not None
        members = self.repository.manifest(newest).members
        return next(member.sha256 for member in members if member.path.endswith(name))

    def keep(self, name: str) -> Path:
        """A copy of the repository as it is now, to replay from later."""
        return Path(shutil.copytree(self.repository.folder, self.folder / name))

    def assert_old_model_works(self) -> None:
        """Version 1 is active, and answers."""
        from PIL import Image

        device = self.again()
        state = device.status()
        assert state.active is not None
        assert (state.active.version, state.active.model) == (1, self.one.digest)
        assert model_digest(device.model()) == self.one.digest
        assert device.predict({"image": Image.new("RGB", (30, 30), (250, 5, 5))})["classLabel"] == "red"


@pytest.fixture
def world(tmp_path: Path, made: tuple[Version, Version], monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    repository = Repository.init(tmp_path / "repository")
    repository.publish([Form(made[0].model, made[0].golden)])
    with serving(Server(repository.folder)) as server:
        device = Device.install(
            tmp_path / "phone", server.url, "faces", "staging", repository.root_file, limits=QUICK
        )
        result = device.update()
        assert (result.outcome, result.version) == ("updated", 1), result.reason
        server.log.clear()
        yield World(tmp_path, repository, server, device, *made)


@dataclass
class Pair:
    """The collection `app` of the models `classifier` and `detector`: version 1 of both is on staging, and
    the device has them. `versions`: four models that differ, the first two of them published."""

    folder: Path
    repository: Path
    server: Server
    device: Device
    versions: tuple[Version, ...]

    def of(self, name: str) -> Repository:
        """The repository, of this model."""
        return Repository.open(self.repository, name=name)

    def publish(self, name: str, version: Version, *, terms: Terms | None = None) -> str:
        """Publish a version of a model; the SHA-256 of its weights."""
        self.of(name).publish([Form(version.model, version.golden)], terms=terms)
        return self.member(name, "weight.bin")

    def publish_two(self) -> tuple[str, str]:
        """Version 2 of both; the SHA-256 of their weights."""
        return self.publish("classifier", self.versions[2]), self.publish("detector", self.versions[3])

    def member(self, name: str, suffix: str) -> str:
        """The SHA-256 of a member of a model's newest version, by the end of its path."""
        newest = self.of(name).line("staging").current
        assert newest is not None
        members = self.of(name).manifest(newest).members
        return next(member.sha256 for member in members if member.path.endswith(suffix))

    def again(self) -> Device:
        """The device as after a restart."""
        return Device(self.device.folder, limits=QUICK)

    def active(self) -> dict[str, int | None]:
        """The version that is active of each model; each of them has the digest that it should, and runs."""
        device = self.again()
        found: dict[str, int | None] = {}
        for slot in device.status().models:
            found[slot.name] = None if slot.active is None else slot.active.version
            if slot.active is not None:
                assert model_digest(device.model(slot.name)) == slot.active.model
        return found

    def kept(self) -> set[str]:
        """The folders in `models/`."""
        return {path.name for path in (self.device.folder / "models").iterdir()}

    def digests(self, *places: int) -> set[str]:
        return {self.versions[place].digest for place in places}

    def parts(self) -> dict[str, int]:
        """What is begun in `downloads/`: bytes by SHA-256."""
        folder = self.device.folder / "downloads"
        return {path.stem: path.stat().st_size for path in folder.iterdir()}


@pytest.fixture(scope="session")
def four(made: tuple[Version, Version], tmp_path_factory: pytest.TempPathFactory) -> tuple[Version, ...]:
    """Four models that differ, each with a golden set."""
    folder = tmp_path_factory.mktemp("more-models")
    pictures = write_pictures(folder / "pictures")
    more = []
    for name, gain in (("three", 0.04), ("four", 0.05)):
        model = write_model(folder / f"{name}.mlpackage", gain=gain)
        golden.make(model, pictures, folder / f"golden-{name}")
        more.append(Version(model, folder / f"golden-{name}"))
    return (*made, *more)


@pytest.fixture
def pair(tmp_path: Path, four: tuple[Version, ...], monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    repository = Repository.init(tmp_path / "repository", "app")
    with serving(Server(repository.folder)) as server:
        device = Device.install(
            tmp_path / "phone", server.url, "app", "staging", repository.root_file, limits=QUICK
        )
        pair = Pair(tmp_path, repository.folder, server, device, four)
        for name, version in zip(("classifier", "detector"), four, strict=False):
            pair.publish(name, version)
        result = device.update()
        assert (result.outcome, pair.active()) == ("updated", {"classifier": 1, "detector": 1}), result
        server.log.clear()
        yield pair


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Move the clock of the update workflow (5.2, its fixed start time) by days."""
    import tuf.ngclient._internal.trusted_metadata_set as trusted

    def move(days: float) -> None:
        class Later(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                return super().now(tz) + timedelta(days=days)

        monkeypatch.setattr(trusted, "datetime", SimpleNamespace(datetime=Later, timezone=timezone))

    return move
