"""K-means against the best clustering there is, found by trying every cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from coremlops.compress.kmeans import cluster, nearest

Array: TypeAlias = np.ndarray[Any, Any]


def least_error(values: Array, k: int) -> float:
    """The squared error of the best k clusters: the whole table of the textbook's dynamic programme."""
    exact = values.astype(np.float64)
    found, counts = np.unique(exact - exact.mean(), return_counts=True)
    sums = [np.concatenate(([0.0], np.cumsum(counts * found**power))) for power in range(3)]
    weight, total, squares = (entry[None] - entry[:, None] for entry in sums)
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = squares - np.where(weight > 0, total * total / weight, 0)
    cost[np.tril_indices(len(found) + 1, -1)] = np.inf
    best = cost[0]
    for _ in range(k - 1):
        best = (best[:, None] + cost).min(axis=0)
    return max(float(best[-1]), 0.0)


def error_of(values: Array, centres: Array) -> float:
    exact = values.astype(np.float64)
    return float((np.abs(exact[:, None] - centres[None]).min(axis=1) ** 2).sum())


def two_heaps(random: np.random.Generator, count: int) -> Array:
    return np.where(random.random(count) < 0.4, random.normal(-1, 0.05, count), random.normal(1, 0.3, count))


SHAPES: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "normal": lambda random, count: random.normal(0, 0.03, count),
    "heavy tails": lambda random, count: 0.03 * random.standard_t(2.5, count),
    "two heaps": two_heaps,
    "lumps": lambda random, count: (
        random.choice(random.normal(0, 1, 40), count) + random.normal(0, 0.003, count)
    ),
    "uniform": lambda random, count: random.uniform(-1, 1, count),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(("k", "count"), [(2, 900), (4, 300), (8, 900), (16, 900)])
def test_no_clustering_has_a_smaller_error(shape: str, dtype: type, k: int, count: int) -> None:
    random = np.random.default_rng(k)
    values: Array = np.stack([SHAPES[shape](random, count) for _ in range(3)]).astype(dtype)
    centres = cluster(values, k)
    for line, places in zip(values, centres, strict=True):
        assert error_of(line, places) == pytest.approx(least_error(line, k), rel=1e-9 if k < 16 else 1e-4)


def test_few_distinct_values_are_clustered_exactly() -> None:
    random = np.random.default_rng(5)
    values = random.choice(random.normal(0, 1, 250), (4, 5000)).astype(np.float32)
    for line, places in zip(values, cluster(values, 16), strict=True):
        assert error_of(line, places) == pytest.approx(least_error(line, 16), rel=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_many_clusters_are_nearly_the_best_ones(shape: str) -> None:
    values = SHAPES[shape](np.random.default_rng(0), 1200)[None].astype(np.float16)
    assert error_of(values[0], cluster(values, 64)[0]) == pytest.approx(least_error(values[0], 64), rel=2e-3)


def test_values_that_weigh_nothing_move_no_centre() -> None:
    values = np.array([[0.0, 0.0, 5.0, 1.0, 1.25, 9.0, 9.5]], np.float32)
    weights = np.array([[0, 0, 0, 1, 1, 1, 1]], np.float32)
    assert cluster(values, 2, weights=weights).tolist() == [[1.125, 9.25]]


def test_a_weight_counts_like_so_many_values() -> None:
    values = np.array([[0.0, 1.0, 2.0, 7.0]])
    weighted = cluster(values, 2, weights=np.array([[3, 1, 1, 1]]))
    np.testing.assert_allclose(weighted, cluster(np.array([[0.0, 0.0, 0.0, 1.0, 2.0, 7.0]]), 2), rtol=1e-12)


def test_fewer_values_than_clusters_are_kept_exactly() -> None:
    values = np.array([[3.0, -1.0, 3.0, 0.5], [2.0, 2.0, 2.0, 2.0]], np.float16)
    centres = cluster(values, 8)
    assert set(centres[0]) == {-1.0, 0.5, 3.0}
    assert set(centres[1]) == {2.0}
    assert (np.diff(centres, axis=1) >= 0).all()


def test_the_number_of_workers_and_the_neighbours_change_nothing() -> None:
    values = np.random.default_rng(1).normal(0, 1, (300, 700)).astype(np.float16)
    alone = np.concatenate([cluster(values[row : row + 1], 4, workers=1) for row in (0, 7, 299)])
    assert np.array_equal(cluster(values, 4, workers=3)[[0, 7, 299]], alone)


def test_halfway_between_two_centres_the_lower_one_is_nearest() -> None:
    values = np.array([[-9.0, 0.5, 0.51, 9.0]])
    assert nearest(values, np.array([[0.0, 1.0]])).tolist() == [[0, 0, 1, 1]]
