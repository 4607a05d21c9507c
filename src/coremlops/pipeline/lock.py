"""One run at a time in a project, and what a killed run left behind.

The lock is `flock` on `.coremlops/lock`, which the system gives back however a process ends.
"""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from coremlops.errors import StoreError, UsageError
from coremlops.pipeline.disk import cannot_write, read_json, write_json
from coremlops.pipeline.store import remove


@contextmanager
def project_lock(own: Path, root: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Hold the project's lock; when another run holds it, `tell` says so and this waits.

    Raises `UsageError` from inside a step of a run of the same project, which would wait for ever.
    """
    if os.environ.get("COREMLOPS_PROJECT") == str(root) and os.environ.get("COREMLOPS_STEP"):
        raise UsageError(
            f"step {os.environ['COREMLOPS_STEP']} runs the pipeline that it is part of",
            hint="a step cannot run its own project's pipeline",
        )
    path = own / "lock"
    try:
        own.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(fd, 64, 0).decode("ascii", "replace").strip() or "?"
            tell(f"another run (process {holder}) is working in this project; waiting for it")
            fcntl.flock(fd, fcntl.LOCK_EX)
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def started_at(pid: int) -> str:
    """When process `pid` started, as text that tells two processes of one id apart; "" when there is none."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text("ascii", errors="replace")
        fields = line.rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    import subprocess  # macOS has no /proc

    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True)
    return found.stdout.strip()


def claim(work: Path, pid: int) -> None:
    """Note beside a work folder which process group works in it."""
    write_json(work / "owner.json", {"pid": pid, "started": started_at(pid), "runner": os.getpid()})


def clean_work(folder: Path, tell: Callable[[str], None]) -> None:
    """Remove what killed runs left in `folder`, ending a step that outlived its run: nobody waits for it.

    Call it with the project's lock held: then no run is alive that could own any of it.
    """
    try:
        left = list(folder.iterdir())
    except FileNotFoundError:
        return
    for work in left:
        owner = read_json(work / "owner.json")
        if isinstance(owner, dict):
            pid, started = owner.get("pid"), owner.get("started")
            if isinstance(pid, int) and pid > 1 and started and started_at(pid) == started:
                tell(f"ending the step that a killed run left behind (process group {pid})")
                try:
                    os.killpg(pid, signal.SIGKILL)
                except (ProcessLookupError, PermissionError) as error:
                    raise StoreError(f"process {pid} of a killed run cannot be ended: {error}") from error
        remove(work)
