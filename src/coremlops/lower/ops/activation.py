"""Activations. Source: coremltools, `ops/defs/iOS15/activation.py`, `iOS17/activation.py`."""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Value, lowers


@lowers("relu", moves=True)
def relu(ctx: Lowering, x: Value) -> Value:
    """max(x, 0). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Relu", x)


@lowers("relu6", moves=True)
def relu6(ctx: Lowering, x: Value) -> Value:
    """min(max(x, 0), 6). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Clip", x, ctx.constant(0, np.float32), ctx.constant(6, np.float32))


@lowers("leaky_relu")
def leaky_relu(ctx: Lowering, x: Value, alpha: float) -> Value:
    """x where x >= 0, else alpha * x. x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("LeakyRelu", x, alpha=alpha)


@lowers("sigmoid")
def sigmoid(ctx: Lowering, x: Value) -> Value:
    """1 / (1 + exp(-x)). x: [*], fp16|fp32 -> same shape and dtype.

    ONNX Runtime approximates it to about 1e-7 absolute, so that far below zero few digits are right.
    """
    return ctx.node("Sigmoid", x)


@lowers("silu")
def silu(ctx: Lowering, x: Value) -> Value:
    """x * sigmoid(x). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Mul", x, ctx.node("Sigmoid", x))


@lowers("softmax")
def softmax(ctx: Lowering, x: Value, axis: int = -1) -> Value:
    """exp(x) over its sum along one axis. x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Softmax", x, axis=axis)
