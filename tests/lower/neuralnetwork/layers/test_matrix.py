"""Products of matrices and lookups against NumPy in double precision."""

from typing import Any

import numpy as np
import pytest

from tests.lower.neuralnetwork.layers.case import ENCODINGS, Case, case, check, draws
from tests.networks import Array

RNG = draws(__name__)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def inner(shape: tuple[int, ...], encoding: str = "float32", biased: bool = True) -> Case:
    x = normal(*shape)
    rows = x.reshape(*shape[:-3], -1) if x.ndim > 3 else x
    weights, w = ENCODINGS[encoding](normal(4, rows.shape[-1]), 0)
    b, bias = ENCODINGS[encoding](normal(4), 0)
    wanted = rows @ w.T + (bias if biased else 0)
    return case(
        "innerProduct",
        [x],
        wanted.reshape(*wanted.shape, 1, 1) if x.ndim > 3 else wanted,
        label=f"{shape} {encoding} {biased}",
        inputChannels=rows.shape[-1],
        outputChannels=4,
        hasBias=biased,
        weights=weights,
        bias=b,
    )


def eight(array: Array) -> dict[str, Any]:
    """Weights of signed 8 bits: every number is a quarter of a whole one."""
    return {
        "int8RawValue": array.astype(np.int8).tobytes(),
        "quantization": {"numberOfBits": 8, "linearQuantization": {"scale": [0.25]}},
    }


# The largest is 127 halves, so that nothing is rounded: each number is a whole number of steps.
STEPS = RNG.integers(-126, 127, (3, 6)) / 2
STEPS[0, 0] = 63.5
INTEGERS = RNG.integers(-128, 128, (4, 6))
ROUNDED = np.array([[1.0, 0.3, -0.6]])


def matmul(a: tuple[int, ...], b: tuple[int, ...], *, turn_a: bool = False, turn_b: bool = False) -> Case:
    x, y = normal(*a), normal(*b)
    left = x[None] if x.ndim == 1 else x
    right = y[:, None] if y.ndim == 1 else y
    left = left.swapaxes(-1, -2) if turn_a else left
    right = right.swapaxes(-1, -2) if turn_b else right
    label = f"{a} {b} {turn_a} {turn_b}"
    return case("batchedMatmul", [x, y], left @ right, label=label, transposeA=turn_a, transposeB=turn_b)


def matrix(shape: tuple[int, ...], encoding: str = "float32", biased: bool = True) -> Case:
    """A product with the layer's own matrix, which is stored column by column; the flags are ignored."""
    x = normal(*shape)
    weights, w = ENCODINGS[encoding](normal(4, shape[-1]), 0)
    b, bias = ENCODINGS[encoding](normal(4), 0)
    return case(
        "batchedMatmul",
        [x],
        x @ w.T + (bias if biased else 0),
        label=f"{shape} {encoding} {biased}",
        weightMatrixFirstDimension=shape[-1],
        weightMatrixSecondDimension=4,
        transposeA=not biased,
        hasBias=biased,
        weights=weights,
        bias=b,
    )


def embedding(shape: tuple[int, ...], encoding: str = "float32", biased: bool = True) -> Case:
    x = RNG.integers(0, 7, (*shape, 1, 1, 1))
    weights, w = ENCODINGS[encoding](normal(4, 7), 0)
    b, bias = ENCODINGS[encoding](normal(4), 0)
    wanted = np.moveaxis(w[:, x[..., 0, 0, 0]], 0, -1) + (bias if biased else 0)
    return case(
        "embedding",
        [x],
        wanted[..., None, None],
        label=f"{shape} {encoding} {biased}",
        inputDim=7,
        outputChannels=4,
        hasBias=biased,
        weights=weights,
        bias=b,
    )


def embedding_nd(shape: tuple[int, ...], encoding: str = "float32", biased: bool = True) -> Case:
    x = RNG.integers(0, 7, (*shape, 1))
    weights, w = ENCODINGS[encoding](normal(4, 7), 0)
    b, bias = ENCODINGS[encoding](normal(4), 0)
    return case(
        "embeddingND",
        [x],
        np.moveaxis(w[:, x[..., 0]], 0, -1) + (bias if biased else 0),
        label=f"{shape} {encoding} {biased}",
        vocabSize=7,
        embeddingSize=4,
        hasBias=biased,
        weights=weights,
        bias=b,
    )


def dot(shape: tuple[int, ...], cosine: bool) -> Case:
    x, y = normal(*shape), normal(*shape)
    wanted = (x * y).sum(-3, keepdims=True)
    if cosine:
        wanted = wanted / (
            np.linalg.norm(x, axis=-3, keepdims=True) * np.linalg.norm(y, axis=-3, keepdims=True)
        )
    return case("dot", [x, y], wanted, label=f"{shape} {cosine}", cosineSimilarity=cosine)


CASES = [
    *(inner(shape) for shape in ((6,), (2, 6), (2, 3, 6), (2, 6, 1, 1), (2, 3, 2, 2), (2, 3, 1, 2, 2))),
    *(inner((2, 1, 6, 1, 1), encoding) for encoding in ENCODINGS),
    inner((2, 6), biased=False),
    case(
        "innerProduct",
        [STEPS],
        STEPS @ (INTEGERS / 4).T,
        label="int8",
        inputChannels=6,
        outputChannels=4,
        weights=eight(INTEGERS),
        int8DynamicQuantize=True,
    ),
    case(
        "innerProduct",
        [ROUNDED],
        np.round(ROUNDED * 127) / 127 @ np.eye(3) / 4,
        label="int8, rounded",
        inputChannels=3,
        outputChannels=3,
        weights=eight(np.eye(3)),
        int8DynamicQuantize=True,
    ),
    matmul((2, 3), (3, 4)),
    matmul((5, 1, 2, 3), (4, 3, 2)),
    matmul((2, 2, 3), (2, 4, 3), turn_b=True),
    matmul((2, 3, 2), (3, 4), turn_a=True),
    matmul((3, 2), (4, 3), turn_a=True, turn_b=True),
    matmul((3,), (3, 2)),
    matmul((4, 2, 3), (3,)),
    matmul((3,), (3,)),
    matmul((3,), (2, 3, 4)),
    *(matrix(shape) for shape in ((3,), (2, 3), (2, 5, 3), (2, 1, 5, 3))),
    *(matrix((2, 3), encoding) for encoding in ENCODINGS),
    matrix((2, 3), biased=False),
    case(
        "batchedMatmul",
        [STEPS],
        STEPS @ (INTEGERS / 4).T,
        label="int8",
        weightMatrixFirstDimension=6,
        weightMatrixSecondDimension=4,
        weights=eight(INTEGERS),
        int8DynamicQuantize=True,
    ),
    *(embedding(shape) for shape in ((3,), (3, 2))),
    *(embedding((3, 2), encoding) for encoding in ENCODINGS),
    embedding((2,), biased=False),
    *(embedding_nd(shape) for shape in ((3,), (3, 2), (2, 1, 3), (1, 2, 2, 2))),
    *(embedding_nd((3,), encoding) for encoding in ENCODINGS),
    embedding_nd((2,), biased=False),
    *(dot(shape, cosine) for shape in ((4, 1, 1), (2, 4, 1, 1), (1, 2, 4, 1, 1)) for cosine in (False, True)),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
