"""Normalizations. Source: coremltools, `ops/defs/iOS15/normalization.py`, `iOS17/normalization.py`."""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Value, lowers


@lowers("batch_norm")
def batch_norm(
    ctx: Lowering,
    x: Value,
    mean: Value,
    variance: Value,
    gamma: Value | None = None,
    beta: Value | None = None,
    epsilon: float = 1e-5,
) -> Value:
    """gamma * (x - mean) / sqrt(variance + epsilon) + beta, for each channel.

    x: [n, C, *D], fp16|fp32; the others: [C] -> same shape and dtype as x.
    """
    channels = mean.shape
    ones = gamma or ctx.constant(np.ones(channels, np.float32))
    zeros = beta or ctx.constant(np.zeros(channels, np.float32))
    return ctx.node("BatchNormalization", x, ones, zeros, mean, variance, epsilon=epsilon)
