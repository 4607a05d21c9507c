"""Put a model in place in one step, with nothing in it that differs from one writing to the next."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coremlops.errors import UsageError


@contextlib.contextmanager
def placed(out: Path) -> Iterator[Path]:
    """A path to fill, renamed to `out` when the block ends well and removed when it does not.

    An older package at `out` is replaced; anything else there is refused with UsageError.
    """
    if out.suffix != ".mlpackage":
        raise UsageError(f"{out}: a name that ends in .mlpackage expected")
    if out.is_symlink() or (out.exists() and not (out / "Manifest.json").is_file()):
        raise UsageError(f"{out} exists and is no .mlpackage; it is left alone")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.stem}-{uuid.uuid4().hex}.mlpackage")
    old = out.with_name(f".{out.stem}-{uuid.uuid4().hex}.old")
    try:
        yield partial
        if out.exists():
            out.rename(old)
        try:
            partial.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def steady_manifest(manifest: dict[str, Any]) -> bytes:
    """The bytes of a package's manifest with identifiers that follow from the paths that they name."""
    new = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, f"coremlops:{item['path']}"))
        for old, item in manifest["itemInfoEntries"].items()
    }
    steady = manifest | {
        "itemInfoEntries": {new[old]: item for old, item in manifest["itemInfoEntries"].items()},
        "rootModelIdentifier": new[manifest["rootModelIdentifier"]],
    }
    return json.dumps(steady, indent=4, sort_keys=True).encode()


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
