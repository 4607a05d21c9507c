"""Non-maximum suppression of boxes. Source: `NonMaximumSuppression.proto`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coremlops.errors import ModelFormatError


@dataclass(frozen=True, slots=True)
class NonMaximumSuppression:
    """Boxes of the highest confidence stay; those that overlap one that stays by more than `iou` go.

    `per_class`: only boxes with the same best class suppress each other. `iou`, `confidence`: the thresholds,
    which the inputs `iou_input` and `confidence_input` override when they are named. `scores_*`, `boxes_*`:
    names of the inputs [n, classes], [n, 4] (centre x, y, width, height) and of the outputs.
    """

    iou: float
    confidence: float
    per_class: bool
    scores_input: str
    boxes_input: str
    iou_input: str
    confidence_input: str
    scores_output: str
    boxes_output: str


def read_non_maximum_suppression(message: Any, *, where: str) -> NonMaximumSuppression:
    """A `NonMaximumSuppression`. Raises ModelFormatError."""
    if not 0 <= message.iouThreshold <= 1 or not message.confidenceThreshold >= 0:
        raise ModelFormatError(
            f"{where}: an overlap threshold of {message.iouThreshold} and a confidence threshold of "
            f"{message.confidenceThreshold}; expected 0 to 1, and 0 or more"
        )
    return NonMaximumSuppression(
        iou=message.iouThreshold,
        confidence=message.confidenceThreshold,
        per_class=message.pickTop.perClass,
        scores_input=message.confidenceInputFeatureName,
        boxes_input=message.coordinatesInputFeatureName,
        iou_input=message.iouThresholdInputFeatureName,
        confidence_input=message.confidenceThresholdInputFeatureName,
        scores_output=message.confidenceOutputFeatureName,
        boxes_output=message.coordinatesOutputFeatureName,
    )
