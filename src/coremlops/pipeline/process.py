"""A step's process: a shell command in a group of its own, with its output in a log."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
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
    # Steps share the cores: an OpenMP thread that waits should sleep, not spin. No result depends on it.
    ours = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "PYTHONUNBUFFERED": "1"}
    return {**ours, "PATH": f"{folder}{os.pathsep}{path}", **extra}


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


class Job:
    """A command that bash runs in `folder`, in a process group of its own; stdout and stderr go to `log`.

    Raises `StoreError` when the log cannot be written.
    """

    def __init__(self, command: str, *, folder: Path, environment: Mapping[str, str], log: Path) -> None:
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            file = log.open("wb")
        except OSError as error:
            raise cannot_write(log, error) from error
        with file:
            self._process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def ended(self) -> bool:
        """Whether the command has ended. Not reaped yet: as a zombie it keeps its group's id from others."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def finish(self) -> int:
        """End what the command left running in its group; its exit status (128 + signal if one ended it)."""
        self._signal(signal.SIGKILL)
        status = self._process.wait()
        return status if status >= 0 else 128 - status

    def cancel(self) -> None:
        """Ask the group to end, and end it after 5 s, so that nobody writes to its output any more."""
        if self._process.returncode is not None:
            return  # ended and reaped: its group's id may be another's by now
        self._signal(signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        while time.monotonic() < until and not self.ended():
            time.sleep(0.02)
        self.finish()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)  # macOS answers EPERM for a group of zombies


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
