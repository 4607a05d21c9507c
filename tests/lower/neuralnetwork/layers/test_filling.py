"""Constants, ranges, fills, shapes and random values against NumPy.

Of random values the shape, the range and the first moments are known; their sequence is not Apple's.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.lower.neuralnetwork.layers.case import ENCODINGS, Case, case, check, draws
from tests.networks import Array, one

RNG = draws(__name__)
X = RNG.standard_normal((2, 1, 3))
MANY = (40, 250)  # elements whose moments are looked at: 6 deviations of a mean of 10,000 are 0.06


def constant(kind: str, shape: tuple[int, ...], encoding: str) -> Case:
    stored, array = ENCODINGS[encoding](RNG.standard_normal(shape), 0)
    wanted = array[None, None] if kind == "loadConstant" else array
    return case(kind, [], wanted, label=f"{shape} {encoding}", shape=shape, data=stored)


def ranged(inputs: int, start: float, end: float, step: float) -> Case:
    given = [[end], [start], [step]][:inputs]
    fields: dict[str, Any] = {"stepSizeValue": step} | ({"startValue": start} if inputs < 2 else {})
    if inputs == 3:
        fields = {"startValue": 7.0, "stepSizeValue": 7.0}  # ignored
    label = f"{inputs} {start} {end} {step}"
    return case("rangeDynamic", given, np.arange(start, end, step), label=label, **fields)


def one_hot(indices: Any, size: int, axis: int, on: float, off: float, second: bool = False) -> Case:
    """What is out of range, negative numbers among them, is off everywhere."""
    x = np.asarray(indices)
    hot = np.where(x[..., None] == np.arange(size), on, off)
    place = axis % (x.ndim + 1)
    return case(
        "oneHot",
        [x, [size]] if second else [x],
        np.moveaxis(hot, -1, place),
        label=f"{x.shape} {size} {axis} {on} {off} {second}",
        oneHotVectorSize=0 if second else size,
        axis=axis,
        onValue=on,
        offValue=off,
    )


def moments(mean: float, deviation: float, check_: Callable[[Array], Any]) -> Callable[[Array], None]:
    """Whether an output has about that mean and deviation, and all its elements the property."""

    def judge(found: Array) -> None:
        assert found.shape == MANY
        assert found.dtype == np.float32
        assert abs(found.mean() - mean) <= 0.06 * deviation
        assert abs(found.std() - deviation) <= 0.06 * deviation
        assert np.all(check_(found))
        if deviation:
            rows = np.corrcoef(found[:2])  # one row says nothing of the next
            assert abs(rows[0, 1]) < 0.4

    return judge


def randoms(kind: str, judge: Callable[[Array], None], **fields: Any) -> list[Case]:
    like, label = np.zeros(MANY), str(fields)
    return [
        case(f"random{kind}Like", [like], judge, label=label, **fields),
        case(f"random{kind}Static", [], judge, label=label, outputShape=MANY, **fields),
        case(f"random{kind}Dynamic", [MANY], judge, label=label, **fields),
    ]


def categorical(logits: bool, eps: float = 0.0, temperature: float = 0.0) -> Case:
    """Rows of probabilities 0.5, 0.3, 0.2 and 0; `temperature` takes them to its inverse as power."""
    chances = np.array([0.5, 0.3, 0.2, 0.0])
    x = np.log(np.maximum(chances, 1e-30)) + 3 if logits else chances
    share = chances if logits else chances + eps
    share = share ** (1 / (temperature or 1))
    share /= share.sum()

    def judge(found: Array) -> None:
        assert found.shape == (2, 1, 10_000)
        for row in found.reshape(2, -1):
            counted = np.bincount(row.astype(int), minlength=4) / row.size
            np.testing.assert_allclose(counted, share, atol=0.03)

    return case(
        "categoricalDistribution",
        [np.tile(x, (2, 1, 1))],
        judge,
        label=f"{logits} {eps} {temperature}",
        seed=5,
        numSamples=10_000,
        isLogits=logits,
        eps=eps,
        temperature=temperature,
    )


CASES = [
    case("copy", [X], X),
    *(constant("loadConstant", (2, 3, 4), encoding) for encoding in ENCODINGS),
    *(constant("loadConstantND", (3, 4), encoding) for encoding in ENCODINGS),
    *(constant("loadConstantND", shape, "float32") for shape in ((3,), (2, 1, 3, 2))),
    *(
        case(
            "rangeStatic",
            [],
            np.arange(start, end, step),
            label=f"{start} {end} {step}",
            startValue=start,
            endValue=end,
            stepSizeValue=step,
        )
        for start, end, step in ((0.0, 5.0, 1.0), (-1.0, 2.0, 0.5), (4.0, -3.0, -2.0), (1.0, 7.5, 3.0))
    ),
    *(ranged(inputs, *limits) for inputs in (1, 2, 3) for limits in ((0.0, 5.0, 1.0), (-1.0, 2.2, 0.5))),
    ranged(3, 4.0, -3.0, -2.0),
    *(
        case("getShape", [np.zeros(shape)], [*shape], label=str(shape))
        for shape in ((3,), (2, 3), (1, 2, 1, 3, 4))
    ),
    case("fillLike", [X], np.full(X.shape, 1.5), value=1.5),
    case("fillStatic", [], np.full((2, 3), -2.5), value=-2.5, targetShape=[2, 3]),
    case("fillDynamic", [[2, 1, 3]], np.full((2, 1, 3), 0.5), value=0.5),
    case("broadcastToLike", [X, np.zeros((2, 4, 3))], np.broadcast_to(X, (2, 4, 3))),
    case(
        "broadcastToLike", [X[0], np.zeros((4, 2, 3))], np.broadcast_to(X[0], (4, 2, 3)), label="of less rank"
    ),
    case("broadcastToStatic", [X], np.broadcast_to(X, (2, 4, 3)), targetShape=[2, 4, 3]),
    case("broadcastToDynamic", [X, [5, 2, 4, 3]], np.broadcast_to(X, (5, 2, 4, 3))),
    one_hot([2, 0], 4, -1, 5.0, -1.0),
    one_hot([2, -1, 4, 3], 4, -1, 5.0, -1.0),
    one_hot([[2, 0, 1], [1, 1, 9]], 3, 1, 1.0, 0.0),
    one_hot([1, 0, 2], 5, 0, 1.0, 0.0),
    one_hot([[1, 0], [2, -2]], 3, -2, 2.0, 0.5),
    one_hot([1, 0, -3], 4, -1, 1.0, 0.0, second=True),
    *randoms("Normal", moments(2, 0.5, np.isfinite), seed=3, mean=2.0, stdDev=0.5),
    *randoms("Normal", moments(-1, 0, lambda x: x == -1), seed=-1, mean=-1.0),
    *randoms(
        "Uniform",
        moments(1.5, 3 / np.sqrt(12), lambda x: (x >= 0) & (x <= 3)),
        seed=3,
        minVal=0.0,
        maxVal=3.0,
    ),
    *randoms(
        "Uniform",
        moments(-1, 2 / np.sqrt(12), lambda x: (x >= -2) & (x <= 0)),
        seed=-1,
        minVal=-2.0,
        maxVal=0.0,
    ),
    *randoms("Bernoulli", moments(0.25, np.sqrt(0.1875), lambda x: (x == 0) | (x == 1)), seed=3, prob=0.25),
    *randoms("Bernoulli", moments(1, 0, lambda x: x == 1), seed=-1, prob=1.0),
    categorical(logits=False),
    categorical(logits=False, eps=0.25),
    categorical(logits=False, temperature=2.0),
    categorical(logits=True),
    categorical(logits=True, temperature=0.5),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)


@pytest.mark.parametrize("entry", [entry for entry in CASES if "'seed': 3" in str(entry)], ids=str)
def test_a_seed_gives_the_same_values_again(entry: Case) -> None:
    first, second = (entry.execute()["y0"] for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_no_mode_rounds_a_shape() -> None:
    """What is reshaped by it must have as many elements as before; fp16 holds no 3001."""
    assert one("getShape", np.zeros((3001, 1)), precision="float16").tolist() == [3001, 1]
