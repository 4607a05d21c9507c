"""Intervals against published numbers and against what they promise; metrics against plain counting."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from coremlops.errors import DataError
from coremlops.verify.intervals import first_mean, resampled, wilson
from coremlops.verify.metrics import METRICS, Outputs, measured
from coremlops.verify.slices import open_slices


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (29, 29, 0.8830, 1.0)],
)
def test_wilson_is_newcombes_table(hits: int, count: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17, 1998, table I, method 3."""
    assert wilson(hits, count) == pytest.approx((low, high), abs=5e-5)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        low, high = resampled(rng.normal(3, 1, (40, 1)), first_mean) or (0, 0)
        held += low <= 3 <= high
    assert 51 <= held <= 60


def test_many_examples_have_the_normal_interval() -> None:
    values = np.random.default_rng(2).normal(0, 1, (20_000, 1))
    low, high = resampled(values, first_mean) or (0, 0)
    half = 1.96 * values.std() / np.sqrt(20_000)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 5)


def test_one_example_has_no_interval() -> None:
    assert resampled(np.ones((1, 1)), first_mean) is None


def test_a_paired_difference_is_nearer_than_either_value() -> None:
    rng = np.random.default_rng(3)
    source = rng.normal(0, 1, (50, 1))
    found = measured("m", source - 0.1 + rng.normal(0, 0.01, (50, 1)), source, 0.95)
    assert found.drop_interval is not None
    assert found.model_interval is not None
    assert found.drop_interval[0] < 0.1 < found.drop_interval[1]
    assert np.diff(found.drop_interval)[0] < np.diff(found.model_interval)[0] / 20


def test_a_source_that_is_always_right_is_no_share() -> None:
    found = measured("correlation", np.array([[0.9], [0.8], [0.95]]), np.ones((3, 1)), 0.95)
    assert found.source_interval == (1.0, 1.0)


def test_errors_are_summed_before_they_are_divided() -> None:
    tokens: list[Outputs] = [{"t": np.array([1, 2, 3])}, {"t": np.array([4])}]
    rows = np.array(METRICS["token_errors"](tokens, [[1, 3], [5]]))
    assert rows.tolist() == [[1, 2], [1, 1]]
    assert measured("wer", rows, rows, 0.95).model == pytest.approx(2 / 3)


def test_the_precision_of_a_detector() -> None:
    """Two of two found, and a false box between them: (1 + 2/3) / 2."""
    boxes = np.array([[0.2, 0.2, 0.2, 0.2], [0.9, 0.9, 0.1, 0.1], [0.6, 0.6, 0.2, 0.2]])
    given = {"coordinates": boxes, "confidence": np.array([[0.9], [0.8], [0.7]])}
    truth = np.array([[0, 0.2, 0.2, 0.2, 0.2], [0, 0.61, 0.6, 0.2, 0.2]])
    assert METRICS["average_precision"]([given], [truth]) == [pytest.approx((1 + 2 / 3) / 2)]
    with pytest.raises(DataError, match="coordinates"):
        METRICS["average_precision"]([{"y": boxes}], [truth])


def test_slices_from_files(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"night": ["*/night_*"], "ada": ["ada/*"]}))
    assert open_slices(str(tmp_path / "s.json"))("ada/night_1.png", None) == ("night", "ada")
    (tmp_path / "t.csv").write_text("name,light\na.png,dim\nb.png,\n")
    by_light = open_slices(f"{tmp_path / 't.csv'}:light")
    assert (by_light("a.png", None), by_light("b.png", None), by_light("c.png", None)) == (("dim",), (), ())
    assert open_slices("label")("x", "ada") == ("ada",)
    (tmp_path / "s.json").write_text('{"night": "x"}')
    with pytest.raises(DataError, match="pattern"):
        open_slices(str(tmp_path / "s.json"))
    with pytest.raises(DataError, match="columns name and dark"):
        open_slices(f"{tmp_path / 't.csv'}:dark")
