"""The files of a Core ML model: an `.mlpackage` folder or one `.mlmodel` file.

A package is `Manifest.json` and a `Data/` folder. The manifest's items name paths below `Data/`; its root
item is the protobuf. Everything here is hostile until checked: no path leaves the package, nothing is a link,
sizes and counts are limited.
"""

from __future__ import annotations

import json
import os
import stat
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from coremlops.errors import ModelFormatError, WeightsError

MANIFEST = "Manifest.json"
DATA = "Data"
MAX_MANIFEST_BYTES = 4 << 20
MAX_MEMBERS = 10_000
MAX_DEPTH = 32
MAX_PATH_CHARS = 1024


@dataclass(frozen=True, slots=True)
class Package:
    """The members of a model on disk.

    `root`: the package's folder, or the folder of the `.mlmodel`. `members`: POSIX path below `root` -> size.
    `model`: the member that holds the protobuf. `manifest`: the parsed manifest; None for an `.mlmodel`.
    """

    path: Path
    root: Path
    kind: str
    members: dict[str, int]
    model: str
    manifest: dict[str, Any] | None

    @property
    def bytes(self) -> int:
        """The size of all members together."""
        return sum(self.members.values())

    def file(self, member: str) -> Path:
        """Where a member lies."""
        return self.root / member

    def weight_file(self, name: str) -> Path:
        """The file behind a name in the program, such as `@model_path/weights/weight.bin`.

        `@model_path` is the folder of the protobuf. Raises ModelFormatError for a name that leaves the
        package and WeightsError for a file that is not there.
        """
        prefix = "@model_path/"
        if not name.startswith(prefix):
            raise WeightsError(f"{self.path}: the program names the weights {name!r}; expected {prefix}...")
        relative = _relative(name.removeprefix(prefix), what=f"{self.path}: weights")
        member = str(PurePosixPath(self.model).parent / relative)
        if member not in self.members:
            raise WeightsError(
                f"{self.path}: the weights {member!r} are missing; the program refers to them",
                hint="copy the whole .mlpackage folder, or convert the model again",
            )
        return self.file(member)


def open_package(path: str | os.PathLike[str]) -> Package:
    """Look at a model's files and check their names, kinds and number; only the manifest is read.

    Raises ModelFormatError.
    """
    place = Path(path)
    try:
        mode = place.stat().st_mode
    except (OSError, ValueError) as error:
        raise ModelFormatError(f"no Core ML model at {place}: {_reason(error)}") from error
    if stat.S_ISDIR(mode):
        return _open_folder(place)
    if not stat.S_ISREG(mode):
        raise ModelFormatError(
            f"{place} is neither a folder nor a file; expected an .mlpackage or an .mlmodel"
        )
    # The name of the file is the user's; it must not change the digest.
    return Package(place, place.parent, "mlmodel", {place.name: place.stat().st_size}, place.name, None)


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _open_folder(root: Path) -> Package:
    if (root / "coremldata.bin").exists():
        raise ModelFormatError(
            f"{root} is a compiled model (.mlmodelc); expected an .mlpackage or an .mlmodel",
            hint="use the model that it was compiled from",
        )
    if not os.path.lexists(root / MANIFEST):  # before the walk: any folder may hold links, and deep ones
        raise _no_manifest(root)
    members = _walk(root)
    if MANIFEST not in members:
        raise _no_manifest(root)
    manifest = _read_manifest(root / MANIFEST)
    items = manifest["itemInfoEntries"]
    for item in items.values():
        member = f"{DATA}/{item['path']}"
        # coremltools names the weights of a model that has none: an empty folder.
        if member not in members and not (root / member).is_dir():
            raise ModelFormatError(
                f"{root}: {MANIFEST} names {item['path']!r}, and there is no {member}",
                hint="copy the whole .mlpackage folder",
            )
    model = f"{DATA}/{items[manifest['rootModelIdentifier']]['path']}"
    if model not in members:
        raise ModelFormatError(f"{root}: the root item {model} is a folder; expected the model's protobuf")
    return Package(root, root, "mlpackage", members, model, manifest)


def make_empty_folders(root: Path) -> None:
    """Make the folders that a package's manifest names and that hold nothing: where files alone travel, the
    weights of a model that has none are missing. Raises ModelFormatError, OSError.
    """
    for item in _read_manifest(root / MANIFEST)["itemInfoEntries"].values():
        folder = root / DATA / item["path"]
        if not os.path.lexists(folder):
            folder.mkdir(parents=True)


def _no_manifest(root: Path) -> ModelFormatError:
    return ModelFormatError(
        f"{root}: no {MANIFEST}; an .mlpackage holds one at its top",
        hint="is this the package's own folder, and was it copied completely?",
    )


def _walk(root: Path) -> dict[str, int]:
    """Every file below `root`, sorted by path. Raises ModelFormatError for links and special files."""
    members: dict[str, int] = {}
    folders = [(root, "", 0)]
    while folders:
        folder, prefix, depth = folders.pop()
        if depth > MAX_DEPTH:
            raise ModelFormatError(f"{root}: folders are nested deeper than {MAX_DEPTH}")
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise ModelFormatError(f"{root}: cannot list {prefix or '.'}: {error.strerror}") from error
        for entry in entries:
            name = prefix + entry.name
            _relative(name, what=f"{root}: member")
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                folders.append((folder / entry.name, name + "/", depth + 1))
            elif stat.S_ISREG(status.st_mode):
                members[name] = status.st_size
            else:
                raise ModelFormatError(
                    f"{root}: {name} is a link or a special file; a package holds plain files"
                )
            if len(members) + len(folders) > MAX_MEMBERS:
                raise ModelFormatError(f"{root}: more than {MAX_MEMBERS} members")
    return dict(sorted(members.items()))


def _relative(name: str, *, what: str) -> PurePosixPath:
    """A path that stays where it belongs. Raises ModelFormatError."""
    path = PurePosixPath(name)
    parts = name.split("/")
    if not name or path.is_absolute() or any(part in ("", ".", "..") for part in parts):
        raise ModelFormatError(f"{what} path {name!r} leaves the package or is not a plain relative path")
    # Control characters, and bytes of a file name that are no UTF-8, which no digest can hold.
    odd = any(unicodedata.category(char) in ("Cc", "Cs") for char in name)
    if len(name) > MAX_PATH_CHARS or odd or "\\" in name:
        raise ModelFormatError(f"{what} path {name[:80]!r} is too long or holds characters that do not print")
    return path


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest, with the shape that the rest of this room relies on. Raises ModelFormatError."""
    with path.open("rb") as file:
        data = file.read(MAX_MANIFEST_BYTES + 1)
    if len(data) > MAX_MANIFEST_BYTES:
        raise ModelFormatError(f"{path}: larger than {MAX_MANIFEST_BYTES} bytes")
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{path}: not JSON ({error})") from error
    items = manifest.get("itemInfoEntries") if isinstance(manifest, dict) else None
    root = manifest.get("rootModelIdentifier") if isinstance(manifest, dict) else None
    if not isinstance(items, dict) or not items or not isinstance(root, str) or root not in items:
        raise ModelFormatError(
            f"{path}: expected itemInfoEntries and a rootModelIdentifier that names one of them"
        )
    paths = []
    for identifier, item in items.items():
        if not isinstance(item, dict) or not isinstance(item.get("path"), str):
            raise ModelFormatError(f"{path}: item {identifier!r} has no path")
        paths.append(str(_relative(item["path"], what=f"{path}: item")))
    if len(set(paths)) != len(paths):
        raise ModelFormatError(f"{path}: two items name one path")
    checked: dict[str, Any] = manifest
    return checked


def normalised_manifest(manifest: dict[str, Any]) -> bytes:
    """The manifest's bytes with each item's random UUID replaced by its path, which is unique."""
    items = manifest["itemInfoEntries"]
    meaning = {
        **manifest,
        "itemInfoEntries": {item["path"]: item for item in items.values()},
        "rootModelIdentifier": items[manifest["rootModelIdentifier"]]["path"],
    }
    return json.dumps(meaning, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
