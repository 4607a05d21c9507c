"""From a neural network of layers to ONNX: a strict registry, one kind of layer = one function.

To add a layer: write its function in the file of `layers/` for its family, with the layer's inputs and fields
as signature, under `@layer("kind")`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coremlops.lower.neuralnetwork.custom import CustomLayer, CustomLayerFactory, HostStep
    from coremlops.lower.neuralnetwork.network import Labelled, LoweredNetwork, lower_network
    from coremlops.lower.neuralnetwork.registry import supported_layers

_HOME = {
    "CustomLayer": "custom",
    "CustomLayerFactory": "custom",
    "HostStep": "custom",
    "Labelled": "network",
    "LoweredNetwork": "network",
    "lower_network": "network",
    "supported_layers": "registry",
}
__all__ = [
    "CustomLayer",
    "CustomLayerFactory",
    "HostStep",
    "Labelled",
    "LoweredNetwork",
    "lower_network",
    "supported_layers",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'coremlops.lower.neuralnetwork' has no attribute {name!r}")
    return getattr(importlib.import_module(f"coremlops.lower.neuralnetwork.{_HOME[name]}"), name)
