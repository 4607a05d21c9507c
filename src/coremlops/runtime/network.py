"""Neural networks: their shapes, their custom layers, and what they give, around a `TensorPart`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any

import numpy as np

from coremlops.dialects.neuralnetwork import read_network
from coremlops.errors import InputError, ModelError, ModelFormatError, UnsupportedOpsError
from coremlops.lower import Lowered
from coremlops.lower.neuralnetwork import HostStep, Labelled, LoweredNetwork, lower_network
from coremlops.model import ArrayFeature, Feature, ImageFeature, ModelAsset, ModelDescription, ScalarFeature
from coremlops.runtime import memory
from coremlops.runtime.custom import custom_layers
from coremlops.runtime.engines import Engine
from coremlops.runtime.parts import Part, PartOptions, TensorPart

KINDS = ("neuralNetwork", "neuralNetworkClassifier", "neuralNetworkRegressor")


def network_part(asset: ModelAsset, options: PartOptions) -> Part:
    """The part that runs a neural network, a classifier or a regressor.

    Raises UnsupportedOpsError, which names custom layers without an implementation, and ModelFormatError.
    """
    where, description = str(asset.path), asset.description
    message = getattr(asset.spec, asset.kind)
    network = read_network(message, where=where)
    classifier = None
    if asset.kind == "neuralNetworkClassifier":
        classifier = Labelled(
            message.labelProbabilityLayerName,
            description.labels,
            description.predicted_label,
            description.predicted_probabilities,
        )
    lowered = lower_network(
        network,
        description.inputs,
        description.outputs,
        classifier=classifier,
        custom=custom_layers(),
        precision=options.precision,
        where=where,
        most_bytes=memory.constant_bytes(asset.package.bytes),
    )
    part = NetworkPart(lowered, description, network.exact_arrays, options, where)
    return part if len(lowered.stages) == 1 else _StagedPart(part)


class NetworkPart(TensorPart):
    """A network whose arrays have the ranks that its description and its callers give them."""

    def __init__(
        self,
        network: LoweredNetwork,
        description: ModelDescription,
        exact: bool,
        options: PartOptions,
        where: str,
    ) -> None:
        self._description = description
        self._exact = exact
        self._of_images = any(isinstance(feature, ImageFeature) for feature in description.inputs)
        single = len(network.stages) == 1
        inner = replace(
            description,
            inputs=tuple(map(self._inner, description.inputs)),
            outputs=tuple(map(_as_array, description.outputs)),
        )
        session = None if single else _Stages(network, options)
        super().__init__(network.whole, inner, options, where, session=session)

    def run(
        self,
        features: Mapping[str, Any],
        *,
        state: MutableMapping[str, np.ndarray[Any, Any]] | None = None,
        intermediates: Iterable[str] = (),
    ) -> dict[str, Any]:
        """See `Part.run`."""
        given = dict(features)
        if not self._exact:
            for feature in self._description.inputs:
                if isinstance(feature, ArrayFeature) and feature.name in given:
                    given[feature.name] = _with_five_axes(feature, given[feature.name])
        results = super().run(given, state=state, intermediates=intermediates)
        wanted = tuple(intermediates)
        outputs = {feature.name: feature for feature in self._description.outputs}
        return {
            name: self._as_described(outputs[name], value) if name in outputs else value
            for name, value in results.items()
            if name in outputs or name in wanted
        }

    def _inner(self, feature: Feature) -> Feature:
        """An input as the graph has it: of a network that maps to rank 5, with two axes more before."""
        if self._exact or not isinstance(feature, ArrayFeature):
            return feature
        shape = _last_three(feature.shape)
        ranges: tuple[tuple[int, int | None], ...] = tuple((size, size) for size in shape)
        if feature.ranges:
            ranges = (*feature.ranges, (1, 1), (1, 1)) if len(feature.ranges) == 1 else feature.ranges[-3:]
        elif feature.shapes:
            ranges = ((1, None),) * 3
        return replace(feature, shape=(1, 1, *shape), shapes=(), ranges=((1, None), (1, None), *ranges))

    def _as_described(self, feature: Feature, value: Any) -> Any:
        """An output in the dtype and rank that the description gives it."""
        if isinstance(feature, ScalarFeature) and isinstance(value, np.ndarray):
            whole = feature.dtype == "int64"
            if value.size != 1 or (whole and not np.isfinite(value).all()):
                raise ModelFormatError(
                    f"the output {feature.name!r} is one {feature.dtype}; the model gives {value.ravel()[:8]}"
                )
            return int(value.item()) if whole else float(value.item())
        if not isinstance(feature, ArrayFeature) or not isinstance(value, np.ndarray):
            return value
        if not self._exact and value.ndim == 5 and value.shape[:2] == (1, 1):
            # Without a sequence and a batch, the axes that are declared are left.
            rank = len(feature.shape) or (1 if value.shape[3:] == (1, 1) else 3)
            if rank == 3 or (rank == 1 and value.shape[3:] == (1, 1)):
                value = value.reshape(value.shape[2 : 2 + rank])
        elif self._exact and self._of_images and feature.shape and value.size == math.prod(feature.shape):
            # coremltools' `make_image_input` gives a network of [C, H, W] four axes; its outputs stay.
            value = value.reshape(feature.shape)
        return value.astype(feature.dtype)


def _as_array(feature: Feature) -> Feature:
    """A number that a network gives is an array of one to the graph."""
    numeric = isinstance(feature, ScalarFeature) and feature.dtype != "string"
    return ArrayFeature(feature.name, "float32", ()) if numeric else feature


def _with_five_axes(feature: ArrayFeature, value: Any) -> np.ndarray[Any, Any]:
    """[C], [C, H, W], [batch, C, H, W] or all five axes as all five.

    Raises InputError, also for channels, height and width of no shape that is enumerated.
    """
    array = _five_axes(feature, value)
    allowed = dict.fromkeys(_last_three(shape) for shape in (feature.shape, *feature.shapes) if shape)
    if feature.shapes and array.shape[2:] not in allowed:
        raise InputError(
            f"input {feature.name!r}: expected channels, height and width "
            f"{' or '.join(str(list(shape)) for shape in allowed)}, got {list(array.shape[2:])}"
        )
    return array


def _last_three(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Channels, height and width of a declared shape."""
    return (*shape, 1, 1) if len(shape) == 1 else shape[-3:]


def _five_axes(feature: ArrayFeature, value: Any) -> np.ndarray[Any, Any]:
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise InputError(f"input {feature.name!r}: not an array of numbers: {error}") from error
    match array.ndim:
        case 1:
            return array.reshape(1, 1, -1, 1, 1)
        case 3 | 4:
            return array.reshape((1,) * (5 - array.ndim) + array.shape)
        case 5:
            return array
    raise InputError(
        f"input {feature.name!r}: an array of {array.ndim} axes; expected [C], [C, H, W], "
        "[batch, C, H, W] or [sequence, batch, C, H, W]"
    )


class _Stages:
    """Runs graphs and custom layers in turn, as an engine runs one graph."""

    def __init__(self, network: LoweredNetwork, options: PartOptions) -> None:
        self._stages: list[tuple[Engine, tuple[str, ...]] | HostStep] = []
        for stage in network.stages:
            if isinstance(stage, Lowered):
                names = tuple(entry.name for entry in stage.model.graph.input)
                self._stages.append((options.open_session(stage), names))
            else:
                self._stages.append(stage)

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Run once. Raises ModelError when the engine or a custom layer fails."""
        values = dict(inputs)
        for stage in self._stages:
            if isinstance(stage, HostStep):
                values.update(_evaluated(stage, [values[name] for name in stage.inputs]))
            else:
                session, names = stage
                values.update(session.run({name: values[name] for name in names}))
        return values


def _evaluated(step: HostStep, inputs: list[np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    try:
        results = [np.ascontiguousarray(value, np.float32) for value in step.layer.evaluate(inputs)]
        return dict(zip(step.outputs, results, strict=True))
    except Exception as error:  # the user's own code
        raise ModelError(f"the custom layer {step.class_name!r} failed: {error}") from error


class _StagedPart:
    """A network with custom layers: no single graph."""

    def __init__(self, part: NetworkPart) -> None:
        self._part = part

    def run(
        self,
        features: Mapping[str, Any],
        *,
        state: MutableMapping[str, np.ndarray[Any, Any]] | None = None,
        intermediates: Iterable[str] = (),
    ) -> dict[str, Any]:
        """See `Part.run`."""
        if tuple(intermediates):
            raise UnsupportedOpsError(
                "inner values of a network with custom layers cannot be read: it is several graphs",
                hint="make what you want to see an output of the model",
            )
        return self._part.run(features, state=state)
