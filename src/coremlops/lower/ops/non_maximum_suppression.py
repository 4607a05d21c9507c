"""Non-maximum suppression. Source: coremltools, `ops/defs/iOS15/tensor_operation.py`, `iOS17/`.

What the documentation leaves open follows the reference of coremltools' own tests: each box has its best
score and that score's class; boxes are chosen in the order of their scores, at equal ones the first; and
where none reaches the threshold, the best one is chosen all the same.
"""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.onnx_ml import from_array
from coremlops.lower.registry import Value, lowers
from coremlops.lower.shapes import MAX_TABLE, bounded

_LOWEST = float(np.finfo(np.float32).min)
_INT64 = 7  # TensorProto.INT64
_BOOL = 9  # TensorProto.BOOL


@lowers("non_maximum_suppression", moves=True)
def non_maximum_suppression(
    ctx: Lowering,
    boxes: Value,
    scores: Value,
    iou_threshold: float,
    max_boxes: int,
    score_threshold: float | None = None,
    per_class_suppression: bool = False,
) -> tuple[Value, ...]:
    """The boxes with the best scores that overlap no better one by more than `iou_threshold`.

    Before iOS 17 (which has `score_threshold`) boxes: [n, B, 4], (x, y, width, height) about the centre;
    scores: [n, B, K], fp16|fp32 -> boxes [n, max, 4], scores [n, max, K], indices [n, max], counts [n],
    int32; what is not used holds 0, an index -1. Since iOS 17 the last two axes are the other way round and
    there are no counts.
    """
    if max_boxes < 1:
        raise ValueError(f"{max_boxes} boxes at most")
    bounded(
        [*(part for part in boxes.shape[:1] if part is not None), max_boxes, 4], "chosen boxes", MAX_TABLE
    )
    new = score_threshold is None
    if new:
        boxes, scores = (_turned(ctx, value) for value in (boxes, scores))
    best = ctx.node("ReduceMax", scores, ctx.ints([2]), keepdims=0)  # [n, B]
    kept = _kept(ctx, boxes, scores, best, iou_threshold, score_threshold, max_boxes, per_class_suppression)
    chosen, counts = _in_order(ctx, best, kept, max_boxes)
    used = ctx.node(
        "Less", ctx.ints(np.arange(max_boxes)[None]), ctx.node("Unsqueeze", counts, ctx.ints([1]))
    )
    results = [_taken(ctx, value, chosen, used) for value in (boxes, scores)]
    if new:
        results = [_turned(ctx, value) for value in results]
    indices = ctx.node("Where", used, chosen, ctx.ints([-1]))
    found = (*results, ctx.cast(indices, "int32"))
    return found if new else (*found, ctx.cast(counts, "int32"))


def _turned(ctx: Lowering, x: Value) -> Value:
    return ctx.node("Transpose", x, perm=(0, 2, 1))


def _kept(
    ctx: Lowering,
    boxes: Value,
    scores: Value,
    best: Value,
    iou_threshold: float,
    score_threshold: float | None,
    max_boxes: int,
    per_class: bool,
) -> Value:
    """Which boxes survive: [n, B], bool. The best of all always does."""
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"an overlap of {iou_threshold}")
    # Boxes below the threshold are rejected; the operator wants more than its own.
    least = _LOWEST if score_threshold is None else np.nextafter(np.float32(score_threshold), -np.inf)
    ranked = ctx.node("Unsqueeze", best, ctx.ints([1]))  # [n, 1, B]
    if per_class:
        ranked = _by_class(ctx, scores, ranked)
    found = ctx.node(
        "NonMaxSuppression",
        boxes,
        ranked,
        ctx.ints([max_boxes]),
        ctx.constant([iou_threshold], np.float32),
        ctx.constant([least], np.float32),
        center_point_box=1,
    )
    places = ctx.node("Gather", found, ctx.ints([0, 2]), axis=1)  # image and box of each
    hits = ctx.node("Expand", ctx.constant(1, np.int32), ctx.node("Shape", places, start=0, end=1))
    none = ctx.node("ConstantOfShape", ctx.node("Shape", best), value=from_array(np.zeros(1, np.int32)))
    marked = ctx.node("Cast", ctx.node("ScatterND", none, places, hits), to=_BOOL)
    first = ctx.node("ArgMax", best, axis=1, keepdims=1)
    is_first = ctx.node("Equal", _line(ctx, ctx.node("Shape", best, start=1, end=2)), first)
    return ctx.node("Or", marked, is_first)


def _by_class(ctx: Lowering, scores: Value, ranked: Value) -> Value:
    """Each box's score in its own class alone: [n, K, B]."""
    own = ctx.node("Unsqueeze", ctx.node("ArgMax", scores, axis=2, keepdims=0), ctx.ints([1]))
    classes = _line(ctx, ctx.node("Shape", scores, start=2, end=3))
    is_own = ctx.node("Equal", ctx.node("Unsqueeze", classes, ctx.ints([1])), own)
    return ctx.node("Where", is_own, ranked, ctx.constant(-np.inf, np.float32))


def _line(ctx: Lowering, count: Value) -> Value:
    """0, 1, ... below `count`, a vector of one int64."""
    zero, one = ctx.constant(0, np.int64), ctx.constant(1, np.int64)
    return ctx.node("Range", zero, ctx.node("Squeeze", count), one)


def _in_order(ctx: Lowering, best: Value, kept: Value, max_boxes: int) -> tuple[Value, Value]:
    """The indices of the boxes that are kept, best first, [n, max]; and how many they are, [n]. int64."""
    keys = ctx.node("Where", kept, best, ctx.constant(-np.inf, np.float32))
    count = ctx.node("Min", ctx.node("Shape", best, start=1, end=2), ctx.ints([max_boxes]))
    _, order = ctx.nodes("TopK", 2, keys, count, axis=1, largest=1, sorted=1)
    missing = ctx.node("Sub", ctx.ints([max_boxes]), count)
    chosen = ctx.node("Pad", order, ctx.node("Concat", ctx.ints([0, 0, 0]), missing, axis=0))
    total = ctx.node("ReduceSum", ctx.node("Cast", kept, to=_INT64), ctx.ints([1]), keepdims=0)
    return chosen, ctx.node("Min", total, ctx.ints([max_boxes]))


def _taken(ctx: Lowering, values: Value, chosen: Value, used: Value) -> Value:
    """The rows of values [n, B, D] that are chosen, 0 where none is: [n, max, D]."""
    rows = ctx.node("GatherND", values, ctx.node("Unsqueeze", chosen, ctx.ints([2])), batch_dims=1)
    return ctx.node("Where", ctx.node("Unsqueeze", used, ctx.ints([2])), rows, ctx.constant(0, np.float32))
