"""Labelled pictures on disk: `<folder>/<label>/<picture>`."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coremlops.digest import members_digest, sha256_file
from coremlops.errors import DataError, InputError

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"])
MAX_PICTURES = 100_000


@dataclass(frozen=True, slots=True)
class Labelled:
    """A labelled folder. `names`: POSIX paths below `folder`, sorted; `names[i]` shows `labels[i]`."""

    folder: Path
    names: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def digest(self) -> str:
        """SHA-256 over the sorted (name, SHA-256 of the content) list."""
        return members_digest({name: sha256_file(self.folder / name) for name in self.names})


def read_labelled(folder: Path) -> Labelled:
    """List the pictures of a labelled folder; hidden files and files that are no pictures are passed over.

    Raises DataError for a folder that is missing, has no labelled subfolder or no picture, or leads outside,
    and for names that do not print.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: a folder <label>/<picture> expected, got no folder")
    root = folder.resolve()
    names: list[str] = []
    labels: list[str] = []
    subfolders = sorted(entry for entry in folder.iterdir() if entry.is_dir() and entry.name[0] != ".")
    for subfolder in subfolders:
        for path in sorted(subfolder.iterdir()):
            if path.suffix.lower() not in SUFFIXES or path.name.startswith(".") or not path.is_file():
                continue
            if not path.resolve().is_relative_to(root):
                raise DataError(f"{path} is a link that leads out of {folder}")
            name = f"{subfolder.name}/{path.name}"
            # Control characters, and bytes that are no UTF-8, which no report or digest can hold. Odd spaces
            # stay: a Mac puts them into the names of its screenshots.
            if any(unicodedata.category(char) in ("Cc", "Cs") for char in name):
                raise DataError(
                    f"{folder}: a name that prints expected, got {name!r}", hint="rename the file"
                )
            names.append(name)
            labels.append(subfolder.name)
            if len(names) > MAX_PICTURES:
                raise DataError(f"{folder}: at most {MAX_PICTURES} pictures expected, got more")
    if not names:
        got = f"{len(subfolders)} subfolders without a picture" if subfolders else "no subfolder"
        if any(entry.suffix.lower() in SUFFIXES for entry in folder.iterdir()):
            got = "pictures without a label"
        raise DataError(
            f"{folder}: pictures in one subfolder a label expected, got {got}",
            hint=f"put each picture at {folder}{os.sep}<label>{os.sep}<picture>",
        )
    return Labelled(folder, tuple(names), tuple(labels))


def open_picture(path: Path) -> Image.Image:
    """Read and decode one picture of a data folder. Raises DataError that names the file."""
    from coremlops.runtime import read_image

    try:
        return read_image(path)
    except InputError as error:
        raise DataError(error.message, hint="remove or replace the file") from error
