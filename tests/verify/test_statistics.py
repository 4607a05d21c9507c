"""Differences in numbers that JSON can hold."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from coremlops.verify.statistics import CEILING_DB, SMALLEST_PROBABILITY, difference, log_odds


def test_known_numbers() -> None:
    got = difference(np.array([3.0, -4.0]), np.array([3.0, -4.5]))
    assert got.max_abs == 0.5
    assert got.mean_abs == 0.25
    assert got.snr_db == pytest.approx(10 * math.log10(12.5 / 0.125))
    assert got.psnr_db == pytest.approx(10 * math.log10(16 / 0.125))


def test_equal_arrays_stand_at_the_ceiling() -> None:
    got = difference(np.ones((2, 3)), np.ones((2, 3)))
    assert (got.max_abs, got.snr_db, got.psnr_db) == (0.0, CEILING_DB, CEILING_DB)


def test_a_silent_signal_with_an_error_stands_at_the_bottom() -> None:
    got = difference(np.zeros(4), np.full(4, 1e-3))
    assert (got.snr_db, got.psnr_db) == (-CEILING_DB, -CEILING_DB)


def test_the_floor_keeps_an_undecided_net_from_failing_for_its_last_bit() -> None:
    got = difference(np.zeros(4), np.full(4, 1e-6), floor=0.1)
    assert got.snr_db == pytest.approx(100)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_none_and_the_worst(bad: float) -> None:
    got = difference(np.ones(3), np.array([1.0, bad, 1.0]))
    assert (got.max_abs, got.mean_abs, got.snr_db) == (None, None, -CEILING_DB)


@given(
    arrays.arrays(np.float64, 5, elements=st.floats(-1e30, 1e30)),
    arrays.arrays(np.float64, 5, elements=st.floats(-1e30, 1e30) | st.sampled_from([np.nan, np.inf])),
)
def test_any_two_arrays_give_strict_json(expected: np.ndarray, got: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        found = difference(expected, got)
    json.dumps(found.to_json(), allow_nan=False)
    assert -CEILING_DB <= found.snr_db <= CEILING_DB


def test_log_odds_give_back_logits_up_to_a_constant() -> None:
    logits = np.array([[1.0, -2.0, 0.5], [0.0, 0.0, 3.0]])
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(log_odds(shares), logits - logits.mean(1, keepdims=True), atol=1e-12)


def test_log_odds_show_what_probabilities_hide() -> None:
    one, other = np.array([[0.9995, 0.0005]]), np.array([[0.9990, 0.0010]])
    assert difference(one, other).snr_db > 60
    assert difference(log_odds(one), log_odds(other)).snr_db < 25


def test_probabilities_below_the_smallest_are_one() -> None:
    tiny = np.array([[1.0, 0.0]])
    other = np.array([[1.0, SMALLEST_PROBABILITY / 3]])
    assert np.array_equal(log_odds(tiny), log_odds(other))
