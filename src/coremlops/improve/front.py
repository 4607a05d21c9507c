"""Which weight gets how many bits: the Pareto front of size against noise. Values in, values out.

What each weight's rounding alone does to the outputs is measured; that such errors add up in power is the
model between measurements, and a recipe is measured as a whole before anything is said of it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """One thing that could become of a weight. `noise`: of the worst output, power over the signal's."""

    setting: str
    bytes: int
    noise: float


@dataclass(frozen=True, slots=True)
class Point:
    """A recipe: an option a weight. `bytes` and `noise`: the options' sums."""

    chosen: Mapping[str, Option]
    bytes: int
    noise: float


def worthwhile(options: Sequence[Option]) -> list[Option]:
    """The lower convex hull, from most bytes to least: what some price of a byte makes the best choice."""
    hull: list[Option] = []
    best = float("inf")
    for option in sorted(options, key=lambda option: (option.bytes, option.noise)):
        if option.noise >= best:
            continue  # another one is smaller and no worse
        best = option.noise
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull[::-1]


def _slope(small: Option, large: Option) -> float:
    """Noise that each byte takes away."""
    return (small.noise - large.noise) / (large.bytes - small.bytes)


def front(weights: Mapping[str, Sequence[Option]]) -> list[Point]:
    """Recipes from most bytes to least: each takes the step that costs least noise for a byte it saves.

    These are all that some price of a byte makes the best; between two of them only one weight differs.
    """
    hulls = {name: worthwhile(options) for name, options in weights.items()}
    chosen = {name: hull[0] for name, hull in hulls.items()}
    steps = [(_slope(hull[1], hull[0]), name, 1) for name, hull in hulls.items() if len(hull) > 1]
    heapq.heapify(steps)
    points = [sum_of(chosen)]
    while steps:
        _, name, place = heapq.heappop(steps)
        hull = hulls[name]
        chosen = {**chosen, name: hull[place]}
        points.append(sum_of(chosen))
        if place + 1 < len(hull):
            heapq.heappush(steps, (_slope(hull[place + 1], hull[place]), name, place + 1))
    return points


def sum_of(chosen: Mapping[str, Option]) -> Point:
    """A recipe from its options."""
    options = chosen.values()
    return Point(
        dict(chosen), sum(option.bytes for option in options), sum(option.noise for option in options)
    )


def filled(point: Point, weights: Mapping[str, tuple[Option, ...]], limit: float) -> Point:
    """Spend the bytes that are left: each time the option that takes away most noise and still fits."""
    chosen = dict(point.chosen)
    left = limit - point.bytes
    while True:
        better = [
            (chosen[name].noise - option.noise, name, option)
            for name, options in weights.items()
            for option in options
            if option.noise < chosen[name].noise and option.bytes - chosen[name].bytes <= left
        ]
        if not better:
            return sum_of(chosen)
        _, name, option = max(better, key=lambda entry: entry[:2])
        left -= option.bytes - chosen[name].bytes
        chosen[name] = option


def spaced(points: Sequence[Point], count: int) -> list[Point]:
    """About `count` of them, evenly spaced in decibels, from the first with noise to where it drowns all."""
    noisy = [point for point in points if 0 < point.noise <= 1] or list(points)
    level = [-math.log(point.noise) if point.noise > 0 else 0.0 for point in noisy]
    step = (level[0] - level[-1]) / (count - 1)
    wanted = [level[0] - i * step for i in range(count)]
    places = {min(range(len(noisy)), key=lambda at: abs(level[at] - want)) for want in wanted}
    return [noisy[place] for place in sorted(places)]


def neighbours(hull: Sequence[Option], option: Option) -> list[Option]:
    """The next larger and the next smaller ones of a hull; `option` need not be on it."""
    larger = [entry for entry in hull if entry.bytes > option.bytes]
    smaller = [entry for entry in hull if entry.bytes < option.bytes]
    return [*larger[-1:], *smaller[:1]]
