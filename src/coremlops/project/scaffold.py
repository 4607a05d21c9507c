"""`coremlops init`: a new project, made from the example `faces`.

    >>> from coremlops.project import scaffold
    >>> scaffold.create(Path("friends"), photos=Path("~/Pictures/friends").expanduser())  # doctest: +SKIP

The folder appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from coremlops.errors import CoremlopsError, UsageError, WriteError
from coremlops.project import samples

TEMPLATE_ENTRIES = (
    ".gitignore",
    "MLproject",
    "README.md",
    "coremlops.yaml",
    "evaluate",
    "prepare",
    "shared",
    "train",
)
GOLDEN_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
GOLDEN_PHOTO = 1
GOLDEN_NOTE = """\
Put a few pictures here that may be PUBLISHED TO EVERY DEVICE. A device runs a new model on them before it
activates it. Nothing is taken from photos/ by itself, for those are people's.
"""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Scaffold:
    """A project that was made.

    `photos`: where its photos came from: `samples`, a folder, or empty for none. `golden`: the names of the
    files that may be published. `repository`: whether it has a signed repository yet.
    """

    folder: Path
    name: str
    collection: str
    photos: str
    golden: tuple[str, ...]
    repository: bool


def create(
    folder: Path,
    *,
    name: str | None = None,
    people: Mapping[str, str] | None = None,
    photos: Path | None = None,
    golden: Sequence[Path] = (),
    repository: bool = True,
) -> Scaffold:
    """Make the project `folder`, called `name` (the folder's name unless given).

    `photos` is a folder of one folder a person, which is copied. Without it the project gets sample photos of
    `people` (`{"ada": "s1"}`; ada and ben unless given), or an empty folder where the samples are not
    installed and no people were asked for. `golden` names pictures that may be published to every device;
    the samples name theirs.

    Raises `UsageError` for a bad name, a folder that holds something or pictures that are not there,
    `MissingExtraError` for samples that were asked for and are not installed, `RepositoryError`.
    """
    folder = folder.absolute()
    name = check_name(folder.name if name is None else name)
    collection = name.lower().replace("_", "-")
    if os.path.lexists(folder) and not _is_empty_folder(folder):
        raise UsageError(
            f"{folder} exists and is not empty", hint="choose another name; nothing is overwritten"
        )
    if photos is not None and people is not None:
        raise UsageError("expected photos or people, got both")
    with _whole(folder) as draft:
        _copy_template(draft, name, collection)
        if photos is not None:
            _copy_photos(photos, draft / "photos")
            source = str(photos)
        elif people is not None or samples.installed():
            _write_samples(draft, people or samples.PEOPLE, with_golden=not golden)
            source = "samples"
        else:
            (draft / "photos").mkdir()
            source = ""
        _copy_golden(golden, draft / "golden")
        if repository:
            from coremlops.release import Repository

            Repository.init(draft / "repository", collection=collection)
    published = tuple(sorted(p.name for p in (folder / "golden").iterdir() if p.suffix in GOLDEN_SUFFIXES))
    return Scaffold(folder, name, collection, source, published, repository)


def check_name(name: str) -> str:
    """`name`, when it can be a project. Raises `UsageError`."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"a project's name is 1 to 40 letters, digits, - and _, a letter first; got {name!r:.80}"
        )
    return name


def template_folder() -> Path:
    """The example project: inside the package when installed from a wheel, else in the checkout."""
    here = Path(__file__).resolve().parent
    for folder in (here / "examples" / "faces", here.parents[2] / "examples" / "faces"):
        if (folder / "coremlops.yaml").is_file():
            return folder
    raise CoremlopsError(
        "the example project is missing from this installation", hint="install coremlops again"
    )


def swift_name(name: str) -> str:
    """`my-faces` -> `MyFaces`: the app's source folder, and what the Swift types are called."""
    return "".join(part[:1].upper() + part[1:] for part in re.split("[-_]", name))


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """A draft beside `folder` that takes its place when the block ends, and is gone when it fails."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise WriteError(f"{folder.parent} cannot be written: {error.strerror}") from error
    try:
        yield draft
        draft.chmod(0o777 & ~_umask())
        draft.rename(folder)  # replaces an empty folder, and fails on any other
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror or error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _is_empty_folder(folder: Path) -> bool:
    return folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir())


def _copy_template(draft: Path, name: str, collection: str) -> None:
    template = template_folder()
    for entry in TEMPLATE_ENTRIES:
        source = template / entry
        if source.is_dir():
            shutil.copytree(source, draft / entry, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copyfile(source, draft / entry)
    _rename(draft / "MLproject", {"name: faces": f"name: {_scalar(name)}"})
    _rename(draft / "README.md", {"# faces:": f"# {name}:"})
    _rename(
        draft / "coremlops.yaml",
        {
            "project: faces": f"project: {_scalar(name)}",
            "experiment: faces": f"experiment: {_scalar(name)}",
            "name: faces": f"name: {_scalar(name)}",
            "collection: faces": f"collection: {_scalar(collection)}",
            "app: app/Faces": f"app: app/{swift_name(name)}",
        },
    )


def _rename(path: Path, names: Mapping[str, str]) -> None:
    text = path.read_text(encoding="utf-8")
    for old, new in names.items():
        if text.count(old) != 1:
            raise CoremlopsError(
                f"{path.name} of the example should say {old!r} once, it does {text.count(old)} times"
            )
        text = text.replace(old, new)
    path.write_text(text, encoding="utf-8")


def _scalar(name: str) -> str:
    """`name` in YAML: quoted where YAML would read something else, such as `on` or `null`."""
    import yaml

    return name if yaml.safe_load(name) == name else json.dumps(name)


def _copy_photos(source: Path, target: Path) -> None:
    if not source.is_dir():
        raise UsageError(
            f"{source} is not a folder", hint="--photos takes a folder that holds one folder a person"
        )
    people = sorted(path for path in source.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not people:
        raise UsageError(
            f"{source} has no folders; expected one a person", hint=f"{source}/ada/*.jpg, {source}/ben/*.jpg"
        )
    if len(people) == 1:
        raise UsageError(
            f"{source} has the photos of {people[0].name} alone; expected two people or more",
            hint="a recogniser tells people apart: add a folder of someone else's photos",
        )
    target.mkdir()
    for person in people:
        shutil.copytree(person, target / person.name, ignore=shutil.ignore_patterns(".*"))


def _write_samples(draft: Path, people: Mapping[str, str], *, with_golden: bool) -> None:
    samples.write_people(draft / "photos", people)
    if with_golden:
        for person, subject in people.items():
            samples.write_photo(draft / "golden" / f"{person}.png", subject, GOLDEN_PHOTO)


def _copy_golden(pictures: Sequence[Path], target: Path) -> None:
    target.mkdir(exist_ok=True)
    for picture in pictures:
        if not picture.exists():
            raise UsageError(f"--golden: there is no file {picture}")
        if picture.suffix.lower() not in GOLDEN_SUFFIXES or not picture.is_file():
            raise UsageError(f"{picture} is not a picture; expected a file {', '.join(GOLDEN_SUFFIXES)}")
        if (target / picture.name).exists():
            raise UsageError(f"two golden pictures are called {picture.name}", hint="rename one")
        shutil.copyfile(picture, target / picture.name)
    if not any(target.iterdir()):
        (target / "README.txt").write_text(GOLDEN_NOTE, encoding="utf-8")
