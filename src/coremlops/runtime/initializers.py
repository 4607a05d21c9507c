"""How the engine gets a model's big constants, so that none lies in memory twice.

In a file: what is an unchanged piece of the model's weight file is read there by the engine, which rearranges
it and needs the original no more. As an array: what was decoded or rearranged; it stays where it is.

A weight of fp16 is given as it is stored, with a Cast that the engine folds away when it loads. Widened here,
all of them would stay in memory beside the engine's own, and be written and read once more; the engine
widens one, arranges it and drops it. Each fp16 has one float32, so not a bit of a result depends on who does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from coremlops.lower import Lowered
from coremlops.lower.onnx_graph import widened, widened_bytes
from coremlops.lower.onnx_ml import ModelProto, TensorProto, make_node
from coremlops.lower.tidy import tidied
from coremlops.runtime import memory

# Where an array lies in a file: (file, offset in bytes); None when it does not.
Locate: TypeAlias = Callable[[np.ndarray[Any, Any]], tuple[Path, int] | None]
MAX_FOLDED_BYTES = 1 << 30  # a node with a larger result is not folded


@dataclass(frozen=True, slots=True)
class Given:
    """A model for the engine: some of its initializers lie in files of `folder`, `arrays` are the others.

    `folded_bytes`: the largest result that the engine may put in the place of a node of constants.
    """

    model: Any
    folder: Path | None
    arrays: dict[str, np.ndarray[Any, Any]]
    folded_bytes: int


def nowhere(_: np.ndarray[Any, Any]) -> None:
    """A Locate for arrays that lie in no file."""


def give_weights(lowered: Lowered, locate: Locate = nowhere) -> Given:
    """The model of `lowered`, its initializers with references into a weight file where `locate` finds them.

    The engine takes files of one folder, so weights in another stay arrays.
    """
    tidy = tidied(lowered.model)
    used = {tensor.name for tensor in tidy.graph.initializer}
    most = folded_bytes(tidy.graph)
    given = {
        name: widened(array) if widened_bytes(array) > most else array
        for name, array in lowered.weights.items()
        if name in used
    }
    if not given:
        return Given(tidy, None, {}, most)
    places = {name: place for name, array in given.items() if (place := locate(array))}
    folder = next(iter(places.values()))[0].parent if places else None
    places = {name: place for name, place in places.items() if place[0].parent == folder}
    halves = [name for name, array in given.items() if array.dtype == np.float16]
    model = ModelProto()
    model.graph.node.extend(
        make_node("Cast", [_stored(name)], [name], name=name, to=TensorProto.FLOAT) for name in halves
    )
    model.MergeFrom(tidy)  # what repeats is appended: the casts come before what uses them
    for tensor in model.graph.initializer:
        name = tensor.name
        if name not in given:
            continue
        if given[name].dtype == np.float16:
            tensor.name, tensor.data_type = _stored(name), TensorProto.FLOAT16
        place = places.get(name)
        file, offset = (place[0].name, place[1]) if place else ("weights", 0)
        tensor.ClearField("external_data")
        for key, value in (("location", file), ("offset", offset), ("length", given[name].nbytes)):
            tensor.external_data.add(key=key, value=str(value))
    halved = set(halves)
    arrays = {
        _stored(name) if name in halved else name: array
        for name, array in given.items()
        if name not in places
    }
    return Given(model, folder, arrays, most)


def folded_bytes(graph: Any) -> int:
    """How large a folded result may be, so that all of them stay below the limit of memory.

    No allocator bounds them. The casts that widen weights are not counted: they come to the size of those.
    """
    limit = memory.limit_bytes()
    return min(MAX_FOLDED_BYTES, limit // max(1, _foldable(graph, set()))) if limit else MAX_FOLDED_BYTES


def _foldable(graph: Any, known: set[str]) -> int:
    """How many nodes, of constants and of shapes, the engine may replace by results while it loads."""
    known.update(tensor.name for tensor in graph.initializer)
    count = 0
    for node in graph.node:
        if node.op_type == "Shape" or all(not name or name in known for name in node.input):
            known.update(node.output)
            count += 1
        for attribute in node.attribute:
            if attribute.HasField("g"):
                count += _foldable(attribute.g, known)
    return count


def _stored(name: str) -> str:
    return f"stored as fp16: {name}"
