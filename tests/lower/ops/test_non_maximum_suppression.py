"""Non-maximum suppression against a plain one in NumPy, after the reference of coremltools' own tests."""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import NamedType, Operation, Ref
from coremlops.errors import ModelFormatError
from tests.lower.programs import Array, function, operation, run, typed

RNG = np.random.default_rng(23)


def overlap(one: Array, other: Array) -> float:
    """Intersection over union of two boxes (x, y, width, height) about their centres."""
    low = np.maximum(one[:2] - one[2:] / 2, other[:2] - other[2:] / 2)
    high = np.minimum(one[:2] + one[2:] / 2, other[:2] + other[2:] / 2)
    shared = float(np.prod(np.maximum(high - low, 0)))
    return shared / (float(np.prod(one[2:])) + float(np.prod(other[2:])) - shared) if shared else 0.0


def reference(boxes: Array, scores: Array, iou: float, least: float, most: int, per_class: bool) -> list[int]:
    """The chosen boxes of one image: [B, 4], [B, K]."""
    best, kinds = scores.max(1), scores.argmax(1)
    chosen: list[int] = []
    for index in np.argsort(-best, kind="stable"):
        rivals = (other for other in chosen if not per_class or kinds[other] == kinds[index])
        if best[index] >= least and all(overlap(boxes[index], boxes[other]) <= iou for other in rivals):
            chosen.append(int(index))
    return (chosen or [int(best.argmax())])[:most]


def suppress(boxes: Array, scores: Array, known: bool = True, **inputs: Any) -> list[Array]:
    """Execute the op; with `score_threshold` it is that of iOS 15."""
    old = "score_threshold" in inputs
    count, most = len(boxes), inputs["max_boxes"]
    kinds = [
        ("fp32", (count, most, 4)),
        ("fp32", (count, most, None)),
        ("int32", (count, most)),
        ("int32", (count,)),
    ]
    outputs = tuple(
        NamedType(f"y{i}", typed(*kind[:1], *kind[1])) for i, kind in enumerate(kinds[: 4 if old else 3])
    )
    made = operation(
        "non_maximum_suppression", "y0", typed("fp32"), boxes=Ref("b"), scores=Ref("s"), **inputs
    )
    made = Operation(made.type, "op", made.inputs, outputs, (), {})
    types = {
        name: typed("fp32", *(value.shape if known else (None,) * 3))
        for name, value in (("b", boxes), ("s", scores))
    }
    program = function(types, [made], *(entry.name for entry in outputs))
    found = run(program, b=boxes, s=scores)
    return [found[entry.name] for entry in outputs]


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("most", [3, 12, 40])
@pytest.mark.parametrize("least", [-1.0, 0.6, 2.0])
@pytest.mark.parametrize("known", [False, True])
def test_against_the_reference(per_class: bool, most: int, least: float, known: bool) -> None:
    count, size, classes = 3, 25, 4
    boxes = np.concatenate(
        [RNG.uniform(0, 6, (count, size, 2)), RNG.uniform(1, 4, (count, size, 2))], 2
    ).astype(np.float32)
    scores = np.round(RNG.random((count, size, classes)), 1).astype(np.float32)  # many ties
    inputs = {"iou_threshold": 0.3, "max_boxes": most, "per_class_suppression": per_class}
    old = suppress(boxes, scores, known, score_threshold=least, **inputs)
    new = suppress(
        np.ascontiguousarray(boxes.transpose(0, 2, 1)),
        np.ascontiguousarray(scores.transpose(0, 2, 1)),
        known,
        **inputs,
    )
    for image in range(count):
        for found, limit in ((old, least), (new, -np.inf)):
            chosen = reference(boxes[image], scores[image], 0.3, limit, most, per_class)
            used = len(chosen)
            np.testing.assert_array_equal(found[2][image], chosen + [-1] * (most - used))
            rows, values = (part[image] if found is old else part[image].T for part in found[:2])
            np.testing.assert_array_equal(rows[:used], boxes[image][chosen])
            np.testing.assert_array_equal(values[:used], scores[image][chosen])
            assert not rows[used:].any()
            assert not values[used:].any()
            if found is old:
                assert found[3][image] == used


def test_an_overlap_that_makes_no_sense() -> None:
    with pytest.raises(ModelFormatError, match=r"an overlap of 1\.5"):
        suppress(
            np.ones((1, 4, 2), np.float32), np.ones((1, 1, 2), np.float32), iou_threshold=1.5, max_boxes=1
        )
