"""The sender: carries the outbox to MLflow beside the steps, and ends when there is nothing left to carry.

`python -m coremlops.tracking.sender PROJECT` is one process a project, held to one by a lock, of low
priority. While a run is alive it follows the run's file. A tracking server that is down is asked again, ever
more slowly; once no run is alive and nothing went through for `patience_s`, the sender ends, and the next
run or `coremlops ui` starts it again where it stopped.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.errors import CoremlopsError, MissingExtraError
from coremlops.tracking.address import absolute_uri, shown
from coremlops.tracking.errand import pending, run_errands
from coremlops.tracking.outbox import Outbox, alive
from coremlops.tracking.record import start_sender

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOG_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class SenderTimes:
    """How often the sender looks, and how long it waits."""

    poll_s: float = 0.1
    linger_s: float = 15.0  # the next run, or a promotion, then finds MLflow imported already
    patience_s: float = 120.0
    retry_max_s: float = 15.0


def ensure_parent_run(project: Path, run_id: str) -> str:
    """MLflow's id of the parent run of our run, made now unless the sender was quicker.

    Raises `TrackingError` for a run that was never recorded, or when MLflow cannot be reached.
    """
    from coremlops.tracking.delivery import parent_run
    from coremlops.tracking.store import import_mlflow, trouble

    import_mlflow()
    with trouble(f"cannot make the MLflow run of {run_id}"):
        return parent_run(project, run_id)


def flush(project: Path, timeout_s: float) -> bool:
    """Wait until everything recorded so far is in MLflow; False when that takes longer than `timeout_s`.

    Starts the sender if there is something to send and none is at work.
    """
    outbox = Outbox(project)
    deadline = time.monotonic() + timeout_s
    next_start = 0.0
    while _waiting(outbox):
        now = time.monotonic()
        if now >= deadline:
            return False
        if now >= next_start:
            start_sender(project)
            next_start = now + 2.0
        time.sleep(0.05)
    return True


def _waiting(outbox: Outbox) -> list[str]:
    """The runs with lines that are not sent, or that died and are not yet marked."""
    found = []
    for run_id in outbox.runs():
        offset = outbox.cursor(run_id)["offset"]
        with contextlib.suppress(FileNotFoundError):  # archived while we looked
            started = outbox.started(run_id)
            if started is not None and (outbox.read(run_id, offset) or alive(started) is False):
                found.append(run_id)
    return found


class Sender:
    """The loop. One `turn` looks once at every run; `run` turns until there is nothing to wait for."""

    def __init__(self, project: Path, times: SenderTimes, lock_inode: int | None = None) -> None:
        self.lock_inode = lock_inode
        self.project = project.absolute()
        self.outbox = Outbox(self.project)
        self.times = times
        self._clients: dict[str, MlflowClient] = {}
        self._seen_alive_ms: dict[str, int] = {}

    def run(self) -> set[str]:
        """Turn until everything is sent and no run is alive, or patience ends; returns what was given up."""
        progress = time.monotonic()
        delay = self.times.poll_s
        while not self.orphaned():
            moved, trouble = self.turn()
            now = time.monotonic()
            living = bool(pending(self.project)) or any(
                alive(self.outbox.started(run_id)) for run_id in self.outbox.runs()
            )
            if moved or living:
                progress = now
            if not living and now - progress >= (self.times.patience_s if trouble else self.times.linger_s):
                return set(_waiting(self.outbox)) if trouble else set()
            delay = min(delay * 2, self.times.retry_max_s) if trouble and not moved else self.times.poll_s
            self._sleep(delay)
        return set()

    def orphaned(self) -> bool:
        """Whether the project was removed, or made anew: then it has a lock and a sender of its own."""
        with contextlib.suppress(OSError):
            return (self.outbox.folder / "sender.lock").stat().st_ino != self.lock_inode
        return True

    def _sleep(self, delay_s: float) -> None:
        deadline = time.monotonic() + delay_s
        while (left := deadline - time.monotonic()) > 0 and not pending(self.project):
            time.sleep(min(left, self.times.poll_s))
        if self._store_replaced():
            # An open database follows its deleted file, not its name. A fresh process opens the new one.
            arguments = ["-m", "coremlops.tracking.sender", str(self.project)]
            os.execv(sys.executable, [sys.executable, *arguments])  # noqa: S606 - our own arguments

    @staticmethod
    def _store_replaced() -> bool:
        if "coremlops.tracking.store" not in sys.modules:
            return False
        from coremlops.tracking.store import replaced

        return replaced()

    def turn(self) -> tuple[bool, bool]:
        """Do the errands, send what there is. Returns (something went through, something did not)."""
        moved = run_errands(self.project) > 0
        trouble = False
        for run_id in self.outbox.runs():
            try:
                moved |= self._send_run(run_id)
            except MissingExtraError:
                raise
            except FileNotFoundError as error:
                if self.outbox.recorded(run_id).exists():
                    trouble = True
                    _say(f"{run_id}: {error}")
            except Exception as error:
                # Whatever MLflow, its database or the network raise: the next turn tries again, and one
                # run's trouble must not keep another's lines from being sent.
                trouble = True
                _say(f"{run_id}: {type(error).__name__}: {error}")
        return moved, trouble

    def _send_run(self, run_id: str) -> bool:
        from coremlops.tracking.delivery import Delivery
        from coremlops.tracking.store import refused

        # Life before lines: a run that ends between the two looks is judged by its last line.
        life = alive(self.outbox.started(run_id))
        if life:
            self._seen_alive_ms[run_id] = time.time_ns() // 1_000_000
        cursor = self.outbox.cursor(run_id)
        events = self.outbox.read(run_id, cursor["offset"])
        started = self.outbox.started(run_id)
        if started is None or not (events or life is False or cursor.get("finished")):
            return False
        uri = absolute_uri(str(started["tracking_uri"]), self.project)
        delivery = Delivery(self.project, run_id, self._client(uri), uri, cursor["steps"])
        for offset, event in events:
            try:
                delivery.send(event)
            except Exception as error:
                if not (
                    refused(error) or isinstance(error, (KeyError, TypeError, ValueError, AttributeError))
                ):
                    raise
                _say(f"{run_id}: left out {event.get('event')}: {error}")
            cursor = {
                "offset": offset,
                "steps": delivery.steps,
                "finished": event["event"] == "run_finished",
                "time_ms": event["time_ms"],
            }
            self.outbox.set_cursor(run_id, cursor)
        if cursor.get("finished"):
            # Read once more under no lock: a run taken up again has appended behind its own end.
            if not self.outbox.read(run_id, cursor["offset"]):
                self.outbox.archive(run_id)
        elif life is False:
            delivery.kill(max(int(cursor.get("time_ms", 0)), self._seen_alive_ms.get(run_id, 0)))
            self.outbox.archive(run_id)
            return True
        return bool(events)

    def _client(self, uri: str) -> MlflowClient:
        from coremlops.tracking.store import connect, import_mlflow

        import_mlflow()  # seconds, in which the project may go; opening its store would bring it back
        if not self.project.is_dir():
            raise FileNotFoundError(self.project)
        if uri not in self._clients:
            self._clients[uri] = connect(uri)
        return self._clients[uri]


def main(project: Path, times: SenderTimes) -> int:
    """The process: one a project, of low priority. Returns 0, also when another one is at work."""
    _step_back()
    outbox = Outbox(project)
    _trim(outbox.folder / "sender.log")
    while project.is_dir():
        with outbox.lock("sender", wait=False) as ours:
            if not ours:
                return 0
            sender = Sender(project, times, (outbox.folder / "sender.lock").stat().st_ino)
            given_up = sender.run()
            if sender.orphaned():
                return 0
        # A run recorded after our last look found the lock held, so its `start_sender` left it to us.
        if not set(_waiting(outbox)) - given_up and not pending(project):
            return 0
    return 0


def _step_back() -> None:
    """Give way to the steps, though not wholly: at 10, `register` waited 30 s for us on a busy machine.

    Each is a courtesy that may be refused.
    """
    with contextlib.suppress(OSError):
        os.nice(5)
    # Linux weighs sessions against each other first, and the sender is one of its own (sched(7), autogroup).
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("5")
    # A server that is down is our loop's affair; MLflow's own seven retries would block it for minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")


def _trim(log: Path) -> None:
    with contextlib.suppress(OSError):
        if log.stat().st_size > _LOG_LIMIT_BYTES:
            log.write_bytes(b"")


def _say(line: Any) -> None:
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {shown(str(line))}", flush=True)


if __name__ == "__main__":
    usual = SenderTimes()
    patience = float(os.environ.get("COREMLOPS_SENDER_PATIENCE_S", usual.patience_s))
    linger = float(os.environ.get("COREMLOPS_SENDER_LINGER_S", usual.linger_s))
    try:
        sys.exit(main(Path(sys.argv[1]), SenderTimes(patience_s=patience, linger_s=linger)))
    except CoremlopsError as error:
        _say(error.message)
        sys.exit(error.exit_code)
