"""The front, against every recipe there is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from coremlops.improve.front import Option, Point, filled, front, neighbours, spaced, sum_of, worthwhile


def _weights(seed: int, weights: int = 4, options: int = 4) -> dict[str, tuple[Option, ...]]:
    random = np.random.default_rng(seed)
    return {
        f"w{i}": tuple(
            Option(str(k), int(random.integers(1, 1000)), float(random.random())) for k in range(options)
        )
        for i in range(weights)
    }


def _all(weights: dict[str, tuple[Option, ...]]) -> list[tuple[int, float]]:
    chosen = itertools.product(*weights.values())
    return [(sum(o.bytes for o in some), sum(o.noise for o in some)) for some in chosen]


@pytest.mark.parametrize("seed", range(8))
def test_no_recipe_is_smaller_and_no_noisier_than_one_of_the_front(seed: int) -> None:
    weights = _weights(seed)
    every = _all(weights)
    for point in front(weights):
        worse = [pair for pair in every if pair[0] <= point.bytes and pair[1] <= point.noise + 1e-12]
        assert min(pair[0] for pair in worse) == point.bytes
        assert min(pair[1] for pair in worse) == pytest.approx(point.noise)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("price", [1e-5, 1e-4, 1e-3, 1e-2])
def test_at_any_price_of_a_byte_the_best_recipe_is_on_the_front(seed: int, price: float) -> None:
    weights = _weights(seed)
    best = min(size * price + noise for size, noise in _all(weights))
    assert min(point.bytes * price + point.noise for point in front(weights)) == pytest.approx(best)


def test_a_front_goes_from_the_least_noise_to_the_fewest_bytes_one_weight_at_a_time() -> None:
    weights = _weights(3)
    points = front(weights)
    assert points[0].noise == pytest.approx(min(noise for _, noise in _all(weights)))
    assert points[-1].bytes == min(size for size, _ in _all(weights))
    for before, after in itertools.pairwise(points):
        assert sum(before.chosen[name] is not after.chosen[name] for name in weights) == 1


def test_an_option_that_is_no_number_is_never_chosen() -> None:
    options = [Option("none", 100, 0.0), Option("broken", 1, math.inf)]
    assert [option.setting for option in worthwhile(options)] == ["none"]


@pytest.mark.parametrize("seed", range(4))
def test_left_bytes_are_spent_on_less_noise(seed: int) -> None:
    weights = _weights(seed)
    point = front(weights)[-1]
    better = filled(point, weights, point.bytes + 400)
    assert point.bytes <= better.bytes <= point.bytes + 400
    assert better.noise <= point.noise
    assert filled(better, weights, point.bytes + 400) == better


def test_spaced_points_lie_at_even_distances_in_decibels() -> None:
    points = [Point({}, 1000 - i, 10 ** (-i / 100)) for i in range(100, -1, -1)]
    found = spaced([Point({}, 2000, 0.0), *points, Point({}, 1, 50.0)], 11)
    assert [round(-10 * math.log10(point.noise), 6) for point in found] == list(range(10, -1, -1))


def test_neighbours_are_the_next_on_either_side() -> None:
    hull = [Option("8", 8, 0.0), Option("4", 4, 1.0), Option("2", 2, 3.0), Option("1", 1, 8.0)]
    assert [option.setting for option in neighbours(hull, hull[1])] == ["8", "2"]
    assert [option.setting for option in neighbours(hull, Option("3", 3, 9.0))] == ["4", "2"]
    assert sum_of({"a": hull[0], "b": hull[1]}).bytes == 12
