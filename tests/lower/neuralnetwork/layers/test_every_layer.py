"""The tables leave out no kind of layer, no field, no word of an enumeration and no encoding of weights.

What stands in a case is read off its protobuf message, and what there is off the format's descriptors.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest

from coremlops.dialects.neuralnetwork import layer_kinds
from coremlops.model.proto import message_class
from tests.lower.neuralnetwork import layers
from tests.lower.neuralnetwork.layers.case import Case

SILENT = {"custom.description"}  # changes nothing that a network computes
# Encodings of weights; int8RawValue is for products that are quantized as they are computed.
ENCODINGS = {
    "floatValue",
    "float16Value",
    "quantization.linearQuantization",
    "quantization.lookupTableQuantization",
}
# Messages that are not looked into: they have tests of their own below, or layers of their own.
OPAQUE = ("WeightParams", "NeuralNetwork", "ActivationParams")


def cases() -> Iterator[Case]:
    for entry in pkgutil.iter_modules(layers.__path__, f"{layers.__name__}."):
        if entry.name != __name__:
            yield from getattr(importlib.import_module(entry.name), "CASES", ())


def layer_messages(network: Any, kind: str) -> Iterator[Any]:
    """The parameters of the layers of a kind, those in branches and loops among them."""
    for entry in network.layers:
        found = entry.WhichOneof("layer")
        params = getattr(entry, found)
        if found == kind:
            yield params
        for field, value in params.ListFields():
            if field.message_type is not None and field.message_type.name == "NeuralNetwork":
                yield from layer_messages(value, kind)


@cache
def messages() -> dict[str, list[Any]]:
    """By kind of layer, what its cases say."""
    found: dict[str, list[Any]] = {}
    for entry in cases():
        own = list(layer_messages(entry.message, entry.kind))
        assert own, f"{entry} holds no such layer"
        found.setdefault(entry.kind, []).extend(own)
    return found


def said(message: Any) -> Iterator[str]:
    """The fields that are set in a message and those inside it, and its words."""
    for field in message.DESCRIPTOR.fields:
        if field.enum_type is not None:
            number = getattr(message, field.name)
            yield f"{field.name}={field.enum_type.values_by_number[number].name}"
    for field, value in message.ListFields():
        yield field.name
        if not descended(field):
            continue
        for inner in [value] if hasattr(value, "ListFields") else value:
            yield from (f"{field.name}.{text}" for text in said(inner))


def sayable(descriptor: Any) -> Iterator[str]:
    """All that a message of that type can say."""
    for field in descriptor.fields:
        yield field.name
        if field.enum_type is not None:
            yield from (f"{field.name}={word.name}" for word in field.enum_type.values)
        if descended(field):
            yield from (f"{field.name}.{text}" for text in sayable(field.message_type))


def descended(field: Any) -> bool:
    """Whether a field is a message whose own fields are looked at."""
    inner = field.message_type
    return inner is not None and inner.name not in OPAQUE and not inner.GetOptions().map_entry


def weights(message: Any) -> Iterator[Any]:
    """The weights of a layer."""
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for inner in [value] if hasattr(value, "ListFields") else value:
            if field.message_type.name == "WeightParams":
                yield inner
            elif field.message_type.name != "NeuralNetwork":
                yield from weights(inner)


def test_every_kind_has_a_case() -> None:
    assert set(layer_kinds()) - set(messages()) == set()


@pytest.mark.parametrize("kind", layer_kinds())
def test_every_field_and_word_has_a_case(kind: str) -> None:
    field = message_class("NeuralNetworkLayer").DESCRIPTOR.fields_by_name[kind]
    found = {text for message in messages().get(kind, ()) for text in said(message)}
    missing = {text for text in sayable(field.message_type) if text not in found}
    assert {text for text in missing if f"{kind}.{text}" not in SILENT} == set()


@pytest.mark.parametrize(
    "kind",
    [kind for kind, found in messages().items() if kind != "custom" and any(map(list, map(weights, found)))],
)
def test_every_encoding_of_weights_has_a_case(kind: str) -> None:
    found = {text for message in messages()[kind] for stored in weights(message) for text in said(stored)}
    assert ENCODINGS - found == set()
