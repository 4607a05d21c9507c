"""Constants, ranges, fills, broadcasts, shapes and random values."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from coremlops.dialects.neuralnetwork import Weights
from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import MAX_ELEMENTS, NetworkLowering
from coremlops.lower.neuralnetwork.layers.matrix import given
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.registry import Ints, Value
from coremlops.lower.shapes import float_range


@layer("copy", moves=True)
def copy(ctx: NetworkLowering, x: Value) -> Value:
    """x under another name."""
    return ctx.node("Identity", x)


@layer("loadConstant", moves=True)
def load_constant(ctx: NetworkLowering, *, shape: Ints, data: Weights | None) -> Value:
    """A constant [1, 1, C, H, W]."""
    return ctx.weight(given(data, "data").array(*shape).reshape(*(1,) * (5 - len(shape)), *shape))


@layer("loadConstantND", moves=True)
def load_constant_nd(ctx: NetworkLowering, *, shape: Ints, data: Weights | None) -> Value:
    """A constant."""
    return ctx.weight(given(data, "data").array(*shape))


@layer("rangeStatic")
def range_static(
    ctx: NetworkLowering,
    *inputs: Value,
    endValue: float,
    startValue: float,
    stepSizeValue: float,
) -> Value:
    """start, start + step, ... before end, as NumPy's arange."""
    return _range(ctx, inputs, endValue, startValue, stepSizeValue)


@layer("rangeDynamic")
def range_dynamic(ctx: NetworkLowering, *inputs: Value, startValue: float, stepSizeValue: float) -> Value:
    """As `rangeStatic`; end, start and step may be inputs, in this order."""
    return _range(ctx, inputs, 0.0, startValue, stepSizeValue)


def _range(ctx: NetworkLowering, inputs: tuple[Value, ...], end: float, start: float, step: float) -> Value:
    if len(inputs) > 3:
        raise ModelFormatError(f"{len(inputs)} inputs; expected at most 3")
    if not inputs or all(value.constant is not None for value in inputs):
        known = [float(value.constant.item()) for value in inputs if value.constant is not None]
        end, start, step = (*known, *(end, start, step)[len(known) :])
        if (
            not all(map(math.isfinite, (end, start, step)))
            or step == 0
            or abs((end - start) / step) > MAX_ELEMENTS
        ):
            raise ModelFormatError(f"a range from {start} to {end} by {step}")
        return ctx.constant(np.arange(start, end, step).astype(np.float32))
    limits = [ctx.reshape(value, []) for value in inputs]
    limits += [ctx.constant(number) for number in (end, start, step)[len(inputs) :]]
    return float_range(ctx, limits[1], limits[0], limits[2])


@layer("getShape", moves=True)
def get_shape(ctx: NetworkLowering, x: Value) -> Value:
    """The shape of x as a vector; no mode rounds it."""
    return ctx.numbers(ctx.shape_vector(x))


@layer("fillLike")
def fill_like(ctx: NetworkLowering, x: Value, *, value: float) -> Value:
    """One value in the shape of x."""
    return ctx.node("Expand", ctx.constant(value), ctx.shape_vector(x))


@layer("fillStatic")
def fill_static(ctx: NetworkLowering, *, value: float, targetShape: Ints) -> Value:
    """One value in a shape."""
    return ctx.node("Expand", ctx.constant(value), ctx.ints(targetShape))


@layer("fillDynamic")
def fill_dynamic(ctx: NetworkLowering, shape: Value, *, value: float) -> Value:
    """One value in the shape that a vector says."""
    return ctx.node("Expand", ctx.constant(value), ctx.integers(shape))


@layer("broadcastToLike", moves=True)
def broadcast_to_like(ctx: NetworkLowering, x: Value, like: Value) -> Value:
    """x broadcast to the shape of another value."""
    return ctx.node("Expand", x, ctx.shape_vector(like))


@layer("broadcastToStatic", moves=True)
def broadcast_to_static(ctx: NetworkLowering, x: Value, *, targetShape: Ints) -> Value:
    """x broadcast to a shape."""
    return ctx.node("Expand", x, ctx.ints(targetShape))


@layer("broadcastToDynamic", moves=True)
def broadcast_to_dynamic(ctx: NetworkLowering, x: Value, shape: Value) -> Value:
    """x broadcast to the shape that a vector says."""
    return ctx.node("Expand", x, ctx.integers(shape))


@layer("oneHot")
def one_hot(
    ctx: NetworkLowering,
    indices: Value,
    size: Value | None = None,
    *,
    oneHotVectorSize: int,
    axis: int,
    onValue: float,
    offValue: float,
) -> Value:
    """A new axis of `oneHotVectorSize` elements, on at the index and off elsewhere.

    An index out of range is off everywhere, and so is a negative one: the format's text has an example.
    """
    depth = ctx.ints([oneHotVectorSize]) if size is None else ctx.reshape(ctx.integers(size), [1])
    values = ctx.constant(np.array([offValue, onValue], np.float32))
    places = ctx.integers(indices)
    # ONNX counts negative ones from the end.
    places = ctx.node("Where", ctx.node("Less", places, ctx.ints([0])), depth, places)
    return ctx.node("OneHot", places, depth, values, axis=axis)


# --- random values: their distribution is the format's, their sequence is not Apple's


def _seed(seed: int) -> float | None:
    """ONNX's seed; None, that is a new one each time, for a negative one."""
    return float(seed) if seed >= 0 else None


def _normal(ctx: NetworkLowering, like: Value, seed: int, mean: float, deviation: float) -> Value:
    # ONNX Runtime ends the whole process for a deviation of 0, or bounds in the wrong order: it draws from
    # the standard distribution, and the rest is arithmetic.
    draw = ctx.node("RandomNormalLike", like, dtype=TensorProto.FLOAT, seed=_seed(seed))
    return ctx.node("Add", ctx.node("Mul", draw, ctx.constant(deviation)), ctx.constant(mean))


def _uniform(ctx: NetworkLowering, like: Value, seed: int, low: float, high: float) -> Value:
    draw = ctx.node("RandomUniformLike", like, dtype=TensorProto.FLOAT, seed=_seed(seed))
    return ctx.node("Add", ctx.node("Mul", draw, ctx.constant(high - low)), ctx.constant(low))


def _bernoulli(ctx: NetworkLowering, like: Value, seed: int, probability: float) -> Value:
    draw = _uniform(ctx, like, seed, 0.0, 1.0)
    return ctx.numbers(ctx.node("Less", draw, ctx.constant(probability)))


def _filled(ctx: NetworkLowering, shape: Value) -> Value:
    return ctx.node("Expand", ctx.constant(0.0), shape)


@layer("randomNormalLike")
def random_normal_like(ctx: NetworkLowering, x: Value, *, seed: int, mean: float, stdDev: float) -> Value:
    """Normal values in the shape of x."""
    return _normal(ctx, x, seed, mean, stdDev)


@layer("randomNormalStatic")
def random_normal_static(
    ctx: NetworkLowering, *, seed: int, mean: float, stdDev: float, outputShape: Ints
) -> Value:
    """Normal values in a shape."""
    return _normal(ctx, _filled(ctx, ctx.ints(outputShape)), seed, mean, stdDev)


@layer("randomNormalDynamic")
def random_normal_dynamic(
    ctx: NetworkLowering, shape: Value, *, seed: int, mean: float, stdDev: float
) -> Value:
    """Normal values in the shape that a vector says."""
    return _normal(ctx, _filled(ctx, ctx.integers(shape)), seed, mean, stdDev)


@layer("randomUniformLike")
def random_uniform_like(ctx: NetworkLowering, x: Value, *, seed: int, minVal: float, maxVal: float) -> Value:
    """Uniform values in the shape of x."""
    return _uniform(ctx, x, seed, minVal, maxVal)


@layer("randomUniformStatic")
def random_uniform_static(
    ctx: NetworkLowering, *, seed: int, minVal: float, maxVal: float, outputShape: Ints
) -> Value:
    """Uniform values in a shape."""
    return _uniform(ctx, _filled(ctx, ctx.ints(outputShape)), seed, minVal, maxVal)


@layer("randomUniformDynamic")
def random_uniform_dynamic(
    ctx: NetworkLowering, shape: Value, *, seed: int, minVal: float, maxVal: float
) -> Value:
    """Uniform values in the shape that a vector says."""
    return _uniform(ctx, _filled(ctx, ctx.integers(shape)), seed, minVal, maxVal)


@layer("randomBernoulliLike")
def random_bernoulli_like(ctx: NetworkLowering, x: Value, *, seed: int, prob: float) -> Value:
    """1.0 with a probability, else 0.0, in the shape of x."""
    return _bernoulli(ctx, x, seed, prob)


@layer("randomBernoulliStatic")
def random_bernoulli_static(ctx: NetworkLowering, *, seed: int, prob: float, outputShape: Ints) -> Value:
    """1.0 with a probability, else 0.0, in a shape."""
    return _bernoulli(ctx, _filled(ctx, ctx.ints(outputShape)), seed, prob)


@layer("randomBernoulliDynamic")
def random_bernoulli_dynamic(ctx: NetworkLowering, shape: Value, *, seed: int, prob: float) -> Value:
    """1.0 with a probability, else 0.0, in the shape that a vector says."""
    return _bernoulli(ctx, _filled(ctx, ctx.integers(shape)), seed, prob)


@layer("categoricalDistribution")
def categorical_distribution(
    ctx: NetworkLowering,
    x: Value,
    *,
    seed: int,
    numSamples: int,
    isLogits: bool,
    eps: float,
    temperature: float,
) -> Value:
    """Indices drawn by the probabilities along the last axis. x: [..., classes] -> [..., numSamples].

    `isLogits`: x holds their logarithms, up to a constant. `eps` 0 means 1e-10, `temperature` 0 means 1.
    """
    classes = ctx.sizes(x, x.rank - 1)
    rows = ctx.reshape(x, [-1, *classes])
    if not isLogits:
        rows = ctx.node("Log", ctx.node("Add", rows, ctx.constant(eps or 1e-10)))
    if temperature not in (0, 1):
        rows = ctx.node("Div", rows, ctx.constant(temperature))
    drawn = ctx.node("Multinomial", rows, dtype=TensorProto.INT32, sample_size=numSamples, seed=_seed(seed))
    return ctx.reshape(ctx.numbers(drawn), [*ctx.sizes(x, 0, x.rank - 1), numSamples])
