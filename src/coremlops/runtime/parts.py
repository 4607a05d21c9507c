"""What executes one model, or one member of a pipeline: features in, features out.

A *feature* is what `predict` takes and gives: a PIL image or a uint8 array for an image, a NumPy array for a
tensor, int, float and str for scalars, dictionaries for probabilities. `load` makes the part that a model's
kind needs; a pipeline is a part that holds others.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from coremlops.dialects.mil import BlobRef, Function, read_program
from coremlops.errors import ModelError, ModelFormatError, UnsupportedOpsError, UsageError
from coremlops.lower import Lowered, lower_function
from coremlops.model import ArrayFeature, ImageFeature, ModelAsset, ModelDescription, ScalarFeature
from coremlops.model.description import FunctionDescription
from coremlops.model.labels import read_labels
from coremlops.runtime import cache, memory
from coremlops.runtime.engines import Engine, open_session
from coremlops.runtime.inner import Watched
from coremlops.runtime.inputs import feature_tensor
from coremlops.runtime.outputs import check_shape, classified, feature_value
from coremlops.runtime.shape_sets import FIRST_WITH_SETS, check_sets, have_sets
from coremlops.runtime.state import state_tensors

if TYPE_CHECKING:
    from coremlops.runtime.initializers import Locate

MAX_WATCHED = 4  # sets of inner values whose sessions are kept


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

    `links`: how many links led here. `member`: of a pipeline, whose lowering no cache keeps.
    """

    precision: str = "typed"
    engine: str = "auto"
    threads: int | None = None
    links: int = 0
    member: bool = False
    compute_units: str = "ALL"
    time_limit_s: float | None = None

    def open_session(self, lowered: Lowered | cache.Cached, locate: Locate | None = None) -> Engine:
        """Load a lowered model into the engine; see `engines.open_session`."""
        return open_session(
            lowered,
            engine=self.engine,
            threads=self.threads,
            time_limit_s=self.time_limit_s,
            locate=locate,
        )


def make_part(asset: ModelAsset, options: PartOptions, function_name: str | None = None) -> Part:
    """The part that runs a model of this kind.

    A pipeline's member is an asset with the same package and a spec of its own: `replace(asset, spec=...)`.
    Raises UnsupportedOpsError for a kind that cannot run here, ModelFormatError, WeightsError, and UsageError
    for an unknown function.
    """
    if options.engine == "coreml":
        from coremlops.runtime.framework.part import open_part

        features = interface_of(asset.description, function_name or default_function(asset)).inputs
        return open_part(
            asset.path,
            features,
            precision=options.precision,
            compute_units=options.compute_units,
            function_name=function_name,
            time_limit_s=options.time_limit_s,
        )
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
        unmerged=partial(lower, merge=False),
        locate=asset.locate,
        shapes_in_sets=asset.spec.specificationVersion >= FIRST_WITH_SETS,
    )
    if options.member or options.engine not in ("auto", "onnxruntime"):
        return make(lower())
    cached = cache.find(asset, precision=options.precision, function=name, lower=lower)
    if cached is not None:
        try:
            return make(cached)
        except ModelError:  # the entry went away, or the engine cannot read it after all
            cached.discard()
    part = make(lower())
    cache.fill_later(asset, precision=options.precision, function=name)
    return part


def lower_program(
    asset: ModelAsset, *, precision: str, function_name: str | None = None, merge: bool = True
) -> Lowered:
    """A function of an ML Program as ONNX; see `lower_function`. Raises what `make_part` raises for one."""

    def read_blob(reference: BlobRef) -> np.ndarray[Any, Any]:
        return asset.blobs(reference.file).read(reference.offset)

    return lower_function(
        _function(asset, function_name),
        read_blob,
        precision=precision,
        where=str(asset.path),
        merge=merge,
        most_bytes=memory.constant_bytes(asset.package.bytes),
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


def describe_function(asset: ModelAsset, function: str) -> ModelDescription:
    """The description of a model, with the interface and the labels of that function."""
    description = asset.description
    chosen = interface_of(description, function)
    if not isinstance(chosen, FunctionDescription):
        return description
    return replace(
        description,
        inputs=chosen.inputs,
        outputs=chosen.outputs,
        states=chosen.states,
        predicted_label=chosen.predicted_label,
        predicted_probabilities=chosen.predicted_probabilities,
        labels=read_labels(asset.spec, function, where=str(asset.path)),
    )


class TensorPart:
    """A model that ONNX holds: tensors through the engine, pictures and labels on the host."""

    def __init__(
        self,
        lowered: Lowered | cache.Cached,
        interface: ModelDescription | FunctionDescription,
        options: PartOptions,
        where: str,
        *,
        unmerged: Callable[[], Lowered] | None = None,
        locate: Locate | None = None,
        session: Engine | None = None,
        shapes_in_sets: bool = False,
    ) -> None:
        """Check that the description and the program fit, and load the engine.

        `where` names the model in errors. `unmerged`: lowers the model again with nothing merged away, for
        who wants to see every tensor. `locate`: where a weight lies in a file; see Session. `session`: what
        runs in the engine's place. `shapes_in_sets`: enumerated shapes of several inputs belong together; see
        `shape_sets`. Raises ModelFormatError, UnsupportedOpsError, ModelError.
        """
        self.lowered = lowered
        self._inputs, self._outputs = interface.inputs, interface.outputs
        self._where = where
        self._options = options
        self._open = partial(options.open_session, locate=locate)
        self._unmerged = unmerged
        self._lock = threading.Lock()
        self._cache: OrderedDict[tuple[str, ...], Watched] = OrderedDict()
        self._check_interface()
        self._check_results((interface.predicted_label, interface.predicted_probabilities))
        types = {entry.name: entry.type for entry in lowered.inputs}
        self._taken = [(feature, types[feature.name]) for feature in self._inputs]
        declared = {feature.name: feature for feature in self._outputs}
        self._given = [
            (entry, lowered.renamed.get(entry.name, entry.name), declared.get(entry.name))
            for entry in lowered.outputs
        ]
        self._in_sets = shapes_in_sets and have_sets(self._inputs)
        self._session: Engine = session or self._open(lowered)

    def run(
        self,
        features: Mapping[str, Any],
        *,
        state: MutableMapping[str, np.ndarray[Any, Any]] | None = None,
        intermediates: Iterable[str] = (),
    ) -> dict[str, Any]:
        """See `Part.run`."""
        names = tuple(dict.fromkeys(intermediates))
        watched = self._watched(names) if names else None
        lowered = self.lowered
        tensors = {feature.name: feature_tensor(feature, features, type_) for feature, type_ in self._taken}
        if self._in_sets:
            check_sets(self._inputs, tensors)
        if lowered.states:
            tensors |= state_tensors(lowered.states, state, self._options.precision)
        results = (watched.session if watched else self._session).run(tensors)
        outputs = watched.values(results) if watched else {}
        if lowered.classifier is not None:
            outputs.update(classified(lowered.classifier, self._outputs, results))
        for entry, source, feature in self._given:
            value = results[source]
            check_shape(entry.name, entry.type, value, where=self._where)
            outputs[entry.name] = feature_value(feature, value)
        for held in lowered.states:
            if held.output is not None and state is not None:
                check_shape(held.name, held.type, results[held.output], where=self._where)
                state[held.name][...] = results[held.output]
        return outputs

    @property
    def inner_names(self) -> tuple[str, ...]:
        """The tensors that `intermediates` can name, in the program's order; constants are left out."""
        return tuple(name for name, inner in self.lowered.inner.items() if inner.constant is None)

    def _watched(self, names: tuple[str, ...]) -> Watched:
        """A session that gives these inner values, too; the last few are kept."""
        with self._lock:
            if names in self._cache:
                self._cache.move_to_end(names)
                return self._cache[names]
            lowered = self.lowered.whole if isinstance(self.lowered, cache.Cached) else self.lowered
            if self._unmerged is not None and not lowered.inner.keys() >= set(names):
                lowered = self._unmerged()
            watched = self._cache[names] = Watched(lowered, names, self._open, where=self._where)
            while len(self._cache) > MAX_WATCHED:
                self._cache.popitem(last=False)
            return watched

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
            runs = isinstance(feature, ArrayFeature | ImageFeature) or number
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
