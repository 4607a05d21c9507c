"""The outbox as its reader sees it: whole lines from a cursor, and which runs are alive.

outbox/<run id>.jsonl          what the run recorded (see `record`)
outbox/<run id>.cursor.json    {"offset": bytes sent, "steps": {step: MLflow's run id}}: the sender's
outbox/<run id>.parent.json    {"mlflow_run_id", "adopted"}: whoever made the parent run, under `parent.lock`
outbox/sent/                   finished runs, both files
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coremlops.tracking.record import outbox_folder, process_identity

# A line holds one step's parameters and metrics. What is longer than this is no line of ours.
MAX_LINE_BYTES = 16 << 20


class Outbox:
    """The outbox of one project."""

    def __init__(self, project: Path) -> None:
        self.folder = outbox_folder(project.absolute())
        self.sent = self.folder / "sent"

    def runs(self) -> list[str]:
        """The ids of the runs that are not wholly sent, oldest first."""
        dated = []
        for path in self.folder.glob("*.jsonl"):
            with contextlib.suppress(FileNotFoundError):
                dated.append((path.stat().st_mtime_ns, path.stem))
        return [run for _, run in sorted(dated)]

    def recorded(self, run_id: str) -> Path:
        return self.folder / f"{run_id}.jsonl"

    def read(self, run_id: str, offset: int) -> list[tuple[int, dict[str, Any]]]:
        """The events behind `offset`, each with the offset that follows its line.

        A torn last line is left for later; a line in the middle that is no JSON object (a writer died, and
        the next one closed its line) is passed over.
        """
        events = []
        with self.recorded(run_id).open("rb") as file:
            file.seek(offset)
            while (line := file.readline(MAX_LINE_BYTES)).endswith(b"\n"):
                with contextlib.suppress(ValueError):
                    event = json.loads(line)
                    if isinstance(event, dict) and "event" in event and "time_ms" in event:
                        events.append((file.tell(), event))
        return events

    def started(self, run_id: str) -> dict[str, Any] | None:
        """The newest `run_started` of a run, sent or not; None when none was recorded."""
        for path in (self.recorded(run_id), self.sent / f"{run_id}.jsonl"):
            with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
                found = None
                for line in file:
                    if b'"run_started"' in line:
                        with contextlib.suppress(ValueError):
                            event = json.loads(line)
                            found = event if isinstance(event, dict) else found
                if found is not None:
                    return found
        return None

    def cursor(self, run_id: str) -> dict[str, Any]:
        """How far a run was sent; its beginning when that is not known (sent twice counts once)."""
        found = _read(self.folder / f"{run_id}.cursor.json") or {}
        offset = found.get("offset")
        if not (isinstance(offset, int) and offset >= 0 and isinstance(found.get("steps"), dict)):
            return {"offset": 0, "steps": {}}
        return found

    def set_cursor(self, run_id: str, cursor: Mapping[str, Any]) -> None:
        _replace(self.folder / f"{run_id}.cursor.json", cursor)

    def parent(self, run_id: str) -> dict[str, Any] | None:
        """`{"mlflow_run_id", "adopted"}` of a run whose parent run is known."""
        name = f"{run_id}.parent.json"
        return _read(self.folder / name) or _read(self.sent / name)

    def set_parent(self, run_id: str, parent: Mapping[str, Any]) -> None:
        _replace(self.folder / f"{run_id}.parent.json", parent)

    def archive(self, run_id: str) -> None:
        """Move a run that is wholly sent to `sent/`."""
        self.sent.mkdir(exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            (self.folder / f"{run_id}.parent.json").replace(self.sent / f"{run_id}.parent.json")
        recorded, sent = self.recorded(run_id), self.sent / f"{run_id}.jsonl"
        if sent.exists():  # a run that was taken up again after its first part was sent
            earlier = sent.with_suffix(".earlier")
            earlier.touch(0o600)
            earlier.write_bytes(sent.read_bytes() + recorded.read_bytes())
            earlier.replace(sent)
            recorded.unlink()
        else:
            recorded.replace(sent)
        (self.folder / f"{run_id}.cursor.json").unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, name: str, *, wait: bool) -> Iterator[bool]:
        """Hold the lock of that name; yields False at once when another holds it and we would not wait."""
        # Never the project itself: one that was deleted under a sender must not come back.
        for folder in (self.folder.parent, self.folder):
            folder.mkdir(exist_ok=True)
        with (self.folder / f"{name}.lock").open("a") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True


def alive(started: Mapping[str, Any] | None) -> bool | None:
    """Whether the process that recorded `run_started` still runs; None when it cannot be known from here."""
    recorded = (started or {}).get("process")
    if not isinstance(recorded, dict) or recorded.get("host") != os.uname().nodename:
        return None
    try:
        pid = int(recorded["pid"])
    except (KeyError, TypeError, ValueError):
        return None
    return process_identity(pid) == recorded


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _replace(path: Path, content: Mapping[str, Any]) -> None:
    fresh = path.with_suffix(f".{os.getpid()}.tmp")
    fresh.write_text(json.dumps(content))
    fresh.replace(path)
