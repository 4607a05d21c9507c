"""A Core ML model that has been opened (Apple calls it `MLModelAsset`)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.digest import members_digest, sha256_bytes, sha256_file
from coremlops.errors import ModelFormatError
from coremlops.model.package import MANIFEST, Package, normalised_manifest, open_package
from coremlops.model.proto import MAX_SPEC_BYTES, canonical_bytes, parse_model

if TYPE_CHECKING:
    import numpy as np

    from coremlops.model.description import ModelDescription
    from coremlops.model.weights import BlobFile


# Kinds that are published and given to devices, and that nothing here reads into.
CARRIED = ("mlmodelc", "aimodel")


@dataclass(frozen=True, slots=True)
class ModelAsset:
    """A model's files and its parsed protobuf.

    `spec` is the `CoreML.Specification.Model` message; the rooms above read it once into typed values.
    """

    package: Package
    spec: Any = field(repr=False)
    _blobs: dict[str, BlobFile] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> ModelAsset:
        """Open an `.mlpackage` folder or an `.mlmodel` file. Raises ModelFormatError."""
        package = open_package(path)
        file = package.file(package.model)
        size = package.members[package.model]
        if size > MAX_SPEC_BYTES:
            raise ModelFormatError(
                f"{file}: {size} bytes; a model description holds at most {MAX_SPEC_BYTES}"
            )
        try:
            data = file.read_bytes()
        except OSError as error:
            raise ModelFormatError(f"{file}: cannot be read: {error.strerror}") from error
        return cls(package, parse_model(data, where=str(file)))

    @property
    def path(self) -> Path:
        """Where the model lies."""
        return self.package.path

    @property
    def kind(self) -> str:
        """What the model is, in the format's words: `mlProgram`, `neuralNetwork`, `pipeline`, ..."""
        kind: str = self.spec.WhichOneof("Type")
        return kind

    @property
    def description(self) -> ModelDescription:
        """Inputs, outputs, labels and metadata. Raises ModelFormatError."""
        from coremlops.model.description import read_description

        return read_description(self.spec, where=str(self.path))

    @property
    def digest(self) -> str:
        """The model's digest; see `model_digest`."""
        digests = {name: sha256_file(self.package.file(name)) for name in self._plain_members()}
        if self.package.manifest is None:
            # An .mlmodel's file name is the user's, and no part of the model.
            return members_digest({"model.mlmodel": sha256_bytes(canonical_bytes(self.spec))})
        digests[MANIFEST] = sha256_bytes(normalised_manifest(self.package.manifest))
        digests[self.package.model] = sha256_bytes(canonical_bytes(self.spec))
        return members_digest(digests)

    def _plain_members(self) -> list[str]:
        return [name for name in self.package.members if name not in (MANIFEST, self.package.model)]

    def blobs(self, name: str) -> BlobFile:
        """The weight file behind a name in the program, mapped once. Raises WeightsError."""
        from coremlops.model.weights import BlobFile

        if name not in self._blobs:
            self._blobs[name] = BlobFile(self.package.weight_file(name))
        return self._blobs[name]

    def locate(self, array: np.ndarray[Any, Any]) -> tuple[Path, int] | None:
        """The weight file that an array is an unchanged piece of, and its offset there; None for others."""
        for blobs in self._blobs.values():
            offset = blobs.offset_of(array)
            if offset is not None:
                return blobs.path, offset
        return None


def is_carried(path: str | os.PathLike[str]) -> bool:
    """Whether a model is of a kind that is only carried: compiled on a Mac, or Core AI's."""
    return Path(path).suffix.removeprefix(".") in CARRIED


def model_digest(path: str | os.PathLike[str]) -> str:
    """The one digest that follows a model through the house: 64 lowercase hex digits.

    SHA-256 over the sorted (member path, member SHA-256) list of *every* file of the package, named by the
    manifest or not, after two normalisations: the manifest's random UUIDs give way to the paths that they
    name, and the protobuf is serialised again with sorted maps. Of a kind that is only carried here
    (`CARRIED`) the files count as they are. Raises ModelFormatError.
    """
    if is_carried(path):
        return _carried_digest(Path(path))
    return ModelAsset.open(path).digest


def _carried_digest(folder: Path) -> str:
    """The digest of a folder that nothing here reads into."""
    files: dict[str, str] = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ModelFormatError(f"{path}: plain files and folders expected")
        if path.is_file():
            files[path.relative_to(folder).as_posix()] = sha256_file(path)
    if not files:
        raise ModelFormatError(f"{folder}: a folder with files expected")
    return members_digest(files)
