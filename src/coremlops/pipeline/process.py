"""A step's process: a shell command in a group of its own, with its output in a log."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from coremlops.pipeline.disk import cannot_write

TAIL_LINES = 20
_TAIL_BYTES = 16 << 10
_GRACE_S = 5.0


def step_environment(own: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Our environment with `python` being the Python that runs us, as MLflow's local manager has it."""
    folder = Path(sys.executable).parent
    if not (folder / "python").exists():
        folder = _python_shim(own)
    path = os.environ.get("PATH", os.defpath)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{path}", "PYTHONUNBUFFERED": "1", **extra}


def _python_shim(own: Path) -> Path:
    """A folder with a `python` that is ours, for systems that have `python3` alone."""
    import shlex

    shim = own / "bin" / "python"
    text = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n'
    if not shim.exists() or shim.read_text() != text:
        shim.parent.mkdir(parents=True, exist_ok=True)
        shim.write_text(text)
        shim.chmod(0o755)
    return shim.parent


def run_logged(
    command: str,
    *,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    started: Callable[[int], None],
) -> int:
    """Run `command` with bash in `folder`; its exit status (128 + signal when a signal ended it).

    stdout and stderr go to `log`. `started` gets the process group's id. Whatever the step left running in
    its group is ended with it, also when this call is interrupted, so that nobody writes to its output after.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = log.open("wb")
    except OSError as error:
        raise cannot_write(log, error) from error
    with file:
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        started(process.pid)
        # Wait without reaping: while the leader is a zombie, its group's id is nobody else's.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    except BaseException:
        _end_group(process, signal.SIGTERM)
        raise
    finally:
        _end_group(process, signal.SIGKILL)
        process.wait()
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


def _end_group(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # macOS answers EPERM for a group of zombies
    if number == signal.SIGTERM:
        until = time.monotonic() + _GRACE_S
        while time.monotonic() < until:
            if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
                return
            time.sleep(0.02)


def tail(log: Path, lines: int = TAIL_LINES) -> tuple[str, ...]:
    """The last lines of a log."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ()
    return tuple(line.rstrip() for line in text.rstrip().splitlines()[-lines:])
