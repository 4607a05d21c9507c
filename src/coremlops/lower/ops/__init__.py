"""The rules, in files with coremltools' family names. Importing this registers all of them."""

from __future__ import annotations

from coremlops.lower.ops import (
    activation,
    classify,
    constexpr_ops,
    control_flow,
    conv,
    elementwise_binary,
    elementwise_unary,
    image_resizing,
    linear,
    non_maximum_suppression,
    normalization,
    pool,
    quantization_ops,
    random,
    reduction,
    scatter_gather,
    select,
    states,
    tensor_operation,
    tensor_transformation,
)

__all__ = [
    "activation",
    "classify",
    "constexpr_ops",
    "control_flow",
    "conv",
    "elementwise_binary",
    "elementwise_unary",
    "image_resizing",
    "linear",
    "non_maximum_suppression",
    "normalization",
    "pool",
    "quantization_ops",
    "random",
    "reduction",
    "scatter_gather",
    "select",
    "states",
    "tensor_operation",
    "tensor_transformation",
]
