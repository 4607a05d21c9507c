"""What an error looks like, said in words."""

from __future__ import annotations

import numpy as np
import pytest

from coremlops.verify.locate.causes import error_words

RNG = np.random.default_rng(0)


def test_a_lost_term_is_an_offset() -> None:
    got = RNG.standard_normal(50)
    kind, words = error_words(got + 0.627, got)
    assert kind == "offset"
    assert "+0.627" in words


def test_a_factor_is_a_wrong_constant() -> None:
    got = RNG.standard_normal((1, 4, 9))
    kind, words = error_words(got * 3, got)
    assert kind == "constant"
    assert "3 times" in words


def test_single_channels_are_named() -> None:
    expected = RNG.standard_normal((1, 16, 9))
    got = expected.copy()
    got[:, 11] += RNG.standard_normal(9)
    kind, words = error_words(expected, got)
    assert kind == "constant"
    assert "channels 11 of 16" in words


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_counted(value: float) -> None:
    expected = RNG.standard_normal(8)
    got = expected.copy()
    got[3] = value
    assert error_words(expected, got) == ("unknown", "1 of its 8 values are not finite")


def test_an_infinity_where_the_source_has_a_large_number_is_an_overflow() -> None:
    kind, words = error_words(np.array([1.0, -3.4e38]), np.array([1.0, -np.inf]))
    assert kind == "overflow"
    assert "reach 3.4e+38" in words


def test_noise_has_no_name() -> None:
    assert error_words(RNG.standard_normal(80), RNG.standard_normal(80))[0] == "unknown"
