"""The rules, in files with coremltools' family names. Importing this registers all of them."""

from __future__ import annotations

from coremlops.lower.ops import (
    activation,
    classify,
    conv,
    elementwise_binary,
    elementwise_unary,
    linear,
    normalization,
    pool,
    reduction,
    scatter_gather,
    select,
    tensor_operation,
    tensor_transformation,
)

__all__ = [
    "activation",
    "classify",
    "conv",
    "elementwise_binary",
    "elementwise_unary",
    "linear",
    "normalization",
    "pool",
    "reduction",
    "scatter_gather",
    "select",
    "tensor_operation",
    "tensor_transformation",
]
