"""The rules, by family. Importing this registers all of them."""

from __future__ import annotations

from coremlops.lower.neuralnetwork.layers import (
    activation,
    convolution,
    elementwise,
    filling,
    gathering,
    matrix,
    normalization,
    pooling,
    recurrent,
    reduction,
    reshaping,
    sampling,
    selection,
    slicing,
)

__all__ = [
    "activation",
    "convolution",
    "elementwise",
    "filling",
    "gathering",
    "matrix",
    "normalization",
    "pooling",
    "recurrent",
    "reduction",
    "reshaping",
    "sampling",
    "selection",
    "slicing",
]
