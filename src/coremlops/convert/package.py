"""Make a saved `.mlpackage` reproducible, and put it in place in one step.

coremltools leaves three things that differ from one conversion of a net to the next: random identifiers in
`Manifest.json`, the order of the protobuf's maps, and the day. Without them equal nets are equal bytes, so a
repository stores them once.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from coremlops.errors import UsageError

DEBUG_FILE = "executorch_debug_handle_mapping.json"
_SPEC = Path("Data", "com.apple.CoreML", "model.mlmodel")
_DATE = "com.github.apple.coremltools.conversion_date"


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


def make_reproducible(package: Path) -> bytes | None:
    """Rewrite the manifest's identifiers and the protobuf's order, drop the day.

    Returns what the debug file held, which is taken out of the package, or None without one.
    """
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    spec.ParseFromString((package / _SPEC).read_bytes())
    spec.description.metadata.userDefined.pop(_DATE, None)
    _write(package / _SPEC, spec.SerializeToString(deterministic=True))

    manifest = json.loads((package / "Manifest.json").read_text("utf-8"))
    new = {
        old: str(uuid.uuid5(uuid.NAMESPACE_URL, f"coremlops:{item['path']}"))
        for old, item in manifest["itemInfoEntries"].items()
    }
    manifest["itemInfoEntries"] = {new[old]: item for old, item in manifest["itemInfoEntries"].items()}
    manifest["rootModelIdentifier"] = new[manifest["rootModelIdentifier"]]
    _write(package / "Manifest.json", json.dumps(manifest, indent=4, sort_keys=True).encode())

    debug = package / DEBUG_FILE
    if not debug.is_file():
        return None
    data = debug.read_bytes()
    debug.unlink()
    return data


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
