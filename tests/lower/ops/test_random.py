"""Random numbers, judged by their distribution; each bound is more than five standard errors wide."""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Ref
from coremlops.runtime.session import Session
from tests.lower.programs import Array, function, lower, operation, run, typed

COUNT = 40_000


def draw(kind: str, dtype: str = "fp32", at_run_time: bool = False, **inputs: Any) -> Array:
    """COUNT numbers, of a shape that is known or not."""
    shape: Any = Ref("s") if at_run_time else [COUNT // 4, 4]
    axes = (None, None) if at_run_time else (COUNT // 4, 4)
    program = function(
        {"s": typed("int32", 2)}, [operation(kind, "y", typed(dtype, *axes), shape=shape, **inputs)]
    )
    found = run(program, s=np.array([COUNT // 4, 4], np.int32))["y"]
    assert found.shape == (COUNT // 4, 4)
    return found


@pytest.mark.parametrize("at_run_time", [False, True])
def test_uniform(at_run_time: bool) -> None:
    found = draw("random_uniform", at_run_time=at_run_time, low=-1.0, high=3.0)
    assert found.min() >= -1
    assert found.max() < 3
    parts = np.histogram(found, 8, (-1, 3))[0] / COUNT
    np.testing.assert_allclose(parts, 1 / 8, atol=0.01)


def test_uniform_never_reaches_its_end_in_fp16() -> None:
    assert draw("random_uniform", "fp16", low=1.0, high=1.004).max() < np.float16(1.004)


@pytest.mark.parametrize("at_run_time", [False, True])
def test_normal(at_run_time: bool) -> None:
    found = draw("random_normal", at_run_time=at_run_time, mean=2.0, stddev=3.0)
    below = [np.mean(found < 2 + 3 * z) for z in (-2, -1, 0, 1, 2)]
    np.testing.assert_allclose(below, [0.02275, 0.15866, 0.5, 0.84134, 0.97725], atol=0.013)
    np.testing.assert_allclose([found.mean(), found.std()], [2, 3], atol=0.08)


@pytest.mark.parametrize("prob", [0.0, 0.3, 1.0])
def test_bernoulli(prob: float) -> None:
    found = draw("random_bernoulli", prob=prob)
    assert set(np.unique(found)) <= {0, 1}
    assert abs(found.mean() - prob) < 0.013


@pytest.mark.parametrize(
    ("kind", "inputs", "value"),
    [
        ("random_normal", {"mean": 1.5, "stddev": 0.0}, 1.5),
        ("random_uniform", {"low": 0.5, "high": 0.5}, 0.5),
        ("random_uniform", {"low": float("nan"), "high": 1.0}, np.nan),
    ],
)
def test_a_distribution_of_one_value_does_not_end_the_process(kind: str, inputs: Any, value: float) -> None:
    np.testing.assert_array_equal(draw(kind, **inputs), np.full((COUNT // 4, 4), value, np.float32))


@pytest.mark.parametrize("mode", ["logits", "probs"])
@pytest.mark.parametrize("open_", [False, True])
def test_categorical(mode: str, open_: bool) -> None:
    shares = np.array([[[0.1, 0.2, 0.7]], [[0.5, 0.0, 0.5]]], np.float32)
    with np.errstate(divide="ignore"):
        x = shares if mode == "probs" else np.log(shares) + 3
    shape = (None,) * 3 if open_ else x.shape
    made = operation(
        "random_categorical", "y", typed("fp32", *shape[:2], COUNT), x=Ref("x"), mode=mode, size=COUNT
    )
    found = run(function({"x": typed("fp32", *shape)}, [made]), x=x)["y"]
    assert found.shape == (2, 1, COUNT)
    for row, share in zip(found[:, 0], shares[:, 0], strict=True):
        np.testing.assert_allclose(np.bincount(row.astype(int), minlength=3) / COUNT, share, atol=0.013)


@pytest.mark.parametrize(("mode", "value"), [("probs", 0.0), ("logits", np.nan)])
def test_a_distribution_of_nothing_gives_a_class_that_there_is(mode: str, value: float) -> None:
    x = np.full((1, 3), value, np.float32)
    made = operation("random_categorical", "y", typed("fp32", 1, 50), x=Ref("x"), mode=mode, size=50)
    found = run(function({"x": typed("fp32", 1, 3)}, [made]), x=x)["y"]
    assert set(found.ravel().tolist()) <= {0.0, 1.0, 2.0}


@pytest.mark.parametrize("kind", ["random_uniform", "random_normal", "random_bernoulli"])
def test_a_seed_makes_the_sequence_of_predictions_reproducible(kind: str) -> None:
    program = function(
        {"s": typed("int32", 1)},
        [operation(kind, "y", typed("fp32", 64), shape=[64], seed=7)],
    )
    feeds = {"s": np.array([1], np.int32)}
    sessions = [Session(lower(program)) for _ in range(2)]
    first, second = ([session.run(feeds)["y"] for _ in range(2)] for session in sessions)
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first[0], first[1])
