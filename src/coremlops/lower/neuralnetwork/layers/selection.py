"""Sorting, the greatest, parts of matrices, places of what is not zero, suppression of boxes."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.registry import Unsupported, Value


@layer("topK")
def top_k(
    ctx: NetworkLowering, x: Value, count: Value | None = None, *, axis: int, K: int, useBottomK: bool
) -> tuple[Value, Value]:
    """The K greatest (`useBottomK`: least) along an axis, sorted, and their indices."""
    wanted = ctx.ints([K]) if count is None else ctx.reshape(ctx.integers(count), [1])
    values, indices = ctx.nodes("TopK", 2, x, wanted, axis=axis, largest=int(not useBottomK), sorted=1)
    return values, ctx.numbers(indices)


@layer("argSort")
def arg_sort(ctx: NetworkLowering, x: Value, *, axis: int, descending: bool) -> Value:
    """The indices that sort an axis; of equal elements the first comes first."""
    size = ctx.vector([ctx.size(x, axis)])
    _, indices = ctx.nodes("TopK", 2, x, size, axis=axis, largest=int(descending), sorted=1)
    return ctx.numbers(indices)


@layer("whereNonZero")
def where_non_zero(ctx: NetworkLowering, x: Value) -> Value:
    """The places of what is not zero: [count, rank of x]."""
    places = ctx.node("NonZero", x)
    turned = ctx.node("Transpose", places, perm=[1, 0])
    return ctx.retyped(ctx.numbers(turned), None, x.rank)


@layer("matrixBandPart", moves=True)
def matrix_band_part(ctx: NetworkLowering, x: Value, *, numLower: int, numUpper: int) -> Value:
    """The last two axes' diagonal with so many beside it, and zeros elsewhere; negative means all."""
    if numLower >= 0:
        x = ctx.node("Trilu", x, ctx.reshape(ctx.ints([-numLower]), []), upper=1)
    if numUpper >= 0:
        x = ctx.node("Trilu", x, ctx.reshape(ctx.ints([numUpper]), []), upper=0)
    return x if numLower >= 0 or numUpper >= 0 else ctx.node("Identity", x)


@layer("lowerTriangular", moves=True)
def lower_triangular(ctx: NetworkLowering, x: Value, *, k: int) -> Value:
    """What is not above the k-th diagonal of the last two axes, and zeros elsewhere."""
    return ctx.node("Trilu", x, ctx.reshape(ctx.ints([k]), []), upper=0)


@layer("upperTriangular", moves=True)
def upper_triangular(ctx: NetworkLowering, x: Value, *, k: int) -> Value:
    """What is not below the k-th diagonal of the last two axes, and zeros elsewhere."""
    return ctx.node("Trilu", x, ctx.reshape(ctx.ints([k]), []), upper=1)


@layer("NonMaximumSuppression")
def non_maximum_suppression(
    ctx: NetworkLowering,
    boxes: Value,
    scores: Value,
    iou_threshold: Value | None = None,
    score_threshold: Value | None = None,
    max_boxes: Value | None = None,
    *,
    iouThreshold: float,
    scoreThreshold: float,
    maxBoxes: int,
    perClassSuppression: bool,
) -> tuple[Value, Value, Value, Value]:
    """The best boxes that do not overlap: theirs and their scores, their indices, and how many.

    boxes: [B, N, 4], center, width and height; scores: [B, N, C] -> [B, M, 4], [B, M, C], [B, M], [B]. A box
    belongs to its best class (`perClassSuppression`: only boxes of one class suppress each other). Past the
    boxes that are selected stand zeros, and -1 as index. Where none is, the best box is: coremltools'
    `test_nms_cpu` says so.
    """
    if boxes.rank != 3 or scores.rank != 3:
        raise Unsupported(f"boxes of rank {boxes.rank} and scores of rank {scores.rank}; expected 3")
    most = ctx.ints([maxBoxes]) if max_boxes is None else ctx.reshape(ctx.integers(max_boxes), [1])
    overlap = ctx.constant(iouThreshold) if iou_threshold is None else ctx.reshape(iou_threshold, [])
    least = ctx.constant(scoreThreshold) if score_threshold is None else ctx.reshape(score_threshold, [])
    best = ctx.node("ReduceMax", scores, ctx.ints([2]), keepdims=0)  # [B, N]
    # The operator wants more than its threshold; here a score at the threshold is enough.
    nothing, lowest = ctx.constant(float("-inf")), ctx.constant(float(np.finfo(np.float32).min))
    enough = ctx.node("Where", ctx.node("GreaterOrEqual", best, least), best, nothing)
    by_class = ctx.node("Unsqueeze", enough, ctx.ints([1]))
    if perClassSuppression:
        classes = ctx.node("ArgMax", scores, axis=2, keepdims=0)
        number = ctx.reshape(ctx.vector([ctx.size(scores, 2)]), [])
        every = ctx.node("Range", ctx.reshape(ctx.ints([0]), []), number, ctx.reshape(ctx.ints([1]), []))
        own = ctx.node(
            "Equal",
            ctx.node("Unsqueeze", classes, ctx.ints([1])),
            ctx.node("Unsqueeze", every, ctx.ints([1])),
        )
        by_class = ctx.node("Where", own, by_class, nothing)  # [B, C, N]
    found = ctx.node("NonMaxSuppression", boxes, by_class, most, overlap, lowest, center_point_box=1)
    places = ctx.node("Gather", found, ctx.ints([0, 2]), axis=1)  # [K, 2]: image and box
    ones = ctx.node("Expand", ctx.constant(1.0), ctx.node("Shape", places, start=0, end=1))
    zeros = ctx.node("Expand", ctx.constant(0.0), ctx.shape_vector(best))
    chosen = ctx.node("ScatterND", zeros, places, ones)  # [B, N]
    none = ctx.node("Equal", ctx.node("ReduceMax", chosen, ctx.ints([1]), keepdims=1), ctx.constant(0.0))
    first = ctx.node("ArgMax", best, axis=1, keepdims=1)
    alone = ctx.node("ScatterElements", zeros, first, ctx.node("Cast", none, to=TensorProto.FLOAT), axis=1)
    chosen = ctx.node("Max", chosen, alone)
    return _sorted_boxes(ctx, boxes, scores, best, chosen, most)


def _sorted_boxes(
    ctx: NetworkLowering, boxes: Value, scores: Value, best: Value, chosen: Value, most: Value
) -> tuple[Value, Value, Value, Value]:
    """The chosen boxes by score, `most` of them, and what stands past them."""
    zero = ctx.constant(0.0)
    is_chosen = ctx.node("Greater", chosen, zero)
    ranked = ctx.node("Where", is_chosen, best, ctx.constant(float("-inf")))
    length = ctx.vector([ctx.size(boxes, 1)])
    shown = ctx.node("Min", most, length)
    _, order = ctx.nodes("TopK", 2, ranked, shown, axis=1)  # [B, m]
    missing = ctx.node("Sub", most, shown)
    number = ctx.numbers(most)
    count = ctx.node("Min", ctx.node("ReduceSum", chosen, ctx.ints([1]), keepdims=1), number)  # [B, 1]
    stop = ctx.reshape(number, [])
    rank = ctx.node("Range", zero, stop, ctx.constant(1.0))
    valid = ctx.node("Less", rank, count)  # [B, M]
    pads = ctx.node("Concat", ctx.ints([0, 0, 0]), missing, axis=0)
    places = ctx.node("Pad", order, pads, ctx.constant(0, "int64"), mode="constant")
    width = int(most.constant.item()) if most.constant is not None else None
    indices = ctx.node("Where", valid, ctx.numbers(places), ctx.constant(-1.0))
    results = []
    for value in (boxes, scores):
        whole = ctx.node("Expand", ctx.node("Unsqueeze", places, ctx.ints([2])), _like(ctx, places, value))
        taken = ctx.node("GatherElements", value, whole, axis=1)
        shown_value = ctx.node("Where", ctx.node("Unsqueeze", valid, ctx.ints([2])), taken, zero)
        results.append(ctx.retyped(shown_value, value.shape[0], width, value.shape[2]))
    counts = ctx.reshape(count, ctx.sizes(boxes, 0, 1))
    return results[0], results[1], ctx.retyped(indices, boxes.shape[0], width), counts


def _like(ctx: NetworkLowering, places: Value, value: Value) -> Value:
    """The shape [B, M, last axis of `value`]."""
    lead = ctx.node("Shape", places)
    return ctx.node("Concat", lead, ctx.vector([ctx.size(value, 2)]), axis=0)
