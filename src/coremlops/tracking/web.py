"""MLflow's web pages on a project's store, at a quarter of the usual memory and time."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path

from coremlops.errors import MissingExtraError, UsageError
from coremlops.tracking.address import shown, sqlite_file
from coremlops.tracking.record import outbox_folder

# Without it MLflow opens on its pages for language models, where a model is called an agent.
_PAGE = "#/experiments?workflowType=machine_learning"


def serve(project: Path, uri: str, *, host: str, port: int, wait_s: float) -> int:
    """Send what the project recorded, then replace this process by MLflow's server.

    Its URL is printed to stderr when it answers.

    A project that tracks to a server of its own is not served: its URL is printed and 0 returned.
    `uri` is absolute (see `address.absolute_uri`). Raises `UsageError` when the port is taken and
    `MissingExtraError` without MLflow.
    """
    project = project.absolute()
    if importlib.util.find_spec("mlflow") is None:
        raise MissingExtraError("mlflow", "mlflow")
    if not uri.startswith(("http://", "https://")):
        _check_port(host, port)
    _flush(project, wait_s)
    if uri.startswith(("http://", "https://")):
        print(f"this project is tracked at {shown(uri)}", file=sys.stderr)
        return 0
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        from coremlops.tracking.store import connect

        connect(uri)
    name = f"[{host}]" if ":" in host else host
    print("starting MLflow ... (Ctrl-C ends it)", file=sys.stderr, flush=True)
    _announce(host, port, f"MLflow: http://{name}:{port}/{_PAGE}")
    environment = {
        **os.environ,
        # By default MLflow starts four workers and a job queue: 45 s and 1.8 GB against 8 s and 0.4 GB.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        # Not an argument: those can be read by everybody on the machine, and a database has a password.
        "MLFLOW_BACKEND_STORE_URI": uri,
    }
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    command += ["--host", host, "--port", str(port)]
    if file is not None:
        command += ["--default-artifact-root", str(file.parent / "mlruns")]
    os.chdir(project)
    os.execve(sys.executable, command, environment)  # noqa: S606


def _announce(host: str, port: int, line: str) -> None:
    """Say the URL when it answers. This process is about to become the server, so another one waits."""
    command = [sys.executable, "-m", "coremlops.tracking.announce", host, str(port), line, str(os.getpid())]
    subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True)


def _flush(project: Path, wait_s: float) -> None:
    if not outbox_folder(project).is_dir():
        return
    from coremlops.tracking.sender import flush

    if not flush(project, wait_s):
        print(
            f"some runs are not in MLflow yet; see {outbox_folder(project) / 'sender.log'}", file=sys.stderr
        )


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            pass
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen on {host}:{port}: {getattr(error, 'strerror', None) or error}",
            hint="choose another with --port",
        ) from error
