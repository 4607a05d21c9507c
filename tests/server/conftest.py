"""One repository, served by `coremlops repo serve` and by nginx with the file that we give to people."""

from __future__ import annotations

import contextlib
import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from coremlops import golden
from coremlops.release import Repository
from coremlops.release.terms import Form
from tests.release.models import write_model, write_pictures

NGINX_FILE = Path(__file__).parents[2] / "deploy" / "nginx.conf"


@dataclass(frozen=True)
class Served:
    """A repository and where it is served, by whom."""

    folder: Path
    url: str
    by: str

    def get(self, path: str, method: str = "GET", **headers: str) -> urllib3.BaseHTTPResponse:
        """An answer, with the path as it stands; `if_none_match="..."` is a header."""
        host, port = self.url.removeprefix("http://").split(":")
        pool = urllib3.HTTPConnectionPool(host, int(port), retries=False, timeout=10)
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        return pool.urlopen(method, path, headers=named, decode_content=False, assert_same_host=False)

    def file(self, pattern: str) -> str:
        """The path in the URL of the one file that is named so."""
        found = sorted(self.folder.glob(pattern))
        return "/" + found[0].relative_to(self.folder).as_posix()


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Version 1 of a tiny model, on staging."""
    folder = tmp_path_factory.mktemp("served")
    model = write_model(folder / "one.mlpackage", extra_bytes=100_000)
    golden.make(model, write_pictures(folder / "pictures"), folder / "golden")
    made = Repository.init(folder / "repository", config=folder / "config")
    made.publish([Form(model, folder / "golden")])
    root = made.folder / "metadata/1.root.json"
    packed = Path(f"{root}.gz")
    if not packed.exists():
        packed.write_bytes(gzip.compress(root.read_bytes(), mtime=0))
    (made.folder / "pending").mkdir(exist_ok=True)
    (made.folder / "pending/1.json").write_text("{}")
    (made.folder / "metadata/9.faces-staging.json").symlink_to(folder / "config")
    return made


@pytest.fixture(scope="session", params=["coremlops", "nginx"])
def served(
    request: pytest.FixtureRequest, repository: Repository, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp(request.param)
    way = serve_ours if request.param == "coremlops" else serve_nginx
    with way(repository.folder, folder) as url:
        yield Served(repository.folder, url, request.param)


@contextlib.contextmanager
def serve_ours(repository: Path, folder: Path, *more: str) -> Iterator[str]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "coremlops",
        "repo",
        "serve",
        str(repository),
        "--port",
        str(port),
        *more,
    ]
    with running(command, folder / "log", port) as process:
        yield f"http://127.0.0.1:{port}"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0, (folder / "log").read_text()


@contextlib.contextmanager
def serve_nginx(repository: Path, folder: Path) -> Iterator[str]:
    if shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    port = free_port()
    server = NGINX_FILE.read_text().replace("listen 80;", f"listen 127.0.0.1:{port};")
    server = re.sub(r"root /srv/repository;", f"root {repository};", server)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    main = f"""{user} daemon off; worker_processes 2; pid {folder}/pid; error_log {folder}/log;
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; tcp_nopush on;
{temporary}{server}}}
"""
    (folder / "nginx.conf").write_text(main)
    command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "log")]
    with running(command, folder / "out", port):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def running(command: list[str], log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The process, once it listens; it is ended with the block."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=os.environ | {"PATH": path})
    try:
        for _ in range(400):
            if process.poll() is not None:
                pytest.fail(f"{command[0]} ended with {process.returncode}: {log.read_text()}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.05)
        else:
            pytest.fail(f"{command[0]} does not listen: {log.read_text()}")
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
