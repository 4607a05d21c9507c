"""Python implementations of custom layers, by the name of the class that the app would have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from coremlops.lower.neuralnetwork.custom import CustomLayerFactory

_FACTORIES: dict[str, CustomLayerFactory] = {}
_Factory = TypeVar("_Factory", bound=CustomLayerFactory)


def custom_layer(class_name: str) -> Callable[[_Factory], _Factory]:
    """Register what stands for a custom layer's class when models are loaded here; the last one wins.

    The class is made with the layer's parameters and the bytes of its weights, and answers `output_shapes`
    and `evaluate`, as Apple's `MLCustomLayer` does:

    >>> @custom_layer("Swish")
    ... class Swish:
    ...     def __init__(self, parameters, weights):
    ...         self.beta = parameters.get("beta", 1.0)
    ...     def output_shapes(self, input_shapes):
    ...         return input_shapes
    ...     def evaluate(self, inputs):
    ...         return [x / (1 + np.exp(-self.beta * x)) for x in inputs]
    """

    def register(factory: _Factory) -> _Factory:
        _FACTORIES[class_name] = factory
        return factory

    return register


def custom_layers() -> Mapping[str, CustomLayerFactory]:
    """The implementations that are registered now."""
    return MappingProxyType(_FACTORIES)
