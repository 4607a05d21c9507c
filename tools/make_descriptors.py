"""Writes `src/coremlops/model/coreml.desc` from the `*_pb2` modules that coremltools publishes.

The file is a `FileDescriptorSet`: Model.proto and everything that it imports, dependencies first.
coremltools' licence is written beside it. Run `python tools/make_descriptors.py` again after coremltools
moves; `--check` only compares.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

ROOM = Path(__file__).resolve().parent.parent / "src" / "coremlops" / "model"


def descriptors() -> bytes:
    """The serialised `FileDescriptorSet` of Model.proto, dependencies first."""
    from google.protobuf import descriptor_pb2

    if "coremltools" not in sys.modules:
        # `import coremltools` takes seconds; its proto modules need only a parent with a path.
        spec = importlib.util.find_spec("coremltools")
        if spec is None or spec.submodule_search_locations is None:
            raise SystemExit("coremltools is not installed: pip install 'coremlops[convert]'")
        parent = types.ModuleType("coremltools")
        parent.__path__ = list(spec.submodule_search_locations)
        sys.modules["coremltools"] = parent
    model = importlib.import_module("coremltools.proto.Model_pb2")
    files = descriptor_pb2.FileDescriptorSet()
    seen: set[str] = set()

    def add(file: Any) -> None:
        if file.name in seen:
            return
        seen.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        file.CopyToProto(files.file.add())

    add(model.DESCRIPTOR)
    data: bytes = files.SerializeToString(deterministic=True)
    return data


def licence() -> bytes:
    """coremltools' licence text, from its distribution."""
    for file in importlib.metadata.files("coremltools") or ():
        if file.name == "LICENSE.txt" and "dist-info" in str(file):
            return file.read_binary()
    raise SystemExit("coremltools' distribution has no LICENSE.txt")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="compare with what is committed; write nothing")
    args = parser.parse_args()
    stale = []
    for name, data in (("coreml.desc", descriptors()), ("LICENSE.coremltools", licence())):
        path = ROOM / name
        if path.is_file() and path.read_bytes() == data:
            continue
        stale.append(name)
        if not args.check:
            path.write_bytes(data)
    for name in stale:
        print(f"{'stale' if args.check else 'written'}: {ROOM / name}")
    return 1 if args.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
