"""Whether a picture file is all there: it is decoded to its last row."""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".pgm", ".ppm", ".pbm")
)
# What browsers, file managers and copying tools call a file until they have all of it.
_UNFINISHED = (".part", ".partial", ".crdownload", ".download", ".filepart", ".tmp")


class PictureCheck:
    """Decodes each picture once, and again only when the file changed.

    Files whose name says that a copy is under way are not ready, others that are no pictures are.
    """

    def __init__(self) -> None:
        self._whole: dict[Path, tuple[int, int, int]] = {}

    def __call__(self, path: Path) -> bool:
        """True when `path` is whole, or is no picture."""
        if _unfinished(path.name.lower()):
            return False
        if path.suffix.lower() not in SUFFIXES:
            return True
        try:
            st = path.stat()
        except OSError:
            return False
        stamp = (st.st_size, st.st_mtime_ns, st.st_ino)
        if self._whole.get(path) == stamp:
            return True
        if not _decodes(path):
            return False
        self._whole[path] = stamp
        return True


def _unfinished(name: str) -> bool:
    # rsync writes IMG.jpg as .IMG.jpg.Xy12Zq
    hidden = name.startswith(".") and any(f"{suffix}." in name for suffix in SUFFIXES)
    return hidden or name.endswith(_UNFINISHED)


def _decodes(path: Path) -> bool:
    from PIL import Image

    try:
        with Image.open(path) as image:
            image.verify()  # checksums, where the format has them
        with Image.open(path) as image:
            image.load()  # verify() leaves the rows unread
        return not _cut_jpeg(path)
    except (OSError, SyntaxError, ValueError, MemoryError, Image.DecompressionBombError):
        return False


def _cut_jpeg(path: Path) -> bool:
    """A JPEG whose last bytes are missing can decode: libjpeg invents the end that T.81, B.1 asks for."""
    if path.suffix.lower() not in (".jpg", ".jpeg"):
        return False
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 4096))
        return b"\xff\xd9" not in file.read()
