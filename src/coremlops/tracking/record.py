"""What a run records, at once and locally; the sender carries it to MLflow.

One file a run, `<project>/.coremlops/outbox/<run id>.jsonl`, one JSON object a line:

    {"seq": 0, "time_ms": 1763761845123, "event": "run_started", "name", "tracking_uri", "experiment",
     "params", "tags", "process"}
    {"seq": 1, ..., "event": "step_started", "step", "params", "tags"}
    {"seq": 2, ..., "event": "step_finished", "step", "status", "metrics", "dataset", "artifacts"}
    {"seq": 3, ..., "event": "run_finished", "status", "metrics", "datasets"}

A line is appended by one `write`, so a reader sees whole lines and at worst a torn last one, which the next
writer closes with a line break of its own. The file is for its owner alone: a tracking URI may hold a
password. This module is on the pipeline's hot path: standard library
alone, and nothing that waits.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from coremlops.errors import TrackingError

STATUSES = frozenset({"FINISHED", "FAILED", "KILLED"})
_NAME_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def outbox_folder(project: Path) -> Path:
    """Where a project's runs wait to be sent."""
    return project / ".coremlops" / "outbox"


def process_identity(pid: int) -> dict[str, Any] | None:
    """Who the process `pid` of this machine is; None when there is none.

    `{"pid", "start", "host"}`: `start` tells a process from a later one that got the same number. On Linux it
    is the boot and the tick of its start (proc(5), field 22 of stat); elsewhere what `ps` prints.
    """
    host = os.uname().nodename
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        # The second field is the program's name in parentheses and may hold anything, so split behind it.
        fields = stat.rpartition(b")")[2].split()
        if fields[0] == b"Z":
            return None
        return {"pid": pid, "start": f"{boot}:{fields[19].decode()}", "host": host}
    import subprocess

    printed = subprocess.run(
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {"pid": pid, "start": printed, "host": host} if printed else None


class RunRecorder:
    """Records one pipeline run; safe to call from several threads.

    A recorder made again for a run id that has a file continues that file. Raises `TrackingError` for a run
    id that is no file name, or when the outbox cannot be written.
    """

    def __init__(self, project: Path, run_id: str, *, name: str, tracking_uri: str, experiment: str) -> None:
        if not run_id or run_id[0] == "." or len(run_id) > 100 or not _NAME_CHARACTERS.issuperset(run_id):
            raise TrackingError(f"a run id is 1 to 100 letters, digits, '.', '_' or '-', got {run_id!r}")
        self.path = outbox_folder(project.absolute()) / f"{run_id}.jsonl"
        self._head = {"name": name, "tracking_uri": tracking_uri, "experiment": experiment}
        self._lock = threading.Lock()
        self._sequence = -1

    def run_started(self, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """The run began. The tag `coremlops.mlflow_run_id` names a run of MLflow's to log into instead."""
        self._append(
            "run_started",
            {
                **self._head,
                "params": dict(params),
                "tags": dict(tags),
                "process": process_identity(os.getpid()),
            },
        )

    def step_started(self, step: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """A step began to work (a cached one records nothing)."""
        self._append("step_started", {"step": step, "params": dict(params), "tags": dict(tags)})

    def step_finished(
        self,
        step: str,
        *,
        status: str,
        metrics: Mapping[str, float],
        dataset: Mapping[str, Any] | None,
        artifacts: Sequence[Path],
    ) -> None:
        """A step ended. `dataset`: what `dataset.json` holds; `artifacts`: files for the sender to read."""
        self._append(
            "step_finished",
            {
                "step": step,
                "status": _checked(status),
                "metrics": dict(metrics),
                "dataset": None if dataset is None else dict(dataset),
                "artifacts": [str(path.absolute()) for path in artifacts],
            },
        )

    def run_finished(
        self, status: str, *, metrics: Mapping[str, float], datasets: Sequence[Mapping[str, Any]]
    ) -> None:
        """The run ended; `datasets` are those that it used, cached steps' ones too."""
        self._append(
            "run_finished",
            {
                "status": _checked(status),
                "metrics": dict(metrics),
                "datasets": [dict(dataset) for dataset in datasets],
            },
        )

    def _append(self, event: str, fields: Mapping[str, Any]) -> None:
        with self._lock:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                handle = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
                try:
                    prefix = self._continue(handle)
                    self._sequence += 1
                    head = {"seq": self._sequence, "time_ms": time.time_ns() // 1_000_000, "event": event}
                    line = json.dumps({**head, **fields}, separators=(",", ":"), default=str)
                    rest = prefix + line.encode() + b"\n"
                    while rest:  # a disk that fills up takes a part, and says so at the next
                        rest = rest[os.write(handle, rest) :]
                finally:
                    os.close(handle)
            except OSError as error:
                raise TrackingError(f"cannot record the run in {self.path}: {error}") from error

    def _continue(self, handle: int) -> bytes:
        """Find where an existing file's numbers end; what must precede the next line is returned."""
        size = os.fstat(handle).st_size
        if not size:
            return b""
        if self._sequence < 0:
            self._sequence = os.pread(handle, size, 0).count(b"\n") - 1
        return b"" if os.pread(handle, 1, size - 1) == b"\n" else b"\n"


def start_sender(project: Path) -> None:
    """Start the sender beside us unless one is at work; call it after `run_started`. Costs 1-2 ms.

    A running sender looks at the outbox once more after it has let go of its lock, so a run recorded before
    this call is never overlooked.
    """
    import subprocess

    folder = outbox_folder(project.absolute())
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "sender.lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
    with (folder / "sender.log").open("ab") as log:
        # Its own session: Ctrl-C or the end of the run must not end the sender.
        subprocess.Popen(
            [sys.executable, "-m", "coremlops.tracking.sender", str(project.absolute())],
            cwd=project,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _checked(status: str) -> str:
    if status not in STATUSES:
        raise TrackingError(f"a status is one of {', '.join(sorted(STATUSES))}, got {status!r}")
    return status
