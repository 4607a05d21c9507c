"""Compiled models, as far as there are any off the Mac: a folder `NAME.mlmodelc` that holds the source.

Apple's compiler writes a private format. Callers treat the folder as opaque: they ask for it, copy it, load
it, delete it. That works here, too. A folder that Apple's compiler wrote is refused by name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from coremlops.errors import ModelFormatError
from coremlops.model.package import DATA, open_package

SUFFIX = ".mlmodelc"
_SOURCES = ("model.mlpackage", "model.mlmodel")


def compile_into(folder: Path, source: Path) -> Path:
    """Make `folder/NAME.mlmodelc` from a model; hard links where they are possible, else copies.

    Raises ModelFormatError.
    """
    package = open_package(source)
    target = folder / f"{source.stem}{SUFFIX}"
    model = target / f"model.{package.kind}"
    for member in package.members:
        # An .mlmodel's only member has the user's name.
        place = model / member if package.kind == "mlpackage" else model
        place.parent.mkdir(parents=True, exist_ok=True)
        _link_or_copy(package.file(member), place)
    for item in (package.manifest or {"itemInfoEntries": {}})["itemInfoEntries"].values():
        if not (
            model / DATA / item["path"]
        ).exists():  # the weights of a model that has none: an empty folder
            (model / DATA / item["path"]).mkdir()
    return target


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def source_of(compiled: Path) -> Path:
    """The model inside a compiled one that was made here. Raises ModelFormatError."""
    for name in _SOURCES:
        if (compiled / name).exists():
            return compiled / name
    if not compiled.is_dir():
        raise ModelFormatError(f"no compiled model at {compiled}")
    raise ModelFormatError(
        f"{compiled} was compiled by Apple's compiler, whose format only Apple's framework reads",
        hint="use the .mlpackage or .mlmodel that it was compiled from",
    )


def write_model(folder: Path, spec: bytes, blobs: Mapping[str, bytes]) -> Path:
    """A model that a caller holds in memory, as files below `folder`.

    `blobs`: by their path below the protobuf's folder, such as `weights/weight.bin`. Raises ModelFormatError.
    """
    if not blobs:
        file = folder / "model.mlmodel"
        file.write_bytes(spec)
        return file
    package = folder / "model.mlpackage"
    data = package / "Data" / "com.apple.CoreML"
    items = ["model.mlmodel", *dict.fromkeys(PurePosixPath(name).parts[0] for name in blobs if name)]
    for name, content in {"model.mlmodel": spec, **blobs}.items():
        path = PurePosixPath(name)
        if not name or path.is_absolute() or ".." in path.parts or "\0" in name:
            raise ModelFormatError(f"the blob {name!r} does not lie below the model")
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).write_bytes(content)
    entries = {
        str(number): {"author": "com.apple.CoreML", "description": "", "name": item, "path": path}
        for number, (item, path) in enumerate((item, f"com.apple.CoreML/{item}") for item in items)
    }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": "0"}
    (package / "Manifest.json").write_text(json.dumps(manifest))
    return package
