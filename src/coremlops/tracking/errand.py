"""Work in MLflow that the caller waits for, done by the sender, which has MLflow imported already.

Importing MLflow and opening its store takes 3-4 s; the work itself takes 0.2 s. So a step or a command
leaves a request, the sender does it and leaves an answer:

    outbox/errands/<time>-<random>.json          {"call", "arguments", "process"}
    outbox/errands/<time>-<random>.answer        {"result"} or {"error", "hint"}

Errands are done in the order in which they came, and only while the caller lives: what nobody waits for any
more is not done behind their back. Each is safe to do twice, so one that a dying sender left is done by the
next.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from coremlops.errors import CoremlopsError, TrackingError
from coremlops.files import write_atomic
from coremlops.tracking.record import outbox_folder, process_identity, start_sender

# The only functions that an errand can call; all take and return JSON.
_CALLS = {"register": "registry", "set_alias": "registry"}


def ask(project: Path, call: str, arguments: Mapping[str, Any], *, timeout_s: float = 300.0) -> Any:
    """Have the sender call a function, and return what it returned. Starts the sender if need be.

    Raises `TrackingError` for what went wrong there, or when no answer came in time.
    """
    folder = outbox_folder(project.absolute()) / "errands"
    folder.mkdir(parents=True, exist_ok=True)
    request = folder / f"{time.time_ns():020d}-{os.urandom(4).hex()}.json"
    answer = request.with_suffix(".answer")
    content = {"call": call, "arguments": dict(arguments), "process": process_identity(os.getpid())}
    write_atomic(request, json.dumps(content).encode())
    deadline = time.monotonic() + timeout_s
    next_start = 0.0
    try:
        while not answer.exists():
            now = time.monotonic()
            if now >= deadline:
                raise TrackingError(
                    f"MLflow's sender did not answer within {timeout_s:.0f} s",
                    hint=f"see {folder.parent}/sender.log",
                )
            if now >= next_start:
                start_sender(project)
                next_start = now + 1.0
            time.sleep(0.02)
        found = json.loads(answer.read_bytes())
    finally:
        request.unlink(missing_ok=True)
        answer.unlink(missing_ok=True)
    if "error" in found:
        raise TrackingError(str(found["error"]), hint=str(found.get("hint", "")))
    return found["result"]


def pending(project: Path) -> list[Path]:
    """The requests that have no answer yet, oldest first."""
    folder = outbox_folder(project.absolute()) / "errands"
    return sorted(path for path in folder.glob("*.json") if not path.with_suffix(".answer").exists())


def run_errands(project: Path) -> int:
    """The sender's side: do what is pending; returns how many were answered or dropped."""
    from coremlops.tracking.outbox import alive

    done = 0
    for request in pending(project):
        with contextlib.suppress(FileNotFoundError):  # the caller gave up
            try:
                content = json.loads(request.read_bytes())
            except ValueError:
                content = {}
            if alive(content) is False:
                request.unlink(missing_ok=True)
            else:
                write_atomic(request.with_suffix(".answer"), json.dumps(_answer(content)).encode())
            done += 1
    return done


def _answer(content: Mapping[str, Any]) -> dict[str, Any]:
    call = str(content.get("call"))
    try:
        if call not in _CALLS:
            raise TrackingError(f"no errand {call!r}; expected {' or '.join(_CALLS)}")
        function = getattr(importlib.import_module(f"coremlops.tracking.{_CALLS[call]}"), call)
        result = function(**content["arguments"])
    except CoremlopsError as error:
        return {"error": error.message, "hint": error.hint}
    except Exception as error:  # a caller is waiting, whatever happened
        return {"error": f"{call} failed: {type(error).__name__}: {error}", "hint": ""}
    return {"result": asdict(result) if is_dataclass(result) and not isinstance(result, type) else result}
