"""Products of matrices, and lookups in them."""

from __future__ import annotations

import math

import numpy as np

from coremlops.dialects.neuralnetwork import Weights
from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.registry import Value


def given(weights: Weights | None, what: str) -> Weights:
    """Weights that a layer must have. Raises ModelFormatError."""
    if weights is None:
        raise ModelFormatError(f"no {what}")
    return weights


@layer("innerProduct")
def inner_product(
    ctx: NetworkLowering,
    x: Value,
    *,
    inputChannels: int,
    outputChannels: int,
    hasBias: bool,
    weights: Weights | None,
    bias: Weights | None,
    int8DynamicQuantize: bool,
) -> Value:
    """x W^T + b. Up to rank 3 over the last axis, else over the last three, which become [C, 1, 1].

    weights: [outputChannels, inputChannels].
    """
    rank, leads = x.rank, x.rank - (3 if x.rank > 3 else 1)
    rows = x if rank <= 3 else ctx.reshape(ctx.merged(x), [*ctx.sizes(ctx.merged(x), 0, 1), inputChannels])
    matrix = given(weights, "weights").array(outputChannels, inputChannels)
    y = _product(ctx, rows, matrix.T, given(weights, "weights"), int8DynamicQuantize)
    if hasBias:
        y = ctx.node("Add", y, ctx.weight(given(bias, "bias").array(outputChannels)))
    if rank <= 3:
        return y
    view = ctx.reshape(y, [*ctx.sizes(y, 0, 1), outputChannels, 1, 1])
    return ctx.restored(view, x) if leads != 1 else view


@layer("batchedMatmul")
def batched_matmul(
    ctx: NetworkLowering,
    x: Value,
    y: Value | None = None,
    *,
    transposeA: bool,
    transposeB: bool,
    weightMatrixFirstDimension: int,
    weightMatrixSecondDimension: int,
    hasBias: bool,
    weights: Weights | None,
    bias: Weights | None,
    int8DynamicQuantize: bool,
) -> Value:
    """The product of two values over their last two axes, the others broadcast; or of one and a matrix.

    A vector is a row on the left and a column on the right, and the result has at least two axes. weights:
    [first, second], stored transposed.
    """
    if y is None:
        stored = given(weights, "weights")
        matrix = stored.array(weightMatrixSecondDimension, weightMatrixFirstDimension).T
        result = _product(ctx, x, matrix, stored, int8DynamicQuantize)
        if not hasBias:
            return result
        return ctx.node("Add", result, ctx.weight(given(bias, "bias").array(weightMatrixSecondDimension)))
    if x.rank == 1:
        x = ctx.reshape(x, [1, *ctx.sizes(x)])
    if y.rank == 1:
        y = ctx.reshape(y, [*ctx.sizes(y), 1])
    return ctx.node("MatMul", _turned(ctx, x, transposeA), _turned(ctx, y, transposeB))


def _turned(ctx: NetworkLowering, x: Value, turn: bool) -> Value:
    axes = list(range(x.rank))
    return ctx.transpose(x, [*axes[:-2], axes[-1], axes[-2]]) if turn else x


def _product(ctx: NetworkLowering, x: Value, matrix: np.ndarray, weights: Weights, quantize: bool) -> Value:
    """x @ matrix; `quantize`: x is rounded to 8 bits first, by one scale for all of it.

    Products of 8-bit integers are computed in float32: exact for sums below 2^24, which is more than the
    rounding of the input leaves.
    """
    if not quantize:
        return ctx.node("MatMul", x, ctx.weight(np.ascontiguousarray(matrix)))
    if weights.encoding != "int8":
        raise ModelFormatError(f"weights of 8 signed bits expected, got {weights.encoding}")
    largest = ctx.node("ReduceMax", ctx.node("Abs", x), keepdims=0)
    step = ctx.node("Max", ctx.node("Div", largest, ctx.constant(127.0)), ctx.constant(1e-30))
    rounded = ctx.node("Mul", ctx.node("Round", ctx.node("Div", x, step)), step)
    return ctx.node("MatMul", rounded, ctx.weight(np.ascontiguousarray(matrix)))


@layer("embedding")
def embedding(
    ctx: NetworkLowering,
    x: Value,
    *,
    inputDim: int,
    outputChannels: int,
    hasBias: bool,
    weights: Weights | None,
    bias: Weights | None,
) -> Value:
    """Columns of a matrix by index. x: [..., 1, 1, 1] -> [..., outputChannels, 1, 1].

    weights: [outputChannels, inputDim].
    """
    view = ctx.merged(x)
    flat = ctx.reshape(view, ctx.sizes(view, 0, 1))
    rows = _lookup(ctx, flat, inputDim, outputChannels, weights, bias if hasBias else None)
    return ctx.restored(ctx.reshape(rows, [*ctx.sizes(rows, 0, 1), outputChannels, 1, 1]), x)


@layer("embeddingND")
def embedding_nd(
    ctx: NetworkLowering,
    x: Value,
    *,
    vocabSize: int,
    embeddingSize: int,
    hasBias: bool,
    weights: Weights | None,
    bias: Weights | None,
) -> Value:
    """Columns of a matrix by index. x: [..., 1] -> [..., embeddingSize].

    weights: [embeddingSize, vocabSize].
    """
    flat = ctx.reshape(x, ctx.sizes(x, 0, x.rank - 1))
    return _lookup(ctx, flat, vocabSize, embeddingSize, weights, bias if hasBias else None)


def _lookup(
    ctx: NetworkLowering, x: Value, words: int, size: int, weights: Weights | None, bias: Weights | None
) -> Value:
    table = np.ascontiguousarray(given(weights, "weights").array(size, words).T)
    rows = ctx.node("Gather", ctx.weight(table), ctx.integers(x), axis=0)
    return rows if bias is None else ctx.node("Add", rows, ctx.weight(bias.array(size)))


@layer("dot")
def dot(ctx: NetworkLowering, x: Value, y: Value, *, cosineSimilarity: bool) -> Value:
    """The dot product of two vectors of channels. x, y: [..., C, 1, 1] -> [..., 1, 1, 1].

    `cosineSimilarity`: of the vectors made one long.
    """
    axes = ctx.ints([-3])
    product = ctx.node("ReduceSum", ctx.node("Mul", x, y), axes, keepdims=1)
    if not cosineSimilarity:
        return product
    lengths = ctx.node("Mul", ctx.node("ReduceL2", x, axes), ctx.node("ReduceL2", y, axes))
    return ctx.node("Div", product, ctx.node("Max", lengths, ctx.constant(math.ulp(0.0) + 1e-30)))
