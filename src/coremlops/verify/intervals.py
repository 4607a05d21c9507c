"""How sure a number is that was measured on some examples: seeded intervals, by resampling the examples.

All statistics here are functions of the means of a few columns, one row an example: an average of its one
column, a word error rate the mean number of errors over the mean number of words, a signal to noise ratio the
mean power over the mean error. Sources: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
13 (percentile intervals); Wilson, Probable Inference, 1927, for shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Interval: TypeAlias = tuple[float, float]

DRAWS = 2000
# With more examples, the means are drawn from the normal distribution that they have by then.
MAX_RESAMPLED = 5000


def wilson(hits: int, count: int, confidence: float = 0.95) -> Interval:
    """The interval of a share, `hits` of `count`. It is no point for 0 of n and n of n either."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, weight = hits / count, z * z / count
    middle = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * math.sqrt(share * (1 - share) / count + weight / (4 * count))
    return (0.0 if hits == 0 else max(middle - half, 0.0), 1.0 if hits == count else min(middle + half, 1.0))


def resampled(
    rows: NDArray[Any],
    statistic: Callable[[NDArray[Any]], NDArray[Any]],
    confidence: float = 0.95,
    *,
    seed: int = 0,
) -> Interval | None:
    """The percentile interval of `statistic` over examples, `rows` [n, k].

    `statistic`: means [draws, k] -> [draws]. None for fewer than two examples, which say nothing about
    how much examples differ, and where a draw has no finite value.
    """
    rows = np.asarray(rows, np.float64)
    count = len(rows)
    if count < 2 or not np.isfinite(rows).all():
        return None
    rng = np.random.default_rng(seed)
    if count <= MAX_RESAMPLED:
        means = np.empty((DRAWS, rows.shape[1]))
        for draw in range(DRAWS):
            means[draw] = rows[rng.integers(0, count, count)].mean(0)
    else:
        covariance = np.atleast_2d(np.cov(rows, rowvar=False)) / count
        means = rng.multivariate_normal(rows.mean(0), covariance, DRAWS, method="svd")
    with np.errstate(divide="ignore", invalid="ignore"):
        values = statistic(means)
    if not np.isfinite(values).all():
        return None
    low, high = np.quantile(values, (0.5 - confidence / 2, 0.5 + confidence / 2))
    return float(low), float(high)


def first_mean(means: NDArray[Any]) -> NDArray[Any]:
    """The average of the first column."""
    return means[:, 0]
