"""Small files of ours under `.coremlops/`: written whole or not at all, read back or treated as absent."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from coremlops.errors import StoreError


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by the JSON of `value`; a reader sees the old file or the new one, never half of it.

    It is not forced to the disk: after a power cut it may be empty or old, which both read as "do it again",
    and forcing costs more than all the rest of a step.

    Raises `StoreError` when the disk is full or the folder cannot be written; the old file then stands.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8") as file:  # noqa: PTH123 (a hot path)
            # One string: json.dump would use the slow pure Python encoder.
            file.write(json.dumps(value, separators=(",", ":")))
        os.replace(temporary, path)  # noqa: PTH105
    except OSError as error:
        with contextlib.suppress(OSError):
            Path(temporary).unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def keep_json(path: Path, value: Any) -> None:
    """Write what is only there to be quicker next time; a read-only project does without."""
    with contextlib.suppress(StoreError):
        write_json(path, value)


def read_json(path: Path) -> Any:
    """The JSON in `path`, or None when there is none or it is damaged (a cache may always be rebuilt)."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return json.loads(file.read())
    except (OSError, ValueError, RecursionError):
        return None


def read_table(path: Path, version: int, key: str) -> dict[str, Any]:
    """The mapping `key` of a JSON file of ours of that format; empty when there is none or it is damaged."""
    saved = read_json(path)
    found = saved.get(key) if isinstance(saved, dict) and saved.get("format") == version else None
    return found if isinstance(found, dict) else {}


def cannot_write(path: Path, error: OSError) -> StoreError:
    """Our error for an `OSError` while writing `path`."""
    import errno

    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    hint = "free some space (deleting .coremlops/ is safe and costs a rerun), then run again"
    return StoreError(f"cannot write {path}: {error.strerror or error}", hint=hint if full else "")
