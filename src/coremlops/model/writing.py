"""Put a model in place in one step, with nothing in it that differs from one writing to the next."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coremlops.errors import UsageError, WriteError
from coremlops.files import unfinished
from coremlops.model.package import MANIFEST, open_package
from coremlops.model.proto import canonical_bytes, parse_model

DEBUG_FILE = "executorch_debug_handle_mapping.json"
_DATE = "com.github.apple.coremltools.conversion_date"


def check_writable(path: Path) -> None:
    """Make the folder of `path`. Raises WriteError when nothing can be written there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def placed(out: Path) -> Iterator[Path]:
    """A path to fill, renamed to `out` when the block ends well and removed when it does not.

    An older package at `out` is replaced; anything else there is refused with UsageError.
    """
    if out.suffix != ".mlpackage":
        raise UsageError(f"{out}: a name that ends in .mlpackage expected")
    if out.is_symlink() or (out.exists() and not (out / "Manifest.json").is_file()):
        raise UsageError(f"{out} exists and is no .mlpackage; it is left alone")
    check_writable(out)
    partial = out.with_name(f".{out.stem}-{uuid.uuid4().hex}.mlpackage")
    old = out.with_name(f".{out.stem}-{uuid.uuid4().hex}.old")
    try:
        with unfinished(partial):
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


def make_reproducible(package: Path) -> bytes | None:
    """Rewrite a package that coremltools saved: the manifest's identifiers, the protobuf's order, no day.

    Those three differ from one conversion of a net to the next; without them equal nets are equal bytes, so a
    repository stores them once. Returns what the debug file held, which is taken out of the package, or None.
    """
    opened = open_package(package)
    spec = parse_model(opened.file(opened.model).read_bytes(), where=str(package))
    spec.description.metadata.userDefined.pop(_DATE, None)
    write_synced(opened.file(opened.model), canonical_bytes(spec))
    if opened.manifest is not None:
        write_synced(package / MANIFEST, steady_manifest(opened.manifest))
    debug = package / DEBUG_FILE
    if not debug.is_file():
        return None
    data = debug.read_bytes()
    debug.unlink()
    return data


def write_synced(path: Path, data: bytes) -> None:
    """Write a file and wait until the disk has it."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
