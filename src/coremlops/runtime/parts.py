"""What executes one model, or one member of a pipeline: features in, features out.

A *feature* is what `predict` takes and gives: a PIL image or a uint8 array for an image, a NumPy array for a
tensor, int, float and str for scalars, dictionaries for probabilities. `load` makes the part that a model's
kind needs; a pipeline is a part that holds others.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from coremlops.dialects.mil import BlobRef, Function, NamedType, TensorType, read_program
from coremlops.errors import InputError, ModelError, ModelFormatError, UnsupportedOpsError, UsageError
from coremlops.lower import Lowered, lower_function
from coremlops.lower.context import Classifier
from coremlops.model import (
    ArrayFeature,
    Feature,
    ImageFeature,
    ModelAsset,
    ModelDescription,
    ScalarFeature,
)
from coremlops.model.description import FunctionDescription
from coremlops.runtime import cache
from coremlops.runtime.engines import Engine, open_session
from coremlops.runtime.inputs import array_tensor, image_tensor, scalar_tensor

if TYPE_CHECKING:
    from coremlops.runtime.session import Locate

MAX_DEFAULT = 1 << 28  # elements of an optional input that is not given


class Part(Protocol):
    """What executes one model (or one member of a pipeline)."""

    def run(
        self,
        features: Mapping[str, Any],
        *,
        state: MutableMapping[str, np.ndarray[Any, Any]] | None = None,
        intermediates: Iterable[str] = (),
    ) -> dict[str, Any]:
        """The model's outputs by name, from its inputs by name; features that it does not know are ignored.

        Pictures have the declared size. `state`: arrays by name, updated in place. `intermediates`: names
        of inner values that are wanted, too. Raises InputError, ModelFormatError and ModelError.
        """
        ...


@dataclass(frozen=True, slots=True)
class PartOptions:
    """How parts run; the same for all members of a model. See `load`.

    `links`: how many links led here.
    """

    precision: str = "typed"
    engine: str = "auto"
    threads: int | None = None
    links: int = 0
    compute_units: str = "ALL"


def make_part(asset: ModelAsset, options: PartOptions, function_name: str | None = None) -> Part:
    """The part that runs a model of this kind.

    A pipeline's member is an asset with the same package and a spec of its own: `replace(asset, spec=...)`.
    Raises UnsupportedOpsError for a kind that cannot run here, ModelFormatError, WeightsError, and UsageError
    for an unknown function.
    """
    if options.engine == "coreml":
        from coremlops.runtime.framework.part import open_part

        features = interface_of(asset.description, function_name or default_function(asset)).inputs
        return open_part(asset.path, features, options.precision, options.compute_units, function_name)
    match asset.kind:
        case "mlProgram":
            return _program_part(asset, options, function_name)
    if function_name not in (None, "main"):
        raise UsageError(f"{asset.path}: no function {function_name!r}; a {asset.kind} model has none")
    match asset.kind:
        case "pipeline" | "pipelineClassifier" | "pipelineRegressor":
            from coremlops.runtime.pipeline import PipelinePart

            return PipelinePart(asset, options)
        case "neuralNetwork" | "neuralNetworkClassifier" | "neuralNetworkRegressor":
            from coremlops.runtime.network import network_part

            return network_part(asset, options)
        case "linkedModel":
            from coremlops.runtime.pipeline import linked_part

            return linked_part(asset, options)
    from coremlops.runtime.classic import classic_part

    return classic_part(asset, options)


def _program_part(asset: ModelAsset, options: PartOptions, function_name: str | None) -> TensorPart:
    name = function_name or default_function(asset)
    lower = partial(lower_program, asset, precision=options.precision, function_name=function_name)
    make = partial(
        TensorPart,
        interface=interface_of(asset.description, name),
        options=options,
        where=str(asset.path),
        locate=asset.locate,
    )
    if options.engine not in ("auto", "onnxruntime"):
        return make(lower())
    cached = cache.find(asset, precision=options.precision, function=name, lower=lower)
    if cached is not None:
        with contextlib.suppress(ModelError):  # the entry went away, or the engine cannot read it after all
            return make(cached)
    part = make(lower())
    if cached is None:
        cache.fill_later(asset, precision=options.precision, function=name)
    return part


def lower_program(asset: ModelAsset, *, precision: str, function_name: str | None = None) -> Lowered:
    """A function of an ML Program as ONNX. Raises what `make_part` raises for one."""

    def read_blob(reference: BlobRef) -> np.ndarray[Any, Any]:
        return asset.blobs(reference.file).read(reference.offset)

    return lower_function(
        _function(asset, function_name), read_blob, precision=precision, where=str(asset.path)
    )


def _function(asset: ModelAsset, name: str | None) -> Function:
    functions = read_program(asset.spec.mlProgram, where=str(asset.path)).functions
    wanted = name or default_function(asset)
    if wanted in functions:
        return functions[wanted]
    if name is None:
        raise ModelFormatError(
            f"{asset.path}: no function {wanted!r}; the program has {', '.join(functions)}"
        )
    from difflib import get_close_matches

    near = get_close_matches(name, functions, n=1)
    raise UsageError(
        f"{asset.path}: no function {name!r}; the model has {', '.join(functions)}",
        hint=f"did you mean {near[0]!r}?" if near else "",
    )


def default_function(asset: ModelAsset) -> str:
    """The name of the function that runs when none is named."""
    return asset.spec.description.defaultFunctionName or "main"


def interface_of(description: ModelDescription, function: str) -> ModelDescription | FunctionDescription:
    """Inputs, outputs and states of a function; a model of one function has those of the model."""
    return next((entry for entry in description.functions if entry.name == function), description)


class TensorPart:
    """A model that ONNX holds: tensors through the engine, pictures and labels on the host."""

    def __init__(
        self,
        lowered: Lowered | cache.Cached,
        interface: ModelDescription | FunctionDescription,
        options: PartOptions,
        where: str,
        *,
        locate: Locate | None = None,
        session: Engine | None = None,
    ) -> None:
        """Check that the description and the program fit, and load the engine.

        `where` names the model in errors. `locate`: where a weight lies in a file; see Session. `session`:
        what runs in the engine's place. Raises ModelFormatError, UnsupportedOpsError, ModelError.
        """
        self.lowered = lowered
        self._inputs, self._outputs = interface.inputs, interface.outputs
        self._where = where
        self._check_interface()
        self._check_results((interface.predicted_label, interface.predicted_probabilities))
        self._session: Engine = session or open_session(
            lowered, engine=options.engine, threads=options.threads, locate=locate
        )

    def run(
        self,
        features: Mapping[str, Any],
        *,
        state: MutableMapping[str, np.ndarray[Any, Any]] | None = None,
        intermediates: Iterable[str] = (),
    ) -> dict[str, Any]:
        """See `Part.run`."""
        types = {entry.name: entry.type for entry in self.lowered.inputs}
        tensors = {feature.name: _tensor(feature, features, types[feature.name]) for feature in self._inputs}
        results = self._session.run(tensors)
        outputs: dict[str, Any] = {}
        classifier = self.lowered.classifier
        if classifier is not None:
            outputs.update(self._classified(classifier, results))
        features_out = {feature.name: feature for feature in self._outputs}
        for entry in self.lowered.outputs:
            value = self._as_declared(entry, results[self.lowered.renamed.get(entry.name, entry.name)])
            scalar = isinstance(features_out.get(entry.name), ScalarFeature) and value.size == 1
            outputs[entry.name] = value.item() if scalar else np.atleast_1d(value)
        return outputs

    def _as_declared(self, entry: NamedType, value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """`value`, which has the shape that the program declares as far as it declares one."""
        shape = entry.type.shape if isinstance(entry.type, TensorType) else None
        if shape is not None and (
            len(shape) != value.ndim
            or any(size not in (None, got) for size, got in zip(shape, value.shape, strict=True))
        ):
            raise ModelFormatError(
                f"{self._where}: the program declares {entry.name!r} as {entry.type}; "
                f"its ops give the shape {list(value.shape)}"
            )
        return value

    def _classified(
        self, classifier: Classifier, results: Mapping[str, np.ndarray[Any, Any]]
    ) -> dict[str, Any]:
        """The label, and the probabilities when the model has any, as the description declares them."""
        values = results[classifier.source].ravel() if classifier.source else np.zeros(len(classifier.labels))
        if values.size != len(classifier.labels):
            raise ModelFormatError(
                f"the model gives {values.size} probabilities for {len(classifier.labels)} labels"
            )
        place = int(results[classifier.chosen]) if classifier.chosen else int(np.argmax(values))
        given: dict[str, Any] = {classifier.label: classifier.labels[place]}
        if classifier.probabilities:
            as_array = any(
                feature.name == classifier.probabilities and isinstance(feature, ArrayFeature)
                for feature in self._outputs
            )
            by_label = dict(zip(classifier.labels, map(float, values), strict=True))
            given[classifier.probabilities] = values if as_array else by_label
        return given

    def _check_interface(self) -> None:
        """The description and the program must speak of the same inputs, of kinds that can be given here."""
        types = {entry.name: entry.type for entry in self.lowered.inputs}
        unsupported = []
        for feature in (*self._inputs, *self._outputs):
            what = "input" if feature in self._inputs else "output"
            if what == "input" and feature.name not in types:
                raise ModelFormatError(
                    f"{self._where}: the description has an input {feature.name!r}; the program has "
                    f"{', '.join(sorted(types)) or 'none'}"
                )
            number = isinstance(feature, ScalarFeature) and feature.dtype != "string"
            runs = (
                isinstance(feature, ArrayFeature)
                or number
                or (what == "input" and isinstance(feature, ImageFeature))
            )
            if not runs and not self._is_classifier_output(feature.name):
                unsupported.append(f"{what} ({feature.name}): {type(feature).__name__}")
        if len(types) != len(self._inputs):
            raise ModelFormatError(
                f"{self._where}: the program has inputs that the description does not have"
            )
        if unsupported:
            raise UnsupportedOpsError(
                f"{self._where}: not supported here: {'; '.join(unsupported)}", tuple(unsupported)
            )

    def _check_results(self, classified: tuple[str, str]) -> None:
        """What the description promises is what `run` gives.

        `classified`: what the description calls a classifier's label and probabilities; may be empty.
        """
        given = {entry.name for entry in self.lowered.outputs}
        classifier = self.lowered.classifier
        if classifier is not None:
            names = (classifier.label, classifier.probabilities)
            given.update(names)
            for said, name in zip(classified, names, strict=True):
                if said not in ("", name):
                    raise ModelFormatError(
                        f"{self._where}: the description calls {said!r} what the program calls {name!r}"
                    )
        missing = sorted({feature.name for feature in self._outputs} - given)
        if missing:
            raise ModelFormatError(
                f"{self._where}: the description has an output {missing[0]!r}; the program has "
                f"{', '.join(sorted(given)) or 'none'}"
            )

    def _is_classifier_output(self, name: str) -> bool:
        classifier = self.lowered.classifier
        return classifier is not None and name in (classifier.label, classifier.probabilities)


def _tensor(feature: Feature, features: Mapping[str, Any], type_: Any) -> np.ndarray[Any, Any]:
    if isinstance(feature, ImageFeature):
        if feature.name not in features:
            raise InputError(f"input {feature.name!r} is missing: a picture has no default")
        return image_tensor(feature, features[feature.name])
    if isinstance(feature, ScalarFeature):
        return scalar_tensor(feature, features.get(feature.name))
    assert isinstance(feature, ArrayFeature)  # noqa: S101  checked when the model was loaded
    assert isinstance(type_, TensorType)  # noqa: S101
    if feature.name in features:
        return array_tensor(feature, features[feature.name], type_)
    if not feature.optional:
        raise InputError(f"input {feature.name!r} is missing")
    if any(size < 0 for size in feature.shape) or math.prod(feature.shape) > MAX_DEFAULT:
        raise ModelFormatError(f"the optional input {feature.name!r} has the shape {list(feature.shape)}")
    return array_tensor(feature, np.full(feature.shape, feature.default or 0), type_)
