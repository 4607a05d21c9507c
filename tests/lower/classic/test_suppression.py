"""Non-maximum suppression against a plain loop in NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import ModelFormatError
from tests.classic_models import load, spec


def suppression(
    *,
    per_class: bool = False,
    iou: float = 0.4,
    confidence: float = 0.3,
    optional: bool = False,
    boxes: Any = (),
) -> Any:
    inputs: dict[str, Any] = {"scores": (), "boxes": ()}
    if optional:
        inputs |= {"iouThreshold": "double", "confidenceThreshold": "double"}
    model = spec(inputs, {"confidence": (), "coordinates": ()})
    for feature in model.description.input[2:]:
        feature.type.isOptional = True
    nms = model.nonMaximumSuppression
    nms.pickTop.perClass = per_class
    nms.iouThreshold, nms.confidenceThreshold = iou, confidence
    nms.confidenceInputFeatureName, nms.coordinatesInputFeatureName = "scores", "boxes"
    nms.confidenceOutputFeatureName, nms.coordinatesOutputFeatureName = "confidence", "coordinates"
    if optional:
        nms.iouThresholdInputFeatureName = "iouThreshold"
        nms.confidenceThresholdInputFeatureName = "confidenceThreshold"
    for feature, width in zip(model.description.output, (3, 4), strict=True):
        for least, most in boxes:
            sizes = feature.type.multiArrayType.shapeRange.sizeRanges
            sizes.add(lowerBound=least, upperBound=most)
            sizes.add(lowerBound=width, upperBound=width)
    return model


def scene(seed: int, count: int = 40) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.uniform(0, 1, (count, 2)), rng.uniform(0.1, 0.4, (count, 2))], axis=1)
    # What float32 holds, so that no order hangs on how the operator computes.
    return rng.random((count, 3), np.float32).astype(np.float64), boxes.astype(np.float32).astype(np.float64)


def overlap(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    low, high = (
        np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2),
        np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2),
    )
    inside = float(np.prod(np.maximum(high - low, 0)))
    return inside / float(np.prod(a[2:]) + np.prod(b[2:]) - inside)


def keep(scores: Any, boxes: Any, *, per_class: bool, iou: float, confidence: float) -> list[int]:
    best, owner = scores.max(axis=1), scores.argmax(axis=1)
    kept: list[int] = []
    for place in np.argsort(-best, kind="stable"):
        rivals = [other for other in kept if not per_class or owner[other] == owner[place]]
        if best[place] >= confidence and all(overlap(boxes[place], boxes[other]) <= iou for other in rivals):
            kept.append(int(place))
    return kept


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_against_a_plain_loop(tmp_path: Path, seed: int, per_class: bool) -> None:
    scores, boxes = scene(seed)
    kept = keep(scores, boxes, per_class=per_class, iou=0.4, confidence=0.3)
    assert 0 < len(kept) < 40
    result = load(suppression(per_class=per_class), tmp_path).predict({"scores": scores, "boxes": boxes})
    np.testing.assert_array_equal(result["confidence"], scores[kept])
    np.testing.assert_array_equal(result["coordinates"], boxes[kept])
    assert result["confidence"].dtype == np.float64


def test_thresholds_of_the_caller(tmp_path: Path) -> None:
    scores, boxes = scene(0)
    loaded = load(suppression(optional=True), tmp_path)
    for given, iou, confidence in (
        ({}, 0.4, 0.3),
        ({"iouThreshold": 0.1}, 0.1, 0.3),
        ({"iouThreshold": 1.0, "confidenceThreshold": 0.9}, 1.0, 0.9),
    ):
        kept = keep(scores, boxes, per_class=False, iou=iou, confidence=confidence)
        result = loaded.predict({"scores": scores, "boxes": boxes, **given})
        np.testing.assert_array_equal(result["coordinates"], boxes[kept])


@pytest.mark.parametrize(("least", "most", "count"), [(0, -1, None), (0, 2, 2), (30, 30, 30), (3, 60, None)])
def test_a_declared_number_of_boxes(tmp_path: Path, least: int, most: int, count: int | None) -> None:
    scores, boxes = scene(1)
    kept = keep(scores, boxes, per_class=False, iou=0.4, confidence=0.3)[: None if most < 0 else most]
    result = load(suppression(boxes=[(least, most)]), tmp_path).predict({"scores": scores, "boxes": boxes})
    assert result["coordinates"].shape == (max(least, len(kept)) if count is None else count, 4)
    np.testing.assert_array_equal(result["coordinates"][: len(kept)], boxes[kept])
    assert not result["confidence"][len(kept) :].any()


def test_a_confidence_at_the_threshold_stays(tmp_path: Path) -> None:
    result = load(suppression(confidence=0.5), tmp_path).predict(
        {"scores": [[0.5, 0, 0], [np.nextafter(0.5, 0), 0, 0]], "boxes": [[0, 0, 1, 1], [5, 5, 1, 1]]}
    )
    np.testing.assert_array_equal(result["coordinates"], [[0, 0, 1, 1]])


def test_no_boxes(tmp_path: Path) -> None:
    loaded = load(suppression(), tmp_path)
    result = loaded.predict({"scores": np.zeros((4, 3)), "boxes": np.ones((4, 4))})
    assert result["confidence"].shape == (0, 3)
    result = loaded.predict({"scores": np.zeros((0, 3)), "boxes": np.ones((0, 4))})
    assert result["coordinates"].shape == (0, 4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (suppression(iou=1.5), "an overlap threshold of 1.5"),
        (suppression(confidence=float("nan")), "a confidence threshold of nan"),
        (suppression(boxes=[(1 << 40, -1)]), "boxes in the output"),
        (suppression(boxes=[(5, 2)]), "5 to 2 boxes"),
    ],
)
def test_limits(tmp_path: Path, model: Any, message: str) -> None:
    with pytest.raises(ModelFormatError, match=message):
        load(model, tmp_path)


def test_a_name_that_is_no_input(tmp_path: Path) -> None:
    model = suppression()
    model.nonMaximumSuppression.confidenceInputFeatureName = "other"
    with pytest.raises(ModelFormatError, match="uses the input 'other'"):
        load(model, tmp_path)
