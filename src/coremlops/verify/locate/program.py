"""A Core ML program as locate handles it: its function, its inputs as tensors, and pieces of it that run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from coremlops.dialects.mil import BlobRef, Function, StateType, TensorType, read_program
from coremlops.dialects.mil.graph import NUMPY_DTYPES
from coremlops.errors import ModelFormatError, UnsupportedOpsError
from coremlops.lower import Lowered, lower_function
from coremlops.model import ModelAsset
from coremlops.runtime import memory
from coremlops.runtime.inputs import feature_tensor
from coremlops.runtime.parts import default_function, describe_function
from coremlops.runtime.session import Session
from coremlops.verify.locate.cut import without_states

if TYPE_CHECKING:
    from numpy.typing import NDArray

Values: TypeAlias = "dict[str, NDArray[Any]]"


def package_of(model: Path) -> Path:
    """A model, or the `model.mlpackage` of a folder that a step left."""
    inside = model / "model.mlpackage"
    return inside if model.suffix != ".mlpackage" and inside.is_dir() else model


class Program:
    """An ML Program on disk. `function`: with its states as inputs, see `cut.without_states`."""

    def __init__(self, path: Path, function: str | None = None) -> None:
        """`function`: None for the default one.

        Raises UnsupportedOpsError for a model of another kind, and ModelError.
        """
        self.asset = ModelAsset.open(path)
        if self.asset.kind != "mlProgram":
            raise UnsupportedOpsError(
                f"{path}: an ML Program expected, got a {self.asset.kind} model",
                (self.asset.kind,),
                hint="its layers have no declared precision, so there is no op to name",
            )
        name = function or default_function(self.asset)
        functions = read_program(self.asset.spec.mlProgram, where=str(path)).functions
        if name not in functions:
            raise ModelFormatError(f"{path}: no function {name!r}; it has {', '.join(functions)}")
        self.whole = functions[name]
        self.function = without_states(self.whole)
        self.description = describe_function(self.asset, name)

    def read_blob(self, reference: BlobRef) -> NDArray[Any]:
        return self.asset.blobs(reference.file).read(reference.offset)

    def lower(self, function: Function, precision: str) -> Lowered:
        """A function of this program as ONNX, with nothing merged away."""
        return lower_function(
            function,
            self.read_blob,
            precision=precision,
            where=str(self.asset.path),
            merge=False,
            most_bytes=memory.constant_bytes(self.asset.package.bytes),
        )

    def open(self, function: Function, precision: str) -> Session:
        """A session of a function of this program."""
        return Session(self.lower(function, precision), locate=self.asset.locate)

    def feeds(self, inputs: Mapping[str, Any]) -> Values:
        """What `predict` takes as tensors by name; states begin as zeros. Raises InputError."""
        features = {feature.name: feature for feature in self.description.inputs}
        found: Values = {}
        for entry in self.whole.inputs:
            if isinstance(entry.type, StateType):
                found[entry.name] = _zeros(entry.type.wrapped)
            elif entry.name not in features:
                raise ModelFormatError(f"{self.asset.path}: the description lacks the input {entry.name!r}")
            else:
                found[entry.name] = feature_tensor(features[entry.name], inputs, entry.type)
        return found


def _zeros(type_: object) -> NDArray[Any]:
    if not isinstance(type_, TensorType) or type_.shape is None:
        raise ModelFormatError(f"a state of the type {type_}")
    dtype = np.dtype(np.float32) if type_.dtype == "fp16" else NUMPY_DTYPES[type_.dtype]
    return np.zeros([axis or 1 for axis in type_.shape], dtype)
