"""Activations. Source: coremltools, `ops/defs/iOS15/activation.py`, `iOS17/activation.py`.

ONNX Runtime approximates Sigmoid and Tanh to about 2e-7 and Erf to about 6e-8, absolute (measured over
[-20, 20] in 200,000 steps): where a result is close to zero, few of its digits are right.
"""

from __future__ import annotations

import math

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value, lowers


def scalar(ctx: Lowering, value: float) -> Value:
    """A constant of rank 0, float32."""
    return ctx.constant(value, np.float32)


def per_channel(ctx: Lowering, values: Value, rank: int) -> Value:
    """[C] as [C, 1, ...], which broadcasts along axis 1 of a tensor of that rank."""
    shape = (-1, *[1] * (rank - 2))
    if values.constant is not None:
        return ctx.constant(values.constant.reshape(shape))
    return ctx.node("Reshape", values, ctx.ints(shape))


@lowers("relu", moves=True)
def relu(ctx: Lowering, x: Value) -> Value:
    """max(x, 0). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Relu", x)


@lowers("relu6", moves=True)
def relu6(ctx: Lowering, x: Value) -> Value:
    """min(max(x, 0), 6). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Clip", x, scalar(ctx, 0), scalar(ctx, 6))


@lowers("clamped_relu")
def clamped_relu(ctx: Lowering, x: Value, alpha: float, beta: float) -> Value:
    """min(x, beta) where x >= 0, else min(alpha * x, beta). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Min", ctx.node("LeakyRelu", x, alpha=alpha), scalar(ctx, beta))


@lowers("leaky_relu")
def leaky_relu(ctx: Lowering, x: Value, alpha: float) -> Value:
    """x where x >= 0, else alpha * x. x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("LeakyRelu", x, alpha=alpha)


@lowers("thresholded_relu")
def thresholded_relu(ctx: Lowering, x: Value, alpha: float) -> Value:
    """x where x >= alpha, else 0. x: [*], fp16|fp32 -> same shape and dtype.

    It picks, yet its rounding cannot be done after it: a value just below `alpha` may round to it. ONNX's
    own ThresholdedRelu leaves out x == alpha.
    """
    return ctx.node("Where", ctx.node("GreaterOrEqual", x, scalar(ctx, alpha)), x, scalar(ctx, 0))


@lowers("prelu")
def prelu(ctx: Lowering, x: Value, alpha: Value) -> Value:
    """x where x > 0, else alpha * x. x: [n, C, *D], fp16|fp32; alpha: [C] -> same shape and dtype as x."""
    return ctx.node("PRelu", x, per_channel(ctx, alpha, x.rank))


@lowers("elu")
def elu(ctx: Lowering, x: Value, alpha: float) -> Value:
    """x where x > 0, else alpha * (exp(x) - 1). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Elu", x, alpha=alpha)


@lowers("linear_activation")
def linear_activation(ctx: Lowering, x: Value, alpha: float, beta: float) -> Value:
    """alpha * x + beta. x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Add", ctx.node("Mul", x, scalar(ctx, alpha)), scalar(ctx, beta))


@lowers("sigmoid")
def sigmoid(ctx: Lowering, x: Value) -> Value:
    """1 / (1 + exp(-x)). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Sigmoid", x)


@lowers("sigmoid_hard")
def sigmoid_hard(ctx: Lowering, x: Value, alpha: float, beta: float) -> Value:
    """min(max(alpha * x + beta, 0), 1). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("HardSigmoid", x, alpha=alpha, beta=beta)


@lowers("silu")
def silu(ctx: Lowering, x: Value) -> Value:
    """x * sigmoid(x). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Mul", x, ctx.node("Sigmoid", x))


@lowers("gelu")
def gelu(ctx: Lowering, x: Value, mode: str = "EXACT") -> Value:
    """x times the normal distribution's weight below x, or an approximation of it.

    x: [*], fp16|fp32 -> same shape and dtype. `mode`: EXACT, TANH_APPROXIMATION or SIGMOID_APPROXIMATION.
    """
    match mode:
        case "EXACT":
            weight = ctx.node("Erf", ctx.node("Div", x, scalar(ctx, math.sqrt(2))))
        case "TANH_APPROXIMATION":
            cube = ctx.node("Mul", ctx.node("Mul", ctx.node("Mul", x, x), x), scalar(ctx, 0.044715))
            scaled = ctx.node("Mul", ctx.node("Add", x, cube), scalar(ctx, math.sqrt(2 / math.pi)))
            weight = ctx.node("Tanh", scaled)
        case "SIGMOID_APPROXIMATION":
            return ctx.node("Mul", x, ctx.node("Sigmoid", ctx.node("Mul", x, scalar(ctx, 1.702))))
        case _:
            raise Unsupported(f"mode {mode!r}")
    # In this order ONNX Runtime knows it for a Gelu, and fuses it.
    return ctx.node("Mul", ctx.node("Mul", x, ctx.node("Add", weight, scalar(ctx, 1))), scalar(ctx, 0.5))


@lowers("scaled_tanh")
def scaled_tanh(ctx: Lowering, x: Value, alpha: float, beta: float) -> Value:
    """alpha * tanh(beta * x). x: [*], fp16|fp32 -> same shape and dtype."""
    inner = ctx.node("Tanh", ctx.node("Mul", x, scalar(ctx, beta)))
    return ctx.node("Mul", inner, scalar(ctx, alpha))


@lowers("softplus")
def softplus(ctx: Lowering, x: Value) -> Value:
    """log(1 + exp(x)), without overflow. x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Softplus", x)


@lowers("softplus_parametric")
def softplus_parametric(ctx: Lowering, x: Value, alpha: Value, beta: Value) -> Value:
    """alpha * log(1 + exp(beta * x)). x: [n, C, *D], fp16|fp32; alpha, beta: [C] -> as x."""
    inner = ctx.node("Softplus", ctx.node("Mul", x, per_channel(ctx, beta, x.rank)))
    return ctx.node("Mul", inner, per_channel(ctx, alpha, x.rank))


@lowers("softsign")
def softsign(ctx: Lowering, x: Value) -> Value:
    """x / (1 + |x|). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Softsign", x)


@lowers("softmax")
def softmax(ctx: Lowering, x: Value, axis: int = -1) -> Value:
    """exp(x) over its sum along one axis. x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Softmax", x, axis=axis)
