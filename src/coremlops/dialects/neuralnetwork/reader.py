"""Protobuf to graph, once, with limits: everything in a file is hostile until it stands here."""

from __future__ import annotations

from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np

from coremlops.dialects.neuralnetwork.graph import Fields, Layer, MeanImage, Network, Scaler, Weights
from coremlops.errors import ModelFormatError
from coremlops.model.proto import message_class

MAX_LAYERS = 1_000_000  # of a network and those inside it
MAX_DEPTH = 16  # of networks in networks
MAX_VALUES = 1 << 16  # of one field that is no weight: axes, shapes, masks, names
MAX_NUMBER = 1 << 40  # of an integer: a size, an axis, an offset; seeds alone are larger

_NETWORKS = ("NeuralNetwork", "NeuralNetworkClassifier", "NeuralNetworkRegressor")


@cache
def layer_kinds() -> MappingProxyType[str, tuple[str, ...]]:
    """Every kind of layer of the format, with the names of its fields."""
    oneof = message_class("NeuralNetworkLayer").DESCRIPTOR.oneofs_by_name["layer"]
    return MappingProxyType(
        {field.name: tuple(entry.name for entry in field.message_type.fields) for field in oneof.fields}
    )


def read_network(message: Any, *, where: str) -> Network:
    """The graph of a `NeuralNetwork` message, or of a classifier's or regressor's.

    `where` names the model in errors. Raises ModelFormatError.
    """
    return _Reader(where).network(message, 1)


def _repeated(entry: Any) -> bool:
    # Protobuf 7 has no `label` any more; before 6, there is no `is_repeated`.
    repeated: bool = (
        entry.is_repeated if hasattr(entry, "is_repeated") else entry.label == entry.LABEL_REPEATED
    )
    return repeated


class _Reader:
    """Carries the name of the model and the number of layers seen so far."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.layers = 0

    def fail(self, message: str) -> ModelFormatError:
        return ModelFormatError(f"{self.where}: {message}")

    def network(self, message: Any, depth: int) -> Network:
        if depth > MAX_DEPTH:
            raise self.fail(f"networks are nested deeper than {MAX_DEPTH}")
        self.layers += len(message.layers)
        if self.layers > MAX_LAYERS:
            raise self.fail(f"more than {MAX_LAYERS} layers")
        return Network(
            layers=tuple(self.layer(entry, depth) for entry in message.layers),
            preprocessing=tuple(self.preprocessing(entry) for entry in message.preprocessing),
            exact_arrays=self.word(message, "arrayInputShapeMapping") == "EXACT_ARRAY_MAPPING",
            rank4_images=self.word(message, "imageInputShapeMapping") == "RANK4_IMAGE_MAPPING",
        )

    def preprocessing(self, message: Any) -> Scaler | MeanImage:
        match message.WhichOneof("preprocessor"):
            case "scaler":
                scaler = message.scaler
                bias = (scaler.redBias, scaler.greenBias, scaler.blueBias, scaler.grayBias)
                return Scaler(message.featureName, scaler.channelScale, bias)
            case "meanImage":
                return MeanImage(message.featureName, np.array(message.meanImage.meanImage, np.float32))
        raise self.fail(f"the preprocessing of {message.featureName!r} says nothing")

    def layer(self, message: Any, depth: int) -> Layer:
        kind = message.WhichOneof("layer")
        if kind is None:
            raise self.fail(f"layer {message.name!r} is of no kind that the format has")
        if max(len(message.input), len(message.output)) > MAX_VALUES:
            raise self.fail(f"layer {message.name!r} has more than {MAX_VALUES} inputs or outputs")
        where = f"{self.where}: {kind} ({message.name})"
        if "" in message.input or "" in message.output:
            raise ModelFormatError(f"{where} has an input or output without a name")
        fields = self.fields(getattr(message, kind), where, depth)
        return Layer(kind, message.name, tuple(message.input), tuple(message.output), fields)

    def fields(self, message: Any, where: str, depth: int) -> Fields:
        descriptor = message.DESCRIPTOR
        return MappingProxyType(
            {entry.name: self.field(message, entry, where, depth) for entry in descriptor.fields}
        )

    def field(self, message: Any, entry: Any, where: str, depth: int) -> Any:
        inner = entry.message_type
        if inner is not None and inner.GetOptions().map_entry:
            return self.parameters(getattr(message, entry.name), where)
        if _repeated(entry):
            values = getattr(message, entry.name)
            if len(values) > MAX_VALUES:
                raise ModelFormatError(f"{where}: {len(values)} values of {entry.name}; at most {MAX_VALUES}")
            return tuple(self.value(value, entry, where, depth) for value in values)
        if inner is not None and not message.HasField(entry.name):
            return None
        return self.value(getattr(message, entry.name), entry, where, depth)

    def value(self, value: Any, entry: Any, where: str, depth: int) -> Any:
        if entry.message_type is not None:
            if entry.message_type.name == "WeightParams":
                return Weights(value, f"{where}: {entry.name}")
            if entry.message_type.name in _NETWORKS:
                return self.network(value, depth + 1)
            return self.fields(value, where, depth)
        if entry.enum_type is not None:
            words = entry.enum_type.values_by_number
            if value not in words:
                raise ModelFormatError(f"{where}: {entry.name} has the unknown value {value}")
            return words[value].name
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_NUMBER:
            # What means "to the end" is no size: it stays as large as any axis can be.
            if entry.name in ("endIds", "beginIds", "startIndex", "endIndex", "seed"):
                return max(-MAX_NUMBER, min(value, MAX_NUMBER))
            raise ModelFormatError(f"{where}: {entry.name} is {value}; at most {MAX_NUMBER}")
        return value

    def parameters(self, values: Any, where: str) -> Fields:
        """The parameters of a custom layer: by name a number, a string or a boolean."""
        if len(values) > MAX_VALUES:
            raise ModelFormatError(f"{where}: {len(values)} parameters; at most {MAX_VALUES}")
        found = {}
        for name in sorted(values):
            kind = values[name].WhichOneof("value")
            found[name] = None if kind is None else getattr(values[name], kind)
        return MappingProxyType(found)

    def word(self, message: Any, name: str) -> str:
        """The word of an enumeration."""
        entry = message.DESCRIPTOR.fields_by_name[name]
        words = entry.enum_type.values_by_number
        number = getattr(message, name)
        if number not in words:
            raise self.fail(f"{name} has the unknown value {number}")
        word: str = words[number].name
        return word
