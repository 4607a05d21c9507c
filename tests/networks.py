"""Neural networks made by hand from protobuf messages, and executed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from coremlops.dialects.neuralnetwork import Network, read_network
from coremlops.lower.neuralnetwork import LoweredNetwork, lower_network
from coremlops.model import ArrayFeature
from coremlops.model.proto import message_class
from coremlops.runtime.session import Session

Array: TypeAlias = np.ndarray[Any, Any]


def network(exact: bool = True) -> Any:
    """An empty `NeuralNetwork` message."""
    message = message_class("NeuralNetwork")()
    message.arrayInputShapeMapping = int(exact)
    return message


def add_layer(
    message: Any, kind: str, inputs: Sequence[str], outputs: Sequence[str], /, **fields: Any
) -> Any:
    """Append a layer; a field is a number, a word, several of them, an array of weights or a mapping."""
    entry = message.layers.add(name=f"{kind} to {' '.join(outputs)}", input=inputs, output=outputs)
    params = getattr(entry, kind)
    params.SetInParent()
    fill(params, fields)
    return params


def fill(message: Any, fields: Mapping[str, Any]) -> None:
    """Set fields of a message; a mapping fills a message, an array the weights."""
    for name, value in fields.items():
        entry = message.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, np.ndarray) and entry.message_type is not None:
            getattr(message, name).floatValue.extend(value.astype(np.float32).ravel())
        elif isinstance(value, Mapping):
            getattr(message, name).SetInParent()
            fill(getattr(message, name), value)
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            for inner in value:
                fill(getattr(message, name).add(), inner)
        elif isinstance(value, list | tuple):
            getattr(message, name).extend(value)
        elif isinstance(value, str) and entry.enum_type is not None:
            setattr(message, name, entry.enum_type.values_by_name[value].number)
        else:
            setattr(message, name, value)


def read(message: Any) -> Network:
    """The graph of a message."""
    return read_network(message, where="net")


def lower(
    message: Any,
    inputs: Mapping[str, Sequence[int | None]],
    outputs: Sequence[str],
    *,
    precision: str = "typed",
    **options: Any,
) -> LoweredNetwork:
    """Lower a network whose inputs have those shapes; None is a size that may be anything."""
    features = [
        ArrayFeature(
            name,
            "float32",
            tuple(size or 1 for size in shape),
            ranges=tuple((0 if size is None else size, size) for size in shape),
        )
        for name, shape in inputs.items()
    ]
    results = [ArrayFeature(name, "float32", ()) for name in outputs]
    return lower_network(read(message), features, results, precision=precision, where="net", **options)


def run(
    message: Any,
    outputs: Sequence[str] = ("y",),
    /,
    *,
    precision: str = "typed",
    dynamic: bool = False,
    **feeds: Any,
) -> list[Array]:
    """Lower and execute; `dynamic`: the sizes of the inputs are not told beforehand."""
    given = {name: np.asarray(value, np.float32) for name, value in feeds.items()}
    shapes = {name: [None if dynamic else size for size in value.shape] for name, value in given.items()}
    lowered = lower(message, shapes, outputs, precision=precision)
    found = Session(lowered.whole).run(given)
    return [found[name] for name in outputs]


def one(kind: str, *inputs: Any, precision: str = "typed", dynamic: bool = False, **fields: Any) -> Array:
    """Execute one layer that has one output."""
    message = network()
    feeds = {f"x{index}": value for index, value in enumerate(inputs)}
    add_layer(message, kind, list(feeds), ["y"], **fields)
    return run(message, precision=precision, dynamic=dynamic, **feeds)[0]


def several(kind: str, count: int, *inputs: Any, **fields: Any) -> list[Array]:
    """Execute one layer that has several outputs."""
    message = network()
    feeds = {f"x{index}": value for index, value in enumerate(inputs)}
    names = [f"y{index}" for index in range(count)]
    add_layer(message, kind, list(feeds), names, **fields)
    return run(message, names, **feeds)


def model(kind: str = "neuralNetwork", version: int = 4) -> tuple[Any, Any]:
    """A model and the network inside it: of that kind, with exact shapes from version 4 on."""
    spec = message_class("Model")(specificationVersion=version)
    inner = getattr(spec, kind)
    inner.SetInParent()
    inner.arrayInputShapeMapping = int(version >= 4)
    return spec, inner


def write(path: Path, spec: Any) -> Path:
    """The model as an `.mlmodel`."""
    path.write_bytes(spec.SerializeToString())
    return path
