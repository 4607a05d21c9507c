"""Sorting, triangles, places and the suppression of boxes against NumPy."""

from typing import Any

import numpy as np
import pytest

from tests.lower.neuralnetwork.layers.case import Case, case, check, draws
from tests.networks import Array

RNG = draws(__name__)


def ordered(x: Array, axis: int, descending: bool) -> Array:
    """The indices that sort; of equal elements the first comes first."""
    return np.argsort(-x if descending else x, axis=axis, kind="stable")


def top(shape: tuple[int, ...], axis: int, count: int, bottom: bool, second: bool = False) -> Case:
    """Whole numbers, so that some are equal."""
    x = RNG.integers(0, 6, shape)
    indices = ordered(x, axis, not bottom).take(range(count), axis)
    return case(
        "topK",
        [x, [count]] if second else [x],
        (np.take_along_axis(x, indices, axis), indices),
        label=f"{shape} {axis} {count} {bottom} {second}",
        axis=axis,
        K=1 if second else count,
        useBottomK=bottom,
    )


def sorted_(shape: tuple[int, ...], axis: int, descending: bool) -> Case:
    x = RNG.integers(0, 4, shape)
    label = f"{shape} {axis} {descending}"
    return case("argSort", [x], ordered(x, axis, descending), label=label, axis=axis, descending=descending)


def band(shape: tuple[int, ...], lower: int, upper: int) -> Case:
    x = RNG.standard_normal(shape)
    m, n = np.indices(shape[-2:])
    kept = ((lower < 0) | (m - n <= lower)) & ((upper < 0) | (n - m <= upper))
    return case(
        "matrixBandPart", [x], x * kept, label=f"{shape} {lower} {upper}", numLower=lower, numUpper=upper
    )


def triangle(kind: str, shape: tuple[int, ...], k: int) -> Case:
    x = RNG.standard_normal(shape)
    wanted = np.tril(x, k) if kind == "lowerTriangular" else np.triu(x, k)
    return case(kind, [x], wanted, label=f"{shape} {k}", k=k)


def overlap(a: Array, b: Array) -> float:
    """Of two boxes (x, y, width, height) the part of their union that they share."""
    near, far = (
        np.maximum(a[:2] - a[2:] / 2, b[:2] - b[2:] / 2),
        np.minimum(a[:2] + a[2:] / 2, b[:2] + b[2:] / 2),
    )
    shared = float(np.prod(np.maximum(0, far - near)))
    return shared / (float(np.prod(a[2:])) + float(np.prod(b[2:])) - shared)


def survivors(boxes: Array, scores: Array, iou: float, least: float, most: int, by_class: bool) -> list[int]:
    """The boxes of one image that survive, best first; the best one where none does."""
    best, classes = scores.max(1), scores.argmax(1)
    found: list[int] = []
    for index in np.argsort(-best, kind="stable"):
        if best[index] < least or len(found) == most:
            continue
        rivals = [other for other in found if not by_class or classes[other] == classes[index]]
        if all(overlap(boxes[index], boxes[other]) <= iou for other in rivals):
            found.append(int(index))
    return found or [int(best.argmax())]


def suppressed(
    *,
    classes: int = 3,
    count: int = 12,
    iou: float = 0.3,
    least: float = 0.3,
    most: int = 5,
    by_class: bool = False,
    inputs: int = 2,
) -> Case:
    """`inputs`: so many come as inputs, the others as fields; a field that is replaced says otherwise."""
    centers = RNG.uniform(0, 3, (2, count, 2))
    boxes = np.concatenate([centers, RNG.uniform(0.5, 2, (2, count, 2))], 2).astype(np.float32)
    scores = RNG.permutation(2 * count * classes).reshape(2, count, classes) / (2 * count * classes)
    scores = scores.astype(np.float32)
    wanted = [np.zeros((2, most, 4)), np.zeros((2, most, classes)), np.full((2, most), -1.0), np.zeros(2)]
    for image in range(2):
        kept = survivors(boxes[image], scores[image], iou, least, most, by_class)
        number = len(kept)
        wanted[0][image, :number] = boxes[image, kept]
        wanted[1][image, :number] = scores[image, kept]
        wanted[2][image, :number] = kept
        wanted[3][image] = number
    limits: list[Any] = [[iou], [least], [most]]
    return case(
        "NonMaximumSuppression",
        [boxes, scores, *limits[: inputs - 2]],
        tuple(wanted),
        label=f"{classes} {count} {iou} {least} {most} {by_class} {inputs}",
        iouThreshold=0.9 if inputs > 2 else iou,
        scoreThreshold=0.9 if inputs > 3 else least,
        maxBoxes=1 if inputs > 4 else most,
        perClassSuppression=by_class,
    )


# Two boxes apart from each other and a third below; the score of the second is the threshold itself.
EDGE_BOXES = np.array([[[0, 0, 1, 1], [5, 5, 1, 1], [9, 9, 1, 1]]])
EDGE_SCORES = np.array([[[0.75], [0.5], [0.25]]])
EDGE = case(
    "NonMaximumSuppression",
    [EDGE_BOXES, EDGE_SCORES],
    (EDGE_BOXES[:, :2], EDGE_SCORES[:, :2], [[0, 1]], [2]),
    label="a score at the threshold",
    iouThreshold=0.5,
    scoreThreshold=0.5,
    maxBoxes=2,
)

SQUARE = RNG.integers(-1, 2, (3, 4))
CASES = [
    *(
        top(shape, axis, count, bottom)
        for shape, axis, count in (((9,), 0, 3), ((4, 7), -1, 7), ((3, 6, 2), 1, 2))
        for bottom in (False, True)
    ),
    top((4, 7), 1, 3, False, second=True),
    top((4, 7), -2, 2, True, second=True),
    *(
        sorted_(shape, axis, descending)
        for shape, axis in (((7,), 0), ((3, 6), 1), ((5, 2, 3), 0))
        for descending in (False, True)
    ),
    case("argSort", [[3.1, 5.4, 32.9, 3.2, 77.0]], [0, 3, 1, 2, 4], label="the format's example"),
    case("whereNonZero", [[0, 1, 0, 2]], [[1], [3]], label="the format's example"),
    case("whereNonZero", [SQUARE], np.argwhere(SQUARE), label="of rank 2"),
    case(
        "whereNonZero",
        [SQUARE.reshape(2, 1, 3, 2)],
        np.argwhere(SQUARE.reshape(2, 1, 3, 2)),
        label="of rank 4",
    ),
    case("whereNonZero", [[0, 0]], np.zeros((0, 1)), label="nowhere"),
    *(
        band(shape, lower, upper)
        for shape in ((4, 5), (2, 5, 3))
        for lower, upper in ((0, 0), (1, 2), (-1, 1), (2, -1), (-1, -1), (9, 0))
    ),
    *(
        triangle(kind, shape, k)
        for kind in ("lowerTriangular", "upperTriangular")
        for shape in ((4, 5), (2, 5, 3))
        for k in (0, 1, -2)
    ),
    suppressed(),
    suppressed(by_class=True),
    suppressed(classes=1, most=3),
    suppressed(iou=0.0, least=0.0, most=20),
    suppressed(iou=1.0, most=4, by_class=True),
    suppressed(least=2.0),
    *(suppressed(inputs=inputs, by_class=inputs % 2 == 0) for inputs in (3, 4, 5)),
    EDGE,
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
