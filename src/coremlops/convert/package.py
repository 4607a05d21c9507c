"""Make a saved `.mlpackage` reproducible.

coremltools leaves three things that differ from one conversion of a net to the next: random identifiers in
`Manifest.json`, the order of the protobuf's maps, and the day. Without them equal nets are equal bytes, so a
repository stores them once.
"""

from __future__ import annotations

import json
from pathlib import Path

from coremlops.model.writing import placed, steady_manifest, write_synced

DEBUG_FILE = "executorch_debug_handle_mapping.json"
_SPEC = Path("Data", "com.apple.CoreML", "model.mlmodel")
_DATE = "com.github.apple.coremltools.conversion_date"


def make_reproducible(package: Path) -> bytes | None:
    """Rewrite the manifest's identifiers and the protobuf's order, drop the day.

    Returns what the debug file held, which is taken out of the package, or None without one.
    """
    from coremltools.proto import Model_pb2

    spec = Model_pb2.Model()
    spec.ParseFromString((package / _SPEC).read_bytes())
    spec.description.metadata.userDefined.pop(_DATE, None)
    write_synced(package / _SPEC, spec.SerializeToString(deterministic=True))
    manifest = json.loads((package / "Manifest.json").read_text("utf-8"))
    write_synced(package / "Manifest.json", steady_manifest(manifest))

    debug = package / DEBUG_FILE
    if not debug.is_file():
        return None
    data = debug.read_bytes()
    debug.unlink()
    return data


__all__ = ["DEBUG_FILE", "make_reproducible", "placed"]
