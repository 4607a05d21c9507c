"""Layers of arrays of any rank against NumPy and PyTorch: sizes known beforehand, and not.

Where nothing else is said, what is computed agrees to 1e-5, a few units of the last place of float32.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from coremlops.errors import ModelFormatError, UnsupportedOpsError
from tests.networks import Array, one, several

RNG = np.random.default_rng(23)
A = RNG.standard_normal((2, 3, 4)).astype(np.float32)
B = RNG.standard_normal((3, 1)).astype(np.float32)  # broadcasts with A
POSITIVE = np.abs(A) + np.float32(0.5)
TRUTH = np.array([[0, 1, 2.5], [0, -1, 0]], np.float32)
OTHER = np.array([[0, 0, 1], [3, 1, 0]], np.float32)
IMAGES = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
BOXED = np.array([[1.4, 2, -3], [0, 4.5, 2]], np.float32)
SQUARE = RNG.standard_normal((2, 4, 5)).astype(np.float32)


def numbers(found: Any) -> Array:
    return np.asarray(found, np.float32)


def torch_of(function: Callable[..., torch.Tensor], *arrays: Array, **options: Any) -> Array:
    return np.asarray(function(*map(torch.from_numpy, arrays), **options).numpy())


def backwards(x: Array, lengths: list[int]) -> Array:
    """x [batch, sequence, ...], the first elements of each sequence backwards."""
    return np.stack([np.concatenate([row[:n][::-1], row[n:]]) for row, n in zip(x, lengths, strict=True)])


def padded(amounts: list[int]) -> Array:
    return np.pad(A, np.array(amounts).reshape(3, 2), constant_values=7)


UNARY: dict[str, Callable[[Array], Any]] = {
    "ABS": np.abs,
    "EXP": np.exp,
    "INVERSE": lambda x: 1 / (x + 1e-6),
    "LOG": lambda x: np.log(x + 1e-6),
    "POWER": lambda x: x**1.5,
    "RSQRT": lambda x: 1 / np.sqrt(x + 1e-6),
    "SQRT": np.sqrt,
    "THRESHOLD": lambda x: np.maximum(x, 1.5),
}
REDUCE: dict[str, Callable[..., Any]] = {
    "SUM": np.sum,
    "AVG": np.mean,
    "PROD": np.prod,
    "LOGSUM": lambda x, **o: np.sum(np.log(x + 1e-6), **o),
    "SUMSQUARE": lambda x, **o: np.sum(x * x, **o),
    "L1": lambda x, **o: np.sum(np.abs(x), **o),
    "L2": lambda x, **o: np.sqrt(np.sum(x * x, **o)),
    "MAX": np.max,
    "MIN": np.min,
}
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduceL1": REDUCE["L1"],
    "reduceL2": REDUCE["L2"],
    "reduceMax": np.max,
    "reduceMin": np.min,
    "reduceProd": np.prod,
    "reduceMean": np.mean,
    "reduceSum": np.sum,
    "reduceSumSquare": REDUCE["SUMSQUARE"],
    "reduceLogSum": lambda x, **o: np.log(np.sum(x, **o)),
    "reduceLogSumExp": lambda x, **o: np.log(np.sum(np.exp(x), **o)),
}
SCATTERED: dict[str, Callable[[Array, Array], Any]] = {
    "SCATTER_UPDATE": lambda old, new: new,
    "SCATTER_ADD": np.add,
    "SCATTER_SUB": np.subtract,
    "SCATTER_MUL": np.multiply,
    "SCATTER_DIV": np.divide,
    "SCATTER_MAX": np.maximum,
    "SCATTER_MIN": np.minimum,
}

LEFT, RIGHT = IMAGES[:, :, :1, :1], IMAGES[:, :, 1:2, :1]
W = RNG.standard_normal((6, 5)).astype(np.float32)  # [size, words]
BIAS = RNG.standard_normal(6).astype(np.float32)
WORDS = np.array([[0, 4, 2], [1, 1, 3]], np.float32)
GAMMA, BETA = (RNG.standard_normal((3, 4)).astype(np.float32) for _ in range(2))
MASKS = {"beginMasks": [False, True, False], "endMasks": [False, False, True]}
PARTS = {"beginIds": [0, 0, 1], "endIds": [2, 2, 0], "strides": [1, 1, 2]}

# Layer, inputs, fields, what it gives.
CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = [
    # elementwise
    *(("unary", (POSITIVE,), {"type": kind, "alpha": 1.5}, f(POSITIVE)) for kind, f in UNARY.items()),
    ("unary", (A,), {"type": "ABS", "scale": 2.0, "shift": -0.5}, np.abs(2 * A - 0.5)),
    ("unary", (POSITIVE,), {"type": "LOG", "epsilon": 0.25}, np.log(POSITIVE + 0.25)),
    ("asinh", (A,), {}, np.arcsinh(A)),
    ("acosh", (POSITIVE + 1,), {}, np.arccosh(POSITIVE + 1)),
    ("clampedReLU", (A,), {"alpha": 0.25, "beta": 0.75}, np.minimum(np.where(A >= 0, A, 0.25 * A), 0.75)),
    ("subtractBroadcastable", (A, B), {}, A - B),
    ("multiplyBroadcastable", (A, B), {}, A * B),
    ("divideBroadcastable", (A, B), {}, A / B),
    ("floorDivBroadcastable", (A, B), {}, np.floor(A / B)),
    ("powBroadcastable", (POSITIVE, B), {}, POSITIVE**B),
    ("maxBroadcastable", (A, B), {}, np.maximum(A, B)),
    ("minBroadcastable", (A, B), {}, np.minimum(A, B)),
    ("notEqual", (TRUTH, OTHER), {}, TRUTH != OTHER),
    ("notEqual", (TRUTH,), {"alpha": 1.0}, TRUTH != 1),
    ("lessThan", (TRUTH, OTHER), {}, TRUTH < OTHER),
    ("lessEqual", (TRUTH, OTHER), {}, TRUTH <= OTHER),
    ("greaterEqual", (TRUTH, OTHER), {}, TRUTH >= OTHER),
    ("greaterEqual", (TRUTH,), {"alpha": 1.0}, TRUTH >= 1),
    ("logicalAnd", (TRUTH, OTHER), {}, np.logical_and(TRUTH, OTHER)),
    ("logicalOr", (TRUTH, OTHER), {}, np.logical_or(TRUTH, OTHER)),
    ("logicalXor", (TRUTH, OTHER), {}, np.logical_xor(TRUTH, OTHER)),
    ("logicalNot", (TRUTH,), {}, TRUTH == 0),
    ("whereBroadcastable", (TRUTH[:, :1], TRUTH, OTHER), {}, np.where(TRUTH[:, :1] != 0, TRUTH, OTHER)),
    # reductions
    *(
        ("reduce", (POSITIVE,), {"mode": kind, "axis": word}, f(POSITIVE, axis=axes, keepdims=True))
        for kind, f in REDUCE.items()
        for word, axes in (("CHW", (0, 1, 2)), ("HW", (1, 2)), ("C", 0), ("H", 1), ("W", 2))
    ),
    ("reduce", (A,), {"mode": "ARGMAX", "axis": "H"}, np.argmax(A, 1, keepdims=True)),
    *((kind, (POSITIVE,), {"axes": [0, -1]}, f(POSITIVE, axis=(0, 2))) for kind, f in REDUCTIONS.items()),
    *(
        (kind, (POSITIVE,), {"axes": [1], "keepDims": True}, f(POSITIVE, axis=1, keepdims=True))
        for kind, f in REDUCTIONS.items()
    ),
    *((kind, (POSITIVE,), {"reduceAll": True}, [f(POSITIVE)]) for kind, f in REDUCTIONS.items()),
    ("argMax", (A,), {"axis": 1}, np.argmax(A, 1, keepdims=True)),
    ("argMax", (BOXED[0],), {"axis": 0, "removeDim": True}, [1]),
    ("argMin", (A,), {"axis": -1, "removeDim": True}, np.argmin(A, -1)),
    ("argMin", (np.zeros(4, np.float32),), {"axis": 0}, [0]),
    ("cumSum", (A,), {"axis": 1}, np.cumsum(A, 1)),
    ("cumSum", (A,), {"axis": -1, "reverse": True}, np.cumsum(A[..., ::-1], 2)[..., ::-1]),
    ("cumSum", (A,), {"axis": 0, "excludeFinalSum": True}, np.stack([0 * A[0], A[0]])),
    # products and lookups
    (
        "batchedMatmul",
        (SQUARE, A),
        {"transposeA": True, "transposeB": True},
        SQUARE.swapaxes(1, 2) @ A.swapaxes(1, 2),
    ),
    ("batchedMatmul", (A[0, 0], SQUARE), {}, A[0, 0] @ SQUARE[:, None]),
    ("batchedMatmul", (A, W[:4]), {}, A @ W[:4]),
    (
        "batchedMatmul",
        (SQUARE,),
        {
            "weightMatrixFirstDimension": 5,
            "weightMatrixSecondDimension": 6,
            "hasBias": True,
            "weights": W,
            "bias": BIAS,
        },
        SQUARE @ W.T + BIAS,
    ),
    (
        "embeddingND",
        (WORDS[..., None],),
        {"vocabSize": 5, "embeddingSize": 6, "hasBias": True, "weights": W, "bias": BIAS},
        W.T[WORDS.astype(int)] + BIAS,
    ),
    (
        "embedding",
        (WORDS.reshape(2, 3, 1, 1, 1),),
        {"inputDim": 5, "outputChannels": 6, "weights": W},
        W.T[WORDS.astype(int)].reshape(2, 3, 6, 1, 1),
    ),
    ("dot", (LEFT, RIGHT), {}, (LEFT * RIGHT).sum(1, keepdims=True)),
    (
        "dot",
        (LEFT, RIGHT),
        {"cosineSimilarity": True},
        torch_of(F.cosine_similarity, LEFT, RIGHT)[:, None],
    ),
    # normalization
    (
        "l2normalize",
        (IMAGES,),
        {"epsilon": 0.5},
        IMAGES / np.sqrt((IMAGES**2).sum((1, 2, 3), keepdims=True) + 0.5),
    ),
    (
        "layerNormalization",
        (A,),
        {"normalizedShape": [3, 4], "eps": 1e-3, "gamma": GAMMA, "beta": BETA},
        torch_of(
            F.layer_norm,
            A,
            normalized_shape=(3, 4),
            weight=torch.from_numpy(GAMMA),
            bias=torch.from_numpy(BETA),
            eps=1e-3,
        ),
    ),
    # shapes
    ("getShape", (A,), {}, [2, 3, 4]),
    ("expandDims", (A,), {"axes": [0, 2, -1]}, A.reshape(1, 2, 1, 3, 4, 1)),
    ("flattenTo2D", (IMAGES,), {"axis": 2}, IMAGES.reshape(6, 20)),
    ("flattenTo2D", (IMAGES,), {"axis": -1}, IMAGES.reshape(24, 5)),
    ("flatten", (IMAGES,), {"mode": "CHANNEL_FIRST"}, IMAGES.reshape(2, 60, 1, 1)),
    ("flatten", (IMAGES,), {"mode": "CHANNEL_LAST"}, IMAGES.transpose(0, 2, 3, 1).reshape(2, 60, 1, 1)),
    ("permute", (IMAGES[None],), {"axis": [0, 3, 1, 2]}, IMAGES.transpose(0, 3, 1, 2)[None]),
    ("reshapeLike", (A, np.zeros((6, 4), np.float32)), {}, A.reshape(6, 4)),
    ("reshapeDynamic", (A, np.array([4, -1])), {}, A.reshape(4, 6)),
    ("rankPreservingReshape", (A,), {"targetShape": [0, -1, 6]}, A.reshape(2, 2, 6)),
    ("concatND", (A, 2 * A), {"axis": -2}, np.concatenate([A, 2 * A], -2)),
    ("concatND", (A, 2 * A), {"axis": 1, "interleave": True}, np.stack([A, 2 * A], 2).reshape(2, 6, 4)),
    ("reverseSeq", (A, np.array([1, 3])), {"batchAxis": 0, "sequenceAxis": 1}, backwards(A, [1, 3])),
    (
        "reverseSeq",
        (A.transpose(1, 2, 0), np.array([2, 3])),
        {"batchAxis": -1, "sequenceAxis": 0},
        backwards(A, [2, 3]).transpose(1, 2, 0),
    ),
    ("broadcastToLike", (B, A), {}, np.broadcast_to(B, A.shape)),
    ("broadcastToStatic", (B,), {"targetShape": [2, 3, 4]}, np.broadcast_to(B, A.shape)),
    ("broadcastToDynamic", (B, np.array([2, 3, 4])), {}, np.broadcast_to(B, A.shape)),
    # parts
    ("slice", (IMAGES,), {"startIndex": 1, "endIndex": -1, "axis": "WIDTH_AXIS"}, IMAGES[..., 1:-1]),
    ("slice", (IMAGES,), {"endIndex": 3, "stride": 2, "axis": "CHANNEL_AXIS"}, IMAGES[:, 0:3:2]),
    ("sliceStatic", (A,), PARTS | MASKS | {"squeezeMasks": [False] * 3}, A[0:2, :2, 1::2]),
    ("sliceStatic", (A,), PARTS | MASKS | {"squeezeMasks": [True, False, False]}, A[0, :2, 1::2]),
    (
        "sliceStatic",
        (A,),
        {
            "beginIds": [0, -1, 3],
            "endIds": [2, 0, 0],
            "strides": [1, -1, -2],
            "beginMasks": [False] * 3,
            "endMasks": [False, True, False],
            "squeezeMasks": [False] * 3,
        },
        A[0:2, -1::-1, 3:0:-2],
    ),
    (
        "sliceDynamic",
        (A, np.array([0, 1, 1]), np.array([2, 3, -1])),
        {"strides": [1, 1, 2], "endMasks": [False, True, False], "beginMasks": [True, False, False]},
        A[:2, 1:, 1:-1:2],
    ),
    (
        "sliceDynamic",
        (A, np.array([1, 0, 0])),
        {"endIds": [2, 3, 4], "squeezeMasks": [True, False, False]},
        A[1],
    ),
    ("sliceBySize", (A, np.array([1])), {"axis": 2, "size": 2}, A[:, :, 1:3]),
    ("sliceBySize", (A, np.array([-2])), {"axis": -1, "size": 2}, A[:, :, 2:]),
    ("constantPad", (A,), {"value": 7.0, "padAmounts": [1, 0, 0, 2, 3, 1]}, padded([1, 0, 0, 2, 3, 1])),
    (
        "constantPad",
        (A, np.array([0, 0, 1, 1, 0, 3])),
        {"value": 7.0},
        padded([0, 0, 1, 1, 0, 3]),
    ),
    (
        "constantPad",
        (A,),
        {"value": 7.0, "padAmounts": [4, 0, 0, 5, 0, 2], "padToGivenOutputSizeMode": True},
        padded([2, 0, 0, 2, 0, 0]),
    ),
    ("gatherND", (A, np.array([[1, 2], [0, 0]])), {}, A[[1, 0], [2, 0]]),
    ("gatherND", (A, np.array([[[-1, 2, 3]]])), {}, [[A[-1, 2, 3]]]),
    (
        "gatherAlongAxis",
        (A, np.argsort(A, 1)),
        {"axis": 1},
        np.sort(A, 1),
    ),
    ("matrixBandPart", (SQUARE,), {"numLower": 1, "numUpper": 2}, np.triu(np.tril(SQUARE, 2), -1)),
    ("matrixBandPart", (SQUARE,), {"numLower": -1, "numUpper": 0}, np.tril(SQUARE)),
    ("matrixBandPart", (SQUARE,), {"numLower": -1, "numUpper": -1}, SQUARE),
    ("lowerTriangular", (SQUARE,), {"k": -1}, np.tril(SQUARE, -1)),
    ("upperTriangular", (SQUARE,), {"k": 1}, np.triu(SQUARE, 1)),
    ("whereNonZero", (TRUTH,), {}, np.argwhere(TRUTH)),
    ("argSort", (TRUTH,), {"axis": -1}, np.argsort(TRUTH, -1, kind="stable")),
    ("argSort", (TRUTH,), {"axis": 0, "descending": True}, np.argsort(-TRUTH, 0, kind="stable")),
    # made from nothing
    ("rangeDynamic", (np.array([7]),), {"startValue": 1.0, "stepSizeValue": 2.5}, np.arange(1, 7, 2.5)),
    ("rangeDynamic", (np.array([-1]), np.array([2]), np.array([-1])), {}, [2, 1, 0]),
    ("fillDynamic", (np.array([2, 3]),), {"value": 1.5}, np.full((2, 3), 1.5)),
    ("loadConstant", (), {"shape": [2, 3, 1], "data": BOXED}, BOXED.reshape(1, 1, 2, 3, 1)),
    ("reduceMax", (BOXED,), {"axes": [1]}, BOXED.max(1)),
]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(
    "case", CASES, ids=lambda case: f"{case[0]} {case[2] if len(str(case[2])) < 60 else ''}"
)
def test_a_layer(case: tuple[str, tuple[Any, ...], dict[str, Any], Any], dynamic: bool) -> None:
    kind, inputs, fields, expected = case
    found = one(kind, *inputs, dynamic=dynamic, **fields)
    assert found.shape == np.shape(expected)
    np.testing.assert_allclose(found, numbers(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", SCATTERED)
def test_scatter_to_places(mode: str) -> None:
    places, updates = np.array([[1, 2], [0, 0]]), RNG.standard_normal((2, 4)).astype(np.float32)
    expected = A.copy()
    for place, new in zip(places, updates, strict=True):
        expected[tuple(place)] = SCATTERED[mode](A[tuple(place)], new)
    found = one("scatterND", A, places, updates, mode=mode)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", SCATTERED)
@pytest.mark.parametrize("axis", [1, -2])
def test_scatter_along_an_axis(mode: str, axis: int) -> None:
    indices = np.array([[[2, 0, 1, 1]], [[0, 0, 2, 1]]])
    updates = RNG.standard_normal(indices.shape).astype(np.float32)
    expected = A.copy()
    for i, j, k in np.ndindex(*indices.shape):
        row = indices[i, j, k]
        expected[i, row, k] = SCATTERED[mode](A[i, row, k], updates[i, j, k])
    found = one("scatterAlongAxis", A, indices, updates, axis=axis, mode=mode)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [({"numSplits": 2}, [2, 2]), ({"numSplits": 3}, [2, 1, 1]), ({"splitSizes": [1, 3]}, [1, 3])],
)
def test_parts_of_an_axis(fields: dict[str, Any], sizes: list[int]) -> None:
    found = several("splitND", len(sizes), A, axis=-1, **fields)
    for part, expected in zip(found, np.split(A, np.cumsum(sizes)[:-1], -1), strict=True):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("bottom", [False, True])
@pytest.mark.parametrize("given", [False, True])
def test_the_greatest_and_of_equals_the_first(bottom: bool, given: bool) -> None:
    x = np.array([[3, 1, 3, 0, 1], [2, 2, 2, 2, 2]], np.float32)
    order = np.argsort(x if bottom else -x, -1, kind="stable")[:, :3]
    inputs, fields = ((x, np.array([3])), {}) if given else ((x,), {"K": 3})
    values, indices = several("topK", 2, *inputs, axis=-1, useBottomK=bottom, **fields)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, -1))


SHAPE = [40, 50]
RANDOM: dict[str, tuple[dict[str, Any], float, float]] = {  # fields, mean, deviation
    "randomNormal": ({"mean": 3.0, "stdDev": 0.5}, 3.0, 0.5),
    "randomUniform": ({"minVal": -1.0, "maxVal": 2.0}, 0.5, 3 / np.sqrt(12)),
    "randomBernoulli": ({"prob": 0.25}, 0.25, np.sqrt(0.25 * 0.75)),
}


@pytest.mark.parametrize("kind", ["randomNormal", "randomUniform", "randomBernoulli"])
@pytest.mark.parametrize("form", ["Like", "Static", "Dynamic"])
def test_random_values_have_their_distribution(kind: str, form: str) -> None:
    fields, mean, deviation = RANDOM[kind]
    inputs: dict[str, tuple[Any, ...]] = {
        "Like": (np.zeros(SHAPE, np.float32),),
        "Static": (),
        "Dynamic": (np.array(SHAPE),),
    }
    if form == "Static":
        fields = fields | {"outputShape": SHAPE}
    found, again = (one(f"{kind}{form}", *inputs[form], seed=7, **fields) for _ in range(2))
    np.testing.assert_array_equal(found, again)
    assert (one(f"{kind}{form}", *inputs[form], seed=-1, **fields) != found).any()
    assert found.shape == tuple(SHAPE)
    # Four deviations of the mean of 2000 draws, and a tenth of the deviation.
    assert abs(found.mean() - mean) < 4 * deviation / np.sqrt(found.size)
    assert abs(found.std() - deviation) < 0.1 * deviation
    if kind == "randomUniform":
        assert ((found >= -1) & (found <= 2)).all()
    if kind == "randomBernoulli":
        assert set(np.unique(found)) == {0, 1}


@pytest.mark.parametrize("logits", [False, True])
def test_classes_are_drawn_by_their_probabilities(logits: bool) -> None:
    shares = np.array([[0.1, 0.0, 0.6, 0.3], [0.25, 0.25, 0.5, 0.0]], np.float32)
    given = np.log(np.maximum(shares, 1e-10)) + 2 if logits else shares
    found = one("categoricalDistribution", given, seed=3, numSamples=2000, isLogits=logits)
    assert found.shape == (2, 2000)
    counts = np.stack([np.bincount(row.astype(int), minlength=4) for row in found])
    np.testing.assert_allclose(counts / 2000, shares, atol=0.05)  # over four deviations


def suppressed(boxes: Array, scores: Array, least: float, overlap: float, most: int, own: bool) -> list[int]:
    """Greedy, in Python: the best box first, and none that overlaps one that was taken."""
    edges = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)

    def shared(a: Array, b: Array) -> float:
        sides = np.maximum(0, np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]))
        areas = [np.prod(edge[2:] - edge[:2]) for edge in (a, b)]
        return float(np.prod(sides) / (sum(areas) - np.prod(sides)))

    taken: list[int] = []
    for box in np.argsort(-scores.max(1), kind="stable"):
        rivals = [other for other in taken if not own or scores[other].argmax() == scores[box].argmax()]
        if scores[box].max() > least and all(shared(edges[box], edges[o]) <= overlap for o in rivals):
            taken.append(int(box))
    return taken[:most]


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("most", [3, 20])
def test_boxes_that_overlap_are_suppressed(own: bool, most: int) -> None:
    boxes = np.concatenate([RNG.random((2, 9, 2)), 0.2 + 0.4 * RNG.random((2, 9, 2))], 2).astype(np.float32)
    scores = RNG.random((2, 9, 3)).astype(np.float32)
    fields = {"iouThreshold": 0.2, "scoreThreshold": 0.5, "maxBoxes": most, "perClassSuppression": own}
    found = several("NonMaximumSuppression", 4, boxes, scores, **fields)
    for image in range(2):
        kept = suppressed(boxes[image], scores[image], 0.5, 0.2, most, own)
        count = len(kept)
        assert found[3][image] == count > 1
        assert found[2][image].tolist() == kept + [-1] * (most - count)
        np.testing.assert_array_equal(found[0][image, :count], boxes[image][kept])
        np.testing.assert_array_equal(found[1][image, :count], scores[image][kept])
        assert not found[0][image, count:].any()


def test_the_place_of_the_greatest_in_several_axes_is_refused() -> None:
    with pytest.raises(UnsupportedOpsError, match="ARGMAX along HW: one place in several axes"):
        one("reduce", A, mode="ARGMAX", axis="HW")


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize(("axis", "size", "step"), [(0, 2, 1), (1, 3, 2), (-1, 5, 3), (1, 7, 1), (-3, 1, 2)])
def test_sliding_windows(axis: int, size: int, step: int, dynamic: bool) -> None:
    x = RNG.standard_normal((3, 7, 6)).astype(np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis)  # the window is the last axis
    place = axis % 3
    expected = np.moveaxis(windows, -1, place + 1)[(slice(None),) * place + (slice(None, None, step),)]
    found = one("slidingWindows", x, dynamic=dynamic, axis=axis, windowSize=size, step=step)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [0, 8])
def test_windows_that_do_not_fit(size: int) -> None:
    with pytest.raises(ModelFormatError, match=f"windows of {size} elements over 7"):
        one("slidingWindows", np.ones((3, 7)), axis=1, windowSize=size, step=1)
