"""What an app's folder holds of ours, and whether that is what it should hold. Imports nothing heavy."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coremlops.digest import sha256_file
from coremlops.errors import CoremlopsError, InputError, UsageError
from coremlops.pipeline.components.proven import read_object, read_proven

FORMAT = 0
MADE_BY = "coremlops bundle"
# Raised when the generated Swift changes: a folder with an older number is bundled again.
GENERATOR = 1

_NAME = re.compile(r"[A-Z][A-Za-z0-9]{0,63}")


@dataclass(frozen=True, slots=True)
class Place:
    """Where the model goes: the app's source folder, and the name that file and types share."""

    app: Path
    name: str

    @property
    def package(self) -> Path:
        return self.app / f"{self.name}.mlpackage"

    @property
    def version(self) -> Path:
        return self.app / f"{self.name}.version.json"

    @property
    def swift(self) -> Path:
        return self.app / f"{self.name}Model.swift"


def place_of(app: Path, name: str) -> Place:
    """The place in `app` for a model called `name`, or as the folder is when `name` is empty.

    Raises `UsageError` for a name that can be no Swift type.
    """
    wanted = name or "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", app.name))
    if not _NAME.fullmatch(wanted):
        raise UsageError(
            f"bundle: a model's name is a capital letter, then letters and digits; got {wanted!r:.80}",
            hint="add `name: Faces` to the step's params",
        )
    return Place(app, wanted)


def recorded(place: Place) -> dict[str, Any] | None:
    """What the version file says, or None when there is none of ours."""
    if place.version.is_symlink():
        return None
    try:
        record = read_object(place.version)
    except InputError:
        return None
    return record if record.get("made_by") == MADE_BY else None


def intact(place: Place, record: Mapping[str, Any]) -> bool:
    """Whether every file that the version file lists, and no other of ours, is there as it was written."""
    files = record.get("files")
    if not isinstance(files, dict) or place.package.is_symlink():
        return False
    if set(files) != {place.swift.name, *members(place.package, prefix=f"{place.package.name}/")}:
        return False
    return all(
        isinstance(entry, dict)
        and not (place.app / name).is_symlink()
        and (place.app / name).is_file()
        and (place.app / name).stat().st_size == entry.get("bytes")
        and sha256_file(place.app / name) == entry.get("sha256")
        for name, entry in files.items()
    )


def members(package: Path, *, prefix: str = "") -> list[str]:
    """The POSIX paths of the files below `package`, sorted, each after `prefix`."""
    found = []
    for folder, _, names in os.walk(package):
        found += [prefix + (Path(folder) / name).relative_to(package).as_posix() for name in names]
    return sorted(found)


def receipt(action: str, place: Place, digest: str) -> dict[str, Any]:
    """What `receipt.json` says."""
    return {"action": action, "digest": digest, "model": str(place.package), "swift": str(place.swift)}


def present(inputs: Mapping[str, Path], params: Mapping[str, str], project: Path) -> Mapping[str, Any] | None:
    """The receipt if the app's folder holds this proven model already, else None: then the step must run."""
    try:
        place = place_of(project / params["app"], params.get("name", ""))
        digest = read_proven(inputs["model"], inputs["report"], done="bundled").digest
    except (KeyError, CoremlopsError):
        return None  # the step itself says what is wrong
    record = recorded(place)
    if record is None or record.get("digest") != digest or record.get("generator") != GENERATOR:
        return None
    try:
        return receipt("present", place, digest) if intact(place, record) else None
    except OSError:
        return None
