"""The models on a device: `models/<model digest>/{model.<kind>,golden/}`, whole or not there."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from coremlops.collection import KINDS, Manifest
from coremlops.digest import sha256_file
from coremlops.errors import CoremlopsError, ModelFormatError, UpdateError
from coremlops.files import remove, replace_folder, sync_folder
from coremlops.model import model_digest
from coremlops.model.package import make_empty_folders, open_package


@dataclass(frozen=True, slots=True)
class Models:
    """The folder `<device>/models`."""

    folder: Path
    _read: dict[tuple[int, ...], str] = field(default_factory=dict, repr=False, compare=False)

    def path(self, digest: str) -> Path:
        """The folder of one model, whether it exists or not."""
        return self.folder / digest

    def model(self, digest: str) -> Path | None:
        """The model's own file or folder, if it is here."""
        found = (self.path(digest) / f"model.{kind}" for kind in KINDS)
        return next((path for path in found if path.exists()), None)

    def complete(self, digest: str) -> bool:
        """Whether a model is here with the files that its own manifest names; their content is not read."""
        model = self.model(digest)
        try:
            return model is not None and bool(open_package(model).members)
        except CoremlopsError:
            return False

    def holds(self, manifest: Manifest) -> bool:
        """Whether this version is here already, every file of it as the manifest says."""
        return _matches(self.path(manifest.model), manifest)

    def found(self, manifest: Manifest) -> dict[str, Path]:
        """Files of this version that other models here have too, by SHA-256; each was read and is right."""
        lengths = {member.length for member in manifest.members}
        wanted = {member.sha256 for member in manifest.members}
        found: dict[str, Path] = {}
        for folder in self.folder.iterdir():
            for path in () if folder.name.startswith(".") else sorted(folder.rglob("*")):
                if path.is_file() and not path.is_symlink() and path.stat().st_size in lengths:
                    sha256 = self._sha256(path)
                    if sha256 in wanted:
                        found.setdefault(sha256, path)
        return found

    def assemble(self, manifest: Manifest, parts: dict[str, Path]) -> Path:
        """Lay out a version's files (hard links) in a fresh folder beside the models, and return it."""
        incoming = self.folder / ".incoming"
        remove(incoming)
        for member in manifest.members:
            path = incoming.joinpath(*member.path.split("/"))
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(parts[member.sha256], path)
            except OSError:
                _copy(parts[member.sha256], path)
        if manifest.kind == "mlpackage":
            # A package that is not as it must be is refused where it is read, which says why.
            with contextlib.suppress(ModelFormatError, FileNotFoundError, NotADirectoryError):
                make_empty_folders(incoming / manifest.payload)
        for folder, _, _ in os.walk(incoming):
            sync_folder(Path(folder))
        return incoming

    def check_digest(self, folder: Path, manifest: Manifest) -> None:
        """Raise `UpdateError` unless the assembled model has the digest that the manifest names."""
        try:
            digest = model_digest(folder / manifest.payload)
        except CoremlopsError as error:
            raise UpdateError(f"the model cannot be read: {error.message}") from None
        if digest != manifest.model:
            raise UpdateError(f"the model's digest is {digest}, the manifest says {manifest.model}")

    def put(self, incoming: Path, digest: str, *, active: Collection[str]) -> None:
        """Move an assembled and checked version to its place.

        When that model is an active one (a new golden set for it, or another name that has the same model),
        the model itself is not touched: only its golden set is replaced, so that a crash at any point leaves
        a model that runs.
        """
        place = self.path(digest)
        if digest in active and self.intact(digest):
            replace_folder(incoming / "golden", place / "golden")
            shutil.rmtree(incoming)
        else:
            replace_folder(incoming, place)

    def _sha256(self, path: Path) -> str:
        """A file's, read once as long as nobody writes it: several versions may look for the same files."""
        about = path.stat()
        key = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        if key not in self._read:
            self._read[key] = sha256_file(path)
        return self._read[key]

    def keep_only(self, digests: set[str]) -> None:
        """Remove all other models, and what an unfinished update left."""
        for path in self.folder.iterdir():
            if path.name not in digests:
                with contextlib.suppress(OSError):
                    remove(path)

    def intact(self, digest: str) -> bool:
        """Whether a model is here with the content that its digest names; all of it is read."""
        model = self.model(digest)
        try:
            return model is not None and model_digest(model) == digest
        except CoremlopsError:
            return False


def _copy(source: Path, target: Path) -> None:
    """Copy a file that is on the disk when this returns: the state that names it is durable too."""
    with source.open("rb") as reader, target.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        writer.flush()
        os.fsync(writer.fileno())


def _matches(folder: Path, manifest: Manifest) -> bool:
    here = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if here != {member.path for member in manifest.members}:
        return False
    for member in manifest.members:
        path = folder / member.path
        if path.is_symlink() or path.stat().st_size != member.length or sha256_file(path) != member.sha256:
            return False
    return True
