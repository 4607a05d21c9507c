"""Neural networks as frozen values: layers with their fields, weights, preprocessing.

Names are those of the format (`NeuralNetwork.proto`). A value is known by its name; `copy`, loops and
branches may assign a name again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from coremlops.errors import ModelFormatError

# Python's values of a message's fields: numbers, words of an enumeration, `Weights`, `Network`, messages as
# further mappings, None for one that is not set, and tuples of these.
Fields: TypeAlias = Mapping[str, Any]

_ENCODINGS = ("floatValue", "float16Value", "rawValue", "int8RawValue")


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """The weights of a layer. They stay inside the protobuf until `array` decodes them.

    `encoding`: `float32`, `float16`, `linear` (1 to 8 bits, scale and bias), `lookup` (1 to 8 bits, a
    table), `int8` (for products that are quantized as they are computed) or `raw` (a custom layer's bytes).
    """

    message: Any
    where: str

    @property
    def encoding(self) -> str:
        """How the weights are stored. Raises ModelFormatError when they are stored in two ways or in none."""
        given = [name for name in _ENCODINGS if len(getattr(self.message, name))]
        if len(given) > 1:
            raise ModelFormatError(f"{self.where}: weights are given as {' and '.join(given)}")
        match given[0] if given else "floatValue":
            case "floatValue":
                return "float32"
            case "float16Value":
                return "float16"
            case "int8RawValue":
                return "int8"
        kind = self.message.quantization.WhichOneof("QuantizationType")
        return {"linearQuantization": "linear", "lookupTableQuantization": "lookup"}.get(kind or "", "raw")

    @property
    def bytes(self) -> bytes:
        """The stored bytes, as a custom layer gets them: little-endian numbers or raw bytes."""
        if len(self.message.floatValue):
            return np.array(self.message.floatValue, "<f4").tobytes()
        data: bytes = self.message.float16Value or self.message.rawValue or self.message.int8RawValue
        return data

    def array(self, *shape: int, channels: int = 0) -> np.ndarray[Any, Any]:
        """The weights as float32 of that shape; quantized ones are decoded.

        `channels`: the axis that the scales of quantized weights belong to. Raises ModelFormatError when they
        do not fit.
        """
        count = 1
        for size in shape:
            count *= size
        match self.encoding:
            case "float32":
                flat = np.array(self.message.floatValue, np.float32)
            case "float16":
                if len(self.message.float16Value) % 2:
                    raise ModelFormatError(f"{self.where}: float16 weights of an odd number of bytes")
                flat = np.frombuffer(self.message.float16Value, "<f2").astype(np.float32)
            case "linear":
                return self._linear(self._indices(count).reshape(shape), channels)
            case "lookup":
                bits = self._bits()
                table = np.array(self.message.quantization.lookupTableQuantization.floatValue, np.float32)
                if table.size != 1 << bits:
                    raise ModelFormatError(f"{self.where}: a table of {table.size} values for {bits} bits")
                flat = table[self._indices(count)]
            case "int8":
                flat = np.frombuffer(self.message.int8RawValue, np.int8)
                self._check(flat.size, count)
                return self._linear(flat.reshape(shape), channels)
            case other:
                raise ModelFormatError(f"{self.where}: {other} weights where numbers are expected")
        self._check(flat.size, count)
        return flat.reshape(shape)

    @property
    def exact(self) -> bool:
        """Whether `size` is exact: packed weights leave the end of the last byte empty."""
        return self.encoding not in ("linear", "lookup") or self.message.quantization.numberOfBits == 8

    @property
    def size(self) -> int:
        """The number of weights, so far as the stored numbers alone tell it; see `exact`."""
        message, bits = self.message, max(1, int(self.message.quantization.numberOfBits))
        counts: dict[str, int] = {
            "float32": len(message.floatValue),
            "float16": len(message.float16Value) // 2,
            "int8": len(message.int8RawValue),
        }
        return counts.get(self.encoding, len(message.rawValue) * 8 // bits)

    def _bits(self) -> int:
        bits = int(self.message.quantization.numberOfBits)
        if not 1 <= bits <= 8:
            raise ModelFormatError(f"{self.where}: weights of {bits} bits; expected 1 to 8")
        return bits

    def _check(self, found: int, count: int) -> None:
        if found != count:
            raise ModelFormatError(f"{self.where}: {found} weights; expected {count}")

    def _indices(self, count: int) -> np.ndarray[Any, Any]:
        """The stored integers, uint8; packed ones begin with the highest bit of the first byte."""
        bits = self._bits()
        data = np.frombuffer(self.message.rawValue, np.uint8)
        self._check(data.size, -(-count * bits // 8))
        if bits == 8:
            return data
        unpacked = np.unpackbits(data, count=count * bits).reshape(count, bits)
        indices: np.ndarray[Any, Any] = np.packbits(unpacked, axis=1).ravel() >> (8 - bits)
        return indices

    def _linear(self, stored: np.ndarray[Any, Any], channels: int) -> np.ndarray[Any, Any]:
        parameters = self.message.quantization.linearQuantization
        result = stored.astype(np.float32)
        for name, apply in (("scale", np.multiply), ("bias", np.add)):
            values = np.array(getattr(parameters, name), np.float32)
            if values.size == 0:
                continue
            if values.size not in (1, stored.shape[channels] if stored.ndim else 1):
                raise ModelFormatError(
                    f"{self.where}: {values.size} values of the quantization's {name} for weights of the "
                    f"shape {list(stored.shape)}"
                )
            spread = [1] * stored.ndim
            if stored.ndim:
                spread[channels] = values.size
            apply(result, values.reshape(spread), out=result)
        return result


@dataclass(frozen=True, slots=True)
class Scaler:
    """An image is multiplied by `scale`, and `bias` is added: by channel in the order of the image's colours.

    `bias` is (red, green, blue, grey).
    """

    feature: str
    scale: float
    bias: tuple[float, float, float, float]


@dataclass(frozen=True, slots=True, eq=False)
class MeanImage:
    """An image from which `mean`, [channels * height * width], is subtracted."""

    feature: str
    mean: np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One layer. `kind`, and the names of `fields`, are the format's; a message that is not set is None."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    fields: Fields

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks inside a loop or a branch."""
        return tuple(value for value in self.fields.values() if isinstance(value, Network))


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """Layers in order.

    `exact_arrays`: an input array has its declared rank; else it becomes [sequence, batch, channel, height,
    width]. `rank4_images`: an image is [1, channels, height, width]; else it has a fifth axis before.
    """

    layers: tuple[Layer, ...]
    preprocessing: tuple[Scaler | MeanImage, ...] = ()
    exact_arrays: bool = False
    rank4_images: bool = False

    def walk(self) -> Iterator[Layer]:
        """Every layer, those of nested networks after the layer that holds them."""
        for layer in self.layers:
            yield layer
            for network in layer.networks:
                yield from network.walk()

    def weights(self) -> Iterator[Weights]:
        """All weights that are set, those of nested networks among them."""
        for layer in self.walk():
            yield from _weights_in(layer.fields)

    def histogram(self) -> dict[str, int]:
        """How often each kind of layer occurs, most frequent first, then by name."""
        counts = Counter(layer.kind for layer in self.walk())
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _weights_in(value: Any) -> Iterator[Weights]:
    if isinstance(value, Weights):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _weights_in(entry)
    elif isinstance(value, tuple):
        for entry in value:
            yield from _weights_in(entry)
