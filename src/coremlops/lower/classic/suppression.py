"""Non-maximum suppression by ONNX's operator, which computes in float32.

Core ML leaves open what it computes overlaps in; the boxes and confidences of a detector are float32. What
stays keeps the values that it came with.
"""

from __future__ import annotations

import math

from coremlops.dialects.classic.suppression import NonMaximumSuppression
from coremlops.errors import ModelFormatError
from coremlops.lower.classic.context import MAX_ELEMENTS, ClassicLowering
from coremlops.lower.registry import Value
from coremlops.model.description import ArrayFeature

_FLOAT = 1
_MANY = (1 << 31) - 1
# No confidence is negative, so -1 marks what takes no part; the operator keeps what is above its threshold.
_OUT, _LEAST = -1.0, -0.5


def lower_suppression(low: ClassicLowering, model: NonMaximumSuppression) -> None:
    """The boxes that stay, by falling confidence; filled with zeros up to the least number declared."""
    node = low.ctx.node
    scores, boxes = low.input(model.scores_input), low.input(model.boxes_input)
    best = node("ReduceMax", scores, low.ctx.ints([1]), keepdims=0)
    enough = node("GreaterOrEqual", best, _threshold(low, model.confidence_input, model.confidence))
    taking_part = node("Unsqueeze", enough, low.ctx.ints([0]))  # [classes or 1, n]
    if model.per_class:
        classes = node(
            "Range", *(low.ctx.constant(0, "int64"), _columns(low, scores), low.ctx.constant(1, "int64"))
        )
        own = node(
            "Equal", node("Unsqueeze", classes, low.ctx.ints([1])), node("ArgMax", scores, axis=1, keepdims=0)
        )
        taking_part = node("And", own, taking_part)
    marked = node("Cast", node("Where", taking_part, best, low.constant(_OUT)), to=_FLOAT)
    kept = node(
        "NonMaxSuppression",
        node("Unsqueeze", node("Cast", boxes, to=_FLOAT), low.ctx.ints([0])),
        node("Unsqueeze", marked, low.ctx.ints([0])),
        low.ctx.ints([_MANY]),
        node(
            "Reshape", node("Cast", _threshold(low, model.iou_input, model.iou), to=_FLOAT), low.ctx.ints([1])
        ),
        low.ctx.constant([_LEAST], "float32"),
        center_point_box=1,
    )
    kept = node("Gather", kept, low.ctx.constant(2, "int64"), axis=1)
    _, order = low.ctx.nodes("TopK", 2, node("Gather", best, kept), node("Shape", kept))
    least, most = _allowed(low, model)
    order = node("Slice", order, low.ctx.ints([0]), low.ctx.ints([most]))
    kept = node("Gather", kept, order)
    for name, values in ((model.scores_output, scores), (model.boxes_output, boxes)):
        low.give(name, _filled(low, node("Gather", values, kept, axis=0), least), None)


def _threshold(low: ClassicLowering, name: str, default: float) -> Value:
    """The threshold that is given, or the model's own when none is."""
    if not name or name not in {feature.name for feature in low.description.inputs}:
        return low.constant(default)
    given = low.reshape(low.input(name), [])
    return low.ctx.node("Where", low.ctx.node("IsNaN", given), low.constant(default), given)


def _columns(low: ClassicLowering, matrix: Value) -> Value:
    shape = low.ctx.node("Shape", matrix)
    return low.ctx.node("Gather", shape, low.ctx.constant(1, "int64"))


def _allowed(low: ClassicLowering, model: NonMaximumSuppression) -> tuple[int, int]:
    """The least and the largest number of boxes that the outputs are declared to have."""
    least, most = 0, _MANY
    for feature in low.description.outputs:
        if feature.name not in (model.scores_output, model.boxes_output) or not isinstance(
            feature, ArrayFeature
        ):
            raise ModelFormatError(
                f"{low.where}: the output {feature.name!r} is not one of the suppression's"
            )
        if feature.ranges:
            lower, upper = feature.ranges[0]
        elif feature.shape:
            lower, upper = feature.shape[0], feature.shape[0]
        else:
            continue
        least, most = max(least, lower), min(most, _MANY if upper is None else upper)
        if not 0 <= least <= most or least * max(4, math.prod(feature.shape[1:])) > MAX_ELEMENTS:
            raise ModelFormatError(f"{low.where}: {least} to {most} boxes in the output {feature.name!r}")
    return least, most


def _filled(low: ClassicLowering, rows: Value, least: int) -> Value:
    if not least:
        return rows
    node = low.ctx.node
    count = node("Slice", node("Shape", rows), low.ctx.ints([0]), low.ctx.ints([1]))
    absent = node("Max", node("Sub", low.ctx.ints([least]), count), low.ctx.ints([0]))
    return node("Pad", rows, node("Concat", low.ctx.ints([0, 0]), absent, low.ctx.ints([0]), axis=0))
