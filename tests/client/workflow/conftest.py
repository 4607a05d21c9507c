"""A repository, a server, and `coremlops tuf-client` with a folder of its own."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest

from coremlops.cli import main
from tests.client.server import Server, serving
from tests.client.workflow.repository import TufRepository


@dataclass
class Client:
    """The command, run in this process; `error` is what the last run said on stderr."""

    folder: Path
    server: Server
    repository: TufRepository
    error: str = ""

    def run(self, *arguments: str) -> int:
        """The exit code of one run."""
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = main(["tuf-client", "--metadata-dir", str(self.metadata), *arguments])
        self.error = said.getvalue()
        return code

    def init(self, root: bytes | None = None) -> int:
        """Trust `root`, or the repository's first."""
        file = self.folder / "initial.json"
        file.write_bytes(self.repository.published["root"][0] if root is None else root)
        return self.run("init", str(file))

    def refresh(self) -> int:
        return self.run("--metadata-url", f"{self.server.url}/metadata/", "refresh")

    def download(self, *names: str) -> int:
        url = self.server.url
        where = ("--target-base-url", f"{url}/targets/", "--target-dir", str(self.folder / "targets"))
        return self.run("--metadata-url", f"{url}/metadata/", "--target-name", *names, *where, "download")

    def refused(self, words: str) -> bool:
        """The refresh fails, and says why."""
        return self.refresh() == 1 and words in self.error

    @property
    def metadata(self) -> Path:
        return self.folder / "metadata"

    @property
    def trusted(self) -> dict[str, int]:
        """The version of each role in the folder, which holds plain files as they were published."""
        versions = {}
        for path in sorted(self.metadata.iterdir()):
            assert path.is_file(), path
            assert not path.is_symlink(), path
            assert path.suffix == ".json", path
            role = unquote(path.stem)
            if role in self.repository.published:
                assert path.read_bytes() in self.repository.published[role], path
            versions[role] = json.loads(path.read_bytes())["signed"]["version"]
        return versions

    @property
    def files(self) -> dict[str, bytes]:
        """The targets that came."""
        folder = self.folder / "targets"
        return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}

    def asked(self) -> list[str]:
        """What was asked of the server since the last call, without the folders' names."""
        paths = [each.path.split("/", 2)[2] for each in self.server.log]
        self.server.log.clear()
        return paths


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def repository(tmp_path: Path) -> TufRepository:
    return TufRepository(tmp_path / "repository")


@pytest.fixture
def server(repository: TufRepository) -> Iterator[Server]:
    with serving(Server(repository.folder)) as server:
        yield server


@pytest.fixture
def client(tmp_path: Path, server: Server, repository: TufRepository) -> Client:
    """A client that trusts the repository's first root, and has asked for nothing."""
    client = Client(tmp_path / "client", server, repository)
    client.folder.mkdir()
    assert client.init() == 0
    return client
