"""One layer with inputs and what it must give, and the ways in which each case is executed."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from coremlops.lower.neuralnetwork import HostStep
from coremlops.model.proto import message_class
from coremlops.runtime.session import Session
from tests.networks import Array, add_layer, fill, lower, network

# What an output must be: an array, or a function that raises when the output is not right.
Wanted: TypeAlias = Any

# A dozen float32 operations, relative to the largest element of the result.
TOLERANCE = 1e-5
# Inputs, weights and each layer's result rounded to 11 bits, and a few dozen terms of a sum.
HALF_TOLERANCE = 1e-2


def draws(name: str) -> np.random.Generator:
    """Random numbers of a module's own, so that its cases do not depend on what else was imported."""
    return np.random.default_rng(zlib.crc32(name.encode()))


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A network that is about one kind of layer.

    `told`: the axes of inputs whose sizes must be known beforehand; all other sizes need not be.
    """

    kind: str
    message: Any
    feeds: Mapping[str, Array]
    wanted: Mapping[str, Wanted]
    label: str = ""
    tolerance: float = TOLERANCE
    told: tuple[int, ...] = ()
    custom: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind} {self.label}".strip()

    def execute(self, *, unknown: bool = False, precision: str = "typed") -> dict[str, Array]:
        """The outputs; `unknown`: the sizes of the inputs are not told beforehand, but for some axes."""
        shapes = {
            name: [
                size if not unknown or {axis, axis - x.ndim} & {*self.told} else None
                for axis, size in enumerate(x.shape)
            ]
            for name, x in self.feeds.items()
        }
        return self._run(self.message, shapes, self.feeds, precision)

    def execute_before_version_4(self, *, short: bool) -> dict[str, Array]:
        """The outputs in the old mapping, where inputs come as [S, B, C, H, W] and are declared so, too.

        `short`: they are declared as [C, H, W], or as [C].
        """
        message = message_class("NeuralNetwork")()
        message.CopyFrom(self.message)
        message.arrayInputShapeMapping = 0
        shapes = {
            name: x.shape if not short else x.shape[2:3] if x.shape[3:] == (1, 1) else x.shape[2:]
            for name, x in self.feeds.items()
        }
        return self._run(message, shapes, self.feeds, "typed")

    @property
    def has_old_shapes(self) -> bool:
        """Whether all inputs are [S, B, C, H, W]."""
        return bool(self.feeds) and all(x.ndim == 5 for x in self.feeds.values())

    def _run(
        self,
        message: Any,
        shapes: Mapping[str, Sequence[int | None]],
        feeds: Mapping[str, Array],
        precision: str,
    ) -> dict[str, Array]:
        lowered = lower(message, shapes, list(self.wanted), precision=precision, custom=self.custom)
        values = dict(feeds)
        for stage in lowered.stages:
            if isinstance(stage, HostStep):
                results = stage.layer.evaluate([values[name] for name in stage.inputs])
                values.update(zip(stage.outputs, results, strict=True))
            else:
                inputs = {entry.name: values[entry.name] for entry in stage.model.graph.input}
                values |= Session(stage).run(inputs)
        return {name: values[name] for name in self.wanted}

    def compare(self, found: Mapping[str, Array], tolerance: float | None = None) -> None:
        """Raise AssertionError when an output is not what is wanted."""
        tolerance = self.tolerance if tolerance is None else tolerance
        for name, wanted in self.wanted.items():
            if callable(wanted):
                wanted(found[name])
                continue
            expected = np.asarray(wanted, np.float32)
            assert found[name].dtype == np.float32
            assert found[name].shape == expected.shape
            finite = np.abs(expected[np.isfinite(expected)])
            scale = max(1.0, float(finite.max(initial=0)))
            np.testing.assert_allclose(found[name], expected, rtol=0, atol=tolerance * scale)


def case(
    kind: str,
    inputs: Sequence[Any],
    wanted: Wanted,
    /,
    *,
    label: str = "",
    tolerance: float = TOLERANCE,
    told: tuple[int, ...] = (),
    **fields: Any,
) -> Case:
    """A network of one layer. `wanted`: its output, or a tuple of its outputs."""
    several = wanted if isinstance(wanted, tuple) else (wanted,)
    feeds = {f"x{index}": np.asarray(value, np.float32) for index, value in enumerate(inputs)}
    outputs = {f"y{index}": value for index, value in enumerate(several)}
    message = network()
    add_layer(message, kind, list(feeds), list(outputs), **fields)
    return Case(kind, message, feeds, outputs, label, tolerance, told)


def network_case(
    kind: str,
    build: Callable[[Any], None],
    feeds: Mapping[str, Any],
    wanted: Mapping[str, Wanted],
    /,
    label: str = "",
    *,
    custom: Mapping[str, Any] | None = None,
) -> Case:
    """A network of several layers, which `build` appends."""
    message = network()
    build(message)
    given = {name: np.asarray(value, np.float32) for name, value in feeds.items()}
    return Case(kind, message, given, wanted, label, custom=custom or {})


def check(entry: Case) -> None:
    """Execute a case in all its ways.

    In `float16` mode every result must be a number that fp16 holds: what a rule that only moves values gives
    is not rounded after.
    """
    entry.compare(entry.execute())
    if entry.feeds:
        entry.compare(entry.execute(unknown=True))
    if entry.has_old_shapes:
        entry.compare(entry.execute_before_version_4(short=True))
        entry.compare(entry.execute_before_version_4(short=False))
    rounded = entry.execute(precision="float16")
    entry.compare(rounded, HALF_TOLERANCE)
    for found in rounded.values():
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(found, found.astype(np.float16).astype(np.float32))


# --- weights in every encoding: what is written into the file, and what it means


def half(array: Array) -> tuple[Any, Array]:
    """Weights as float16."""
    stored = array.astype("<f2")
    return {"float16Value": stored.tobytes()}, stored.astype(np.float32)


def linear(array: Array, bits: int = 8, axis: int | None = None) -> tuple[Any, Array]:
    """Weights as integers of some bits with a scale and a bias: for all, or along an axis for each place."""
    others = (
        None if axis is None else tuple(other for other in range(array.ndim) if other != axis % array.ndim)
    )
    least, most = (function(array, axis=others, keepdims=True) for function in (np.min, np.max))
    scale = np.maximum((most - least) / (2**bits - 1), 1e-3).astype(np.float32)
    least = least.astype(np.float32)
    integers = np.clip(np.round((array - least) / scale), 0, 2**bits - 1)
    stored = {
        "rawValue": _packed(integers, bits),
        "quantization": {
            "numberOfBits": bits,
            "linearQuantization": {"scale": scale.ravel().tolist(), "bias": least.ravel().tolist()},
        },
    }
    return stored, (integers * scale + least).astype(np.float32)


def lookup(array: Array, bits: int = 2) -> tuple[Any, Array]:
    """Weights as places in a table."""
    table = np.quantile(array, np.linspace(0, 1, 2**bits)).astype(np.float32)
    places = np.abs(array[..., None] - table).argmin(-1)
    stored = {
        "rawValue": _packed(places, bits),
        "quantization": {
            "numberOfBits": bits,
            "lookupTableQuantization": {"floatValue": table.tolist()},
        },
    }
    return stored, table[places]


def _packed(integers: Array, bits: int) -> bytes:
    """Integers one after the other, each with its highest bit first."""
    text = "".join(f"{int(value):0{bits}b}" for value in integers.ravel())
    text += "0" * (-len(text) % 8)
    return bytes(int(text[start : start + 8], 2) for start in range(0, len(text), 8))


def plain(array: Array) -> tuple[Any, Array]:
    """Weights as float32."""
    return array, array.astype(np.float32)


# By name; the axis is that of the channels, which scale and bias belong to.
ENCODINGS: dict[str, Callable[[Array, int], tuple[Any, Array]]] = {
    "float32": lambda array, axis: plain(array),
    "float16": lambda array, axis: half(array),
    "8 bits": lambda array, axis: linear(array, 8, axis),
    "3 bits": lambda array, axis: linear(array, 3),
    "table of 4": lambda array, axis: lookup(array, 2),
    "table of 32": lambda array, axis: lookup(array, 5),
}

__all__ = ["ENCODINGS", "Case", "add_layer", "case", "check", "draws", "fill", "network_case"]
