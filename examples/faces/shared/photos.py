"""A folder of labelled photos: `<folder>/<person>/<photo>`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from coremlops.digest import sha256_file
from coremlops.errors import DataError

# How every picture is prepared: here, in the proof and in the app (train writes it into model.json).
WIDTH = HEIGHT = 224
IMAGE_OPTION = "scaleFit"

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # no other decoder of Pillow sees a file
APPLE_FORMATS = (".heic", ".heif")


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo of one person. `digest`: the SHA-256 of the file's bytes."""

    person: str
    path: Path
    digest: str

    @property
    def name(self) -> str:
        """`<person>/<file name>`."""
        return f"{self.person}/{self.path.name}"


def find_photos(folder: Path) -> tuple[list[Photo], list[str]]:
    """All photos, sorted by name, and a note on each entry that is none.

    Links are not followed. Raises `DataError` for a folder that is not there and for a HEIC picture, which
    Pillow alone does not read.
    """
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder", hint="it holds one folder a person")
    photos, notes = [], []
    for entry in _entries(folder):
        if not entry.is_dir() or entry.is_symlink():
            notes.append(f"ignored {entry.name}: not a person's folder")
            continue
        for path in _entries(entry):
            name = f"{entry.name}/{path.name}"
            suffix = path.suffix.lower()
            if suffix in APPLE_FORMATS:
                raise DataError(
                    f"{name} is a HEIC picture; expected one of {', '.join(SUFFIXES)}",
                    hint="export it as JPEG (on an iPhone: Settings > Camera > Formats > Most Compatible)",
                )
            if path.is_file() and not path.is_symlink() and suffix in SUFFIXES:
                photos.append(Photo(entry.name, path, sha256_file(path)))
            else:
                notes.append(f"ignored {name}: not a photo")
    return photos, notes


def _entries(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if not path.name.isprintable():
            raise DataError(f"a name in {folder} has control characters: {path.name!r}")
        yield path


def open_photo(path: Path) -> Image.Image:
    """The decoded picture. Raises `DataError` that names the file if it is corrupt."""
    try:
        image = Image.open(path, formats=FORMATS)
        image.load()
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        raise DataError(
            f"{path.parent.name}/{path.name} is not a readable picture: {error}",
            hint="replace or delete it",
        ) from error
    return image
