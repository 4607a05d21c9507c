"""Custom layers: code of the app's on a device, and a Python class here.

A network is cut at each custom layer: what stands before is one ONNX graph, the host computes the layer, and
what follows is the next graph.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np

# A shape, with None for a size that is known at run time alone.
Shape: TypeAlias = tuple[int | None, ...]


class CustomLayer(Protocol):
    """What a Python implementation has, in the words of Apple's `MLCustomLayer`.

    It is made once for each layer of the model, with the layer's parameters and the bytes of its weights, and
    may be called from several threads at once.
    """

    def output_shapes(self, input_shapes: Sequence[Shape]) -> Sequence[Shape]:
        """The shapes of the outputs, from those of the inputs; a size may be None, here and there."""
        ...

    def evaluate(self, inputs: Sequence[np.ndarray[Any, Any]]) -> Sequence[np.ndarray[Any, Any]]:
        """The outputs, from the inputs; float32 arrays."""
        ...


# Makes a layer from its parameters and the bytes of its weights.
CustomLayerFactory: TypeAlias = Callable[[Mapping[str, Any], Sequence[bytes]], CustomLayer]


@dataclass(frozen=True, slots=True, eq=False)
class HostStep:
    """A custom layer between two graphs: from the values `inputs` to the values `outputs`."""

    class_name: str
    layer: CustomLayer
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
