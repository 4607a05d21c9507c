"""`coremlops repo serve`: the repository's files and, where it is asked for, the intake, in one process."""

from __future__ import annotations

import functools
import importlib.util
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.errors import MissingExtraError, RepositoryError, UsageError

if TYPE_CHECKING:
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp

STOP_S = 10  # what a download that is under way gets before the server goes; the client resumes it


def application(repository: Path, intake: Sequence[BaseRoute] = ()) -> ASGIApp:
    """An ASGI application: the files of `repository`, and `intake`'s routes below `/intake/`."""
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.types import Receive, Scope, Send

    from coremlops.server.static import Files

    files = Files(repository)
    if not intake:
        return files
    reports = Starlette(routes=[Mount("/intake", routes=list(intake))])

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        here = scope["type"] == "http" and not scope["path"].startswith("/intake/")
        await (files if here else reports)(scope, receive, send)

    return both


def serve(
    repository: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    workers: int = 1,
    intake: Callable[[], Sequence[BaseRoute]] = tuple,
) -> int:
    """Serve until SIGINT or SIGTERM; requests under way may end first. The URL is printed to stderr.

    `port`: 0 means any that is free. `intake`: makes the routes of the intake, in each worker.
    Raises `RepositoryError` when the folder is no repository, `UsageError` when the port is taken, what
    `intake` raises, `MissingExtraError` without the extra `server`.
    """
    for package in ("granian", "starlette"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtraError(package, "server")
    if not (repository / "metadata").is_dir():
        raise RepositoryError(
            f"{repository} is no repository: it has no folder metadata", hint="coremlops repo init FOLDER"
        )
    from granian import Granian
    from granian.constants import HTTPModes, Interfaces
    from granian.log import LogLevels

    intake()  # here once: what is wrong with it is said by this process, not by a worker that dies
    port = _free_port(host, port)
    server = Granian(
        "coremlops.server",
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        workers=workers,
        http=HTTPModes.http1,
        websockets=False,
        log_level=LogLevels.warning,
        workers_kill_timeout=STOP_S,
    )
    name = f"[{host}]" if ":" in host else host
    print(f"{repository} at http://{name}:{port}  (Ctrl-C ends it)", file=sys.stderr, flush=True)
    server.serve(target_loader=functools.partial(_load, repository, intake), wrap_loader=False)
    return 0


def _load(repository: Path, intake: Callable[[], Sequence[BaseRoute]]) -> ASGIApp:
    return application(repository, intake())


def _free_port(host: str, port: int) -> int:
    """`port`, when nobody listens there. The server's own socket would share it with whoever does."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host, port), family=family) as probe:
            return int(probe.getsockname()[1])
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
            hint="choose another with --port",
        ) from None
