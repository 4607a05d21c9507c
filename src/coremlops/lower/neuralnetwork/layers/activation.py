"""Activations: the layer, and the functions that recurrent layers use, too."""

from __future__ import annotations

import numpy as np

from coremlops.dialects.neuralnetwork import Fields, Weights
from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.registry import Unsupported, Value


@layer("activation")
def activation(
    ctx: NetworkLowering,
    x: Value,
    *,
    linear: Fields | None,
    ReLU: Fields | None,
    leakyReLU: Fields | None,
    thresholdedReLU: Fields | None,
    PReLU: Fields | None,
    tanh: Fields | None,
    scaledTanh: Fields | None,
    sigmoid: Fields | None,
    sigmoidHard: Fields | None,
    ELU: Fields | None,
    softsign: Fields | None,
    softplus: Fields | None,
    parametricSoftplus: Fields | None,
) -> Value:
    """One function of each element; the field that is set says which. x: [*] -> same shape.

    `PReLU` and `parametricSoftplus` have a parameter for each channel (axis -3), or one for all.
    """
    given = {name: fields for name, fields in locals().items() if name not in ("ctx", "x")}
    return activate(ctx, x, given)


def activate(ctx: NetworkLowering, x: Value, params: Fields) -> Value:
    """Apply what an `ActivationParams` message says."""
    name = activation_name(params)
    fields = params[name]

    def scalar(key: str) -> Value:
        return ctx.constant(fields[key], np.float32)

    def channels(key: str, value: Value) -> Value:
        weights = fields[key]
        if not isinstance(weights, Weights):
            raise ModelFormatError(f"the activation {name} has no {key}")
        count = _count(weights, value)
        spread = (1, 1) if count > 1 else ()
        return ctx.weight(weights.array(count).reshape(count, *spread))

    def function(value: Value) -> Value:
        match name:
            case "linear":
                return ctx.node("Add", ctx.node("Mul", value, scalar("alpha")), scalar("beta"))
            case "ReLU":
                return ctx.node("Relu", value)
            case "leakyReLU":
                return ctx.node("LeakyRelu", value, alpha=fields["alpha"])
            case "thresholdedReLU":
                # ONNX's ThresholdedRelu drops what equals the threshold; Apple's keeps it.
                kept = ctx.node("GreaterOrEqual", value, scalar("alpha"))
                return ctx.node("Where", kept, value, ctx.constant(0.0))
            case "PReLU":
                return ctx.node("PRelu", value, channels("alpha", value))
            case "tanh":
                return ctx.node("Tanh", value)
            case "scaledTanh":
                inner = ctx.node("Tanh", ctx.node("Mul", value, scalar("beta")))
                return ctx.node("Mul", inner, scalar("alpha"))
            case "sigmoid":
                return ctx.node("Sigmoid", value)
            case "sigmoidHard":
                return ctx.node("HardSigmoid", value, alpha=fields["alpha"], beta=fields["beta"])
            case "ELU":
                return ctx.node("Elu", value, alpha=fields["alpha"])
            case "softsign":
                return ctx.node("Softsign", value)
            case "softplus":
                return ctx.node("Softplus", value)
        inner = ctx.node("Softplus", ctx.node("Mul", value, channels("beta", value)))
        return ctx.node("Mul", inner, channels("alpha", value))

    return ctx.elementwise(function, x)


def _count(weights: Weights, x: Value) -> int:
    """How many parameters are stored: one for each channel, or one for all.

    Packed ones end anywhere in the last byte, so that the channels say which it is.
    """
    if weights.exact:
        return weights.size
    channels = x.shape[-3]
    if channels is None:
        raise Unsupported(f"parameters stored as {weights.encoding} for channels known at run time alone")
    return channels if weights.size >= channels else 1


def activation_name(params: Fields) -> str:
    """Which activation a message names. Raises ModelFormatError when it names none."""
    for name, fields in params.items():
        if fields is not None:
            return name
    raise ModelFormatError("an activation of no kind")


@layer("clampedReLU")
def clamped_relu(ctx: NetworkLowering, x: Value, *, alpha: float, beta: float) -> Value:
    """min(x, beta) where x >= 0, else min(alpha * x, beta). x: [*] -> same shape."""
    return ctx.node("Min", ctx.node("LeakyRelu", x, alpha=alpha), ctx.constant(beta))


@layer("gelu")
def gelu(ctx: NetworkLowering, x: Value, *, mode: str) -> Value:
    """x * P(X <= x) for a normal X, exactly or by one of two approximations. x: [*] -> same shape."""
    half, one = ctx.constant(0.5), ctx.constant(1.0)
    if mode == "SIGMOID_APPROXIMATION":
        return ctx.node("Mul", x, ctx.node("Sigmoid", ctx.node("Mul", x, ctx.constant(1.702))))
    if mode == "TANH_APPROXIMATION":
        cube = ctx.node("Mul", ctx.node("Mul", x, ctx.node("Mul", x, x)), ctx.constant(0.044715))
        inner = ctx.node("Mul", ctx.node("Add", x, cube), ctx.constant(np.sqrt(2 / np.pi), np.float32))
        bend = ctx.node("Tanh", inner)
    else:
        bend = ctx.node("Erf", ctx.node("Mul", x, ctx.constant(np.sqrt(0.5), np.float32)))
    return ctx.node("Mul", ctx.node("Mul", x, half), ctx.node("Add", bend, one))
