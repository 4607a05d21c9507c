"""Random numbers, judged by their distribution: no two engines draw the same ones.

Source: coremltools, `ops/defs/iOS15/random.py`. A seed makes the sequence of predictions of a loaded model
reproducible: it begins anew each time the model is loaded. -1 is no seed.
"""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value, lowers
from coremlops.lower.shapes import bounded, longs, sizes, vector

_FLOAT = 1  # TensorProto.FLOAT


@lowers("random_uniform")
def random_uniform(ctx: Lowering, shape: Value, low: float = 0.0, high: float = 1.0, seed: int = -1) -> Value:
    """Uniform from `low` on and below `high`. shape: [K], int32, known now or at run time -> fp16|fp32."""
    drawn = ctx.node("Mul", _uniform(ctx, shape, seed), ctx.constant(high - low, np.float32))
    moved = ctx.node("Add", drawn, ctx.constant(low, np.float32))
    if not low < high:
        return moved
    # Rounding would reach `high` now and then.
    kind = np.float16 if ctx.rounds(ctx.output_type) else np.float32
    return ctx.node("Min", moved, ctx.constant(np.nextafter(kind(high), kind(-np.inf)), np.float32))


@lowers("random_normal")
def random_normal(
    ctx: Lowering, shape: Value, mean: float = 0.0, stddev: float = 1.0, seed: int = -1
) -> Value:
    """Normal. shape: [K], int32, known now or at run time -> fp16|fp32."""
    # ONNX Runtime ends the process at a deviation of 0, so that the standard one is drawn, always.
    drawn = ctx.node("RandomNormalLike", _template(ctx, shape), dtype=_FLOAT, seed=_seed(seed))
    spread = ctx.node("Mul", drawn, ctx.constant(stddev, np.float32))
    return ctx.node("Add", spread, ctx.constant(mean, np.float32))


@lowers("random_bernoulli")
def random_bernoulli(ctx: Lowering, shape: Value, prob: float = 0.5, seed: int = -1) -> Value:
    """1 with the probability `prob`, else 0. shape: [K], int32, known now or at run time -> fp16|fp32."""
    drawn = _uniform(ctx, shape, seed)
    hit = ctx.node("Less", drawn, ctx.constant(prob, np.float32))
    return ctx.node("Cast", hit, to=_FLOAT)


@lowers("random_categorical")
def random_categorical(ctx: Lowering, x: Value, mode: str = "logits", size: int = 1, seed: int = -1) -> Value:
    """`size` classes drawn with replacement from each of the distributions that the last axis holds.

    x: [*, C], fp16|fp32, logarithms of probabilities, which need not add up, or with `mode` `probs` the
    probabilities themselves -> [*, size], dtype of x.
    """
    if mode not in ("logits", "probs") or size < 1 or x.rank < 1:
        raise Unsupported(f"mode {mode!r} with {size} draws of rank {x.rank}")
    bounded([size], "draws")
    logits = x if mode == "logits" else ctx.node("Log", x)
    classes = ctx.node("Shape", x, start=x.rank - 1, end=x.rank)
    table = ctx.node("Reshape", logits, ctx.node("Concat", ctx.ints([-1]), classes, axis=0))
    drawn = ctx.node("Multinomial", table, sample_size=size, dtype=6, seed=_seed(seed))  # TensorProto.INT32
    # Of a distribution without any probability, or of NaN, ONNX Runtime draws a class past the last.
    last = ctx.node("Cast", ctx.node("Sub", classes, ctx.ints([1])), to=6)
    drawn = ctx.node("Min", drawn, last)
    shape = [*sizes(ctx, x)[:-1], size]
    return ctx.node("Cast", ctx.node("Reshape", drawn, vector(ctx, shape)), to=_FLOAT)


def _uniform(ctx: Lowering, shape: Value, seed: int) -> Value:
    """From 0 on and below 1. A range that makes no sense would end the process, so there is one alone."""
    return ctx.node("RandomUniformLike", _template(ctx, shape), dtype=_FLOAT, seed=_seed(seed))


def _template(ctx: Lowering, shape: Value) -> Value:
    """A tensor of that shape; its values do not matter."""
    if shape.constant is not None:
        bounded(shape.ints("shape"), "random numbers")
    return ctx.node("ConstantOfShape", longs(ctx, shape))


def _seed(seed: int) -> float | None:
    return None if seed == -1 else float(seed)
