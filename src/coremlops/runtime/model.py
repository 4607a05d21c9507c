"""A Core ML model that runs here."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import numpy as np

from coremlops.dialects.mil import BlobRef, Function, NamedType, TensorType, read_program
from coremlops.errors import InputError, ModelFormatError, UnsupportedOpsError, UsageError
from coremlops.lower import Lowered, embed_weights, lower_function
from coremlops.lower.context import PRECISIONS, Classifier
from coremlops.model import ArrayFeature, Feature, ImageFeature, ModelAsset, ModelDescription
from coremlops.model.description import FunctionDescription
from coremlops.runtime.inputs import array_tensor, check_names, image_tensor, resolve_option
from coremlops.runtime.session import ENGINES, Session

MAX_DEFAULT = 1 << 28  # elements of an optional input that is not given


class Model:
    """A loaded model; made by `load`. `predict` may be called from several threads at once."""

    def __init__(
        self, asset: ModelAsset, function: str, lowered: Lowered, precision: str, threads: int | None
    ) -> None:
        self._asset = asset
        self._lowered = lowered
        interface = _interface(asset.description, function)
        self._inputs, self._outputs = interface.inputs, interface.outputs
        self._check_interface()
        self._check_results((interface.predicted_label, interface.predicted_probabilities))
        self._session = Session(lowered, threads=threads)
        self._digest = ""
        self.description: ModelDescription = asset.description
        self.precision = precision
        self.function_name = function

    def __repr__(self) -> str:
        return f"Model({str(self._asset.path)!r}, precision={self.precision!r})"

    @property
    def digest(self) -> str:
        """The model's digest, 64 hex digits; computed when it is first asked for."""
        self._digest = self._digest or self._asset.digest
        return self._digest

    def to_onnx(self) -> Any:
        """The `onnx.ModelProto` that runs, with its weights inside.

        Float tensors are float32; a picture goes in as pixels 0 to 255, [1, channels, height, width], and a
        classifier gives its probabilities.
        """
        return embed_weights(self._lowered.model, self._lowered.weights)

    def predict(self, inputs: Mapping[str, Any], *, image_option: str | None = None) -> dict[str, Any]:
        """Run the model once.

        `inputs`: by name; an image is a PIL image or a uint8 array [height, width, 3]; anything else an
        array of the declared shape. `image_option`: how pictures of any size are prepared: `centerCrop`,
        `scaleFit`, `scaleFill`, or `metadata` for what the model says (`image_option` in
        `com.coremlops.preparation`; `scaleFit` when it says nothing). None refuses a picture of another
        size, and takes pixels as stored (no EXIF).

        Returns values by the names that the model declares: a classifier's label (str or int) and its
        probabilities ({label: float}); other tensors as arrays, fp16 ones as float32 and scalars with shape
        [1], as coremltools gives them.

        Raises InputError for values that do not fit, UsageError for an unknown option, ModelFormatError for
        results of another shape than the program declares, ModelError when the engine fails.
        """
        check_names(self._inputs, inputs)
        option = resolve_option(image_option, self.description)
        types = {entry.name: entry.type for entry in self._lowered.inputs}
        tensors = {
            feature.name: _tensor(feature, inputs, option, types[feature.name]) for feature in self._inputs
        }
        results = self._session.run(tensors)
        outputs: dict[str, Any] = {}
        classifier = self._lowered.classifier
        if classifier is not None:
            outputs.update(_classified(classifier, results[classifier.source]))
        for entry in self._lowered.outputs:
            outputs[entry.name] = np.atleast_1d(self._as_declared(entry, results[entry.name]))
        return outputs

    def _as_declared(self, entry: NamedType, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """`value`, which has the shape that the program declares as far as it declares one."""
        shape = entry.type.shape if isinstance(entry.type, TensorType) else None
        if shape is not None and (
            len(shape) != value.ndim
            or any(size not in (None, got) for size, got in zip(shape, value.shape, strict=True))
        ):
            raise ModelFormatError(
                f"{self._asset.path}: the program declares {entry.name!r} as {entry.type}; "
                f"its ops give the shape {list(value.shape)}"
            )
        return value

    def _check_interface(self) -> None:
        """The description and the program must speak of the same inputs, of kinds that can be given here."""
        types = {entry.name: entry.type for entry in self._lowered.inputs}
        unsupported = []
        for feature in (*self._inputs, *self._outputs):
            what = "input" if feature in self._inputs else "output"
            if what == "input" and feature.name not in types:
                raise ModelFormatError(
                    f"{self._asset.path}: the description has an input {feature.name!r}; the program has "
                    f"{', '.join(sorted(types)) or 'none'}"
                )
            runs = isinstance(feature, ArrayFeature) or (
                what == "input" and isinstance(feature, ImageFeature)
            )
            if not runs and not self._is_classifier_output(feature.name):
                unsupported.append(f"{what} ({feature.name}): {type(feature).__name__}")
        if len(types) != len(self._inputs):
            raise ModelFormatError(
                f"{self._asset.path}: the program has inputs that the description does not have"
            )
        if unsupported:
            raise UnsupportedOpsError(
                f"{self._asset.path}: not supported here: {'; '.join(unsupported)}", tuple(unsupported)
            )

    def _check_results(self, classified: tuple[str, str]) -> None:
        """What the description promises is what `predict` gives.

        `classified`: what the description calls a classifier's label and probabilities; may be empty.
        """
        given = {entry.name for entry in self._lowered.outputs}
        classifier = self._lowered.classifier
        if classifier is not None:
            names = (classifier.label, classifier.probabilities)
            given.update(names)
            for said, name in zip(classified, names, strict=True):
                if said not in ("", name):
                    raise ModelFormatError(
                        f"{self._asset.path}: the description calls {said!r} what the program calls {name!r}"
                    )
        missing = sorted({feature.name for feature in self._outputs} - given)
        if missing:
            raise ModelFormatError(
                f"{self._asset.path}: the description has an output {missing[0]!r}; the program has "
                f"{', '.join(sorted(given)) or 'none'}"
            )

    def _is_classifier_output(self, name: str) -> bool:
        classifier = self._lowered.classifier
        return classifier is not None and name in (classifier.label, classifier.probabilities)


def _interface(description: ModelDescription, function: str) -> ModelDescription | FunctionDescription:
    return next((entry for entry in description.functions if entry.name == function), description)


def _tensor(
    feature: Feature, inputs: Mapping[str, Any], option: str | None, type_: Any
) -> np.ndarray[Any, Any]:
    if isinstance(feature, ImageFeature):
        if feature.name not in inputs:
            raise InputError(f"input {feature.name!r} is missing: a picture has no default")
        return image_tensor(feature, inputs[feature.name], option)
    assert isinstance(feature, ArrayFeature)  # noqa: S101  checked when the model was loaded
    assert isinstance(type_, TensorType)  # noqa: S101
    if feature.name in inputs:
        return array_tensor(feature, inputs[feature.name], type_)
    if any(size < 0 for size in feature.shape) or math.prod(feature.shape) > MAX_DEFAULT:
        raise ModelFormatError(f"the optional input {feature.name!r} has the shape {list(feature.shape)}")
    return array_tensor(feature, np.full(feature.shape, feature.default or 0), type_)


def _classified(classifier: Classifier, values: np.ndarray[Any, Any]) -> dict[str, Any]:
    probabilities = values.ravel()
    if probabilities.size != len(classifier.labels):
        raise ModelFormatError(
            f"the model gives {probabilities.size} probabilities for {len(classifier.labels)} labels"
        )
    best = classifier.labels[int(np.argmax(probabilities))]
    by_label = dict(zip(classifier.labels, map(float, probabilities), strict=True))
    return {classifier.label: best, classifier.probabilities: by_label}


def load(
    path: str | os.PathLike[str],
    *,
    precision: str = "typed",
    engine: str = "auto",
    function_name: str | None = None,
    threads: int | None = None,
) -> Model:
    """Load an `.mlpackage` or `.mlmodel` to run it here.

    `precision`: `typed` (what the file declares: fp16-typed values are rounded once an op), `float32`
    (nothing is rounded: fast) or `float16` (every float is). `engine`: `auto` or `onnxruntime`.
    `function_name`: of a model that has several; None for its default. `threads`: in an op; None leaves it
    to the engine.

    Raises ModelFormatError, WeightsError, UnsupportedOpsError (with everything that is not supported, at
    once), and UsageError for an unknown precision, engine or function.
    """
    for what, value, known in (("precision", precision, PRECISIONS), ("engine", engine, ENGINES)):
        if value not in known:
            raise UsageError(f"unknown {what} {value!r}; expected one of {', '.join(known)}")
    asset = ModelAsset.open(path)
    if asset.kind != "mlProgram":
        raise UnsupportedOpsError(
            f"{asset.path} is a {asset.kind} model; expected an ML Program",
            (asset.kind,),
            hint="convert it again with a minimum deployment target of iOS15 or later",
        )
    function = _function(asset, function_name)

    def read_blob(reference: BlobRef) -> np.ndarray[Any, Any]:
        return asset.blobs(reference.file).read(reference.offset)

    lowered = lower_function(function, read_blob, precision=precision, where=str(asset.path))
    return Model(asset, function.name, lowered, precision, threads)


def _function(asset: ModelAsset, name: str | None) -> Function:
    functions = read_program(asset.spec.mlProgram, where=str(asset.path)).functions
    wanted = name or asset.spec.description.defaultFunctionName or "main"
    if wanted in functions:
        return functions[wanted]
    if name is None:
        raise ModelFormatError(
            f"{asset.path}: no function {wanted!r}; the program has {', '.join(functions)}"
        )
    near = get_close_matches(name, functions, n=1)
    raise UsageError(
        f"{asset.path}: no function {name!r}; the model has {', '.join(functions)}",
        hint=f"did you mean {near[0]!r}?" if near else "",
    )
