"""Gathers against NumPy, scatters against a loop over their indices."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.lower.neuralnetwork.layers.case import Case, case, check, draws
from tests.networks import Array

RNG = draws(__name__)
JOIN: dict[str, Callable[[Any, Any], Any]] = {
    "SCATTER_UPDATE": lambda old, new: new,
    "SCATTER_ADD": lambda old, new: old + new,
    "SCATTER_SUB": lambda old, new: old - new,
    "SCATTER_MUL": lambda old, new: old * new,
    "SCATTER_DIV": lambda old, new: old / new,
    "SCATTER_MAX": np.maximum,
    "SCATTER_MIN": np.minimum,
}


def numbers(*shape: int) -> Array:
    """None near zero, since they divide."""
    found: Array = RNG.uniform(0.5, 2, shape) * RNG.choice([-1, 1], shape)
    return found


def gathered(shape: tuple[int, ...], axis: int, count: tuple[int, ...]) -> Case:
    x = numbers(*shape)
    indices = RNG.integers(-shape[axis], shape[axis], count)
    return case("gather", [x, indices], x.take(indices, axis), label=f"{shape} {axis} {count}", axis=axis)


def gathered_nd(shape: tuple[int, ...], count: tuple[int, ...], depth: int) -> Case:
    x = numbers(*shape)
    indices = np.stack([RNG.integers(-size, size, count) for size in shape[:depth]], -1)
    wanted = x[tuple(np.moveaxis(indices, -1, 0))]
    return case("gatherND", [x, indices], wanted, label=f"{shape} {count} {depth}")


def gathered_along(shape: tuple[int, ...], axis: int, count: int) -> Case:
    x, wide = numbers(*shape), list(shape)
    wide[axis] = count
    indices = RNG.integers(-shape[axis], shape[axis], wide)
    wanted = np.take_along_axis(x, indices, axis)
    return case("gatherAlongAxis", [x, indices], wanted, label=f"{shape} {axis} {count}", axis=axis)


def scattered(mode: str, shape: tuple[int, ...], axis: int, count: tuple[int, ...]) -> Case:
    """Indices come twice; of what replaces, the last one stays."""
    x, place = numbers(*shape), axis % len(shape)
    indices = RNG.integers(-shape[axis], shape[axis], count)
    updates = numbers(*shape[:place], *count, *shape[place + 1 :])
    wanted = np.moveaxis(x.copy(), place, 0)
    spread = np.moveaxis(updates, range(place, place + len(count)), range(len(count)))
    for where in np.ndindex(*count):
        wanted[indices[where]] = JOIN[mode](wanted[indices[where]], spread[where])
    return case(
        "scatter",
        [x, indices, updates],
        np.moveaxis(wanted, 0, place),
        label=f"{mode} {shape} {axis} {count}",
        axis=axis,
        mode=mode,
    )


def scattered_nd(mode: str, shape: tuple[int, ...], count: tuple[int, ...], depth: int) -> Case:
    x = numbers(*shape)
    indices = np.stack([RNG.integers(0, size, count) for size in shape[:depth]], -1)
    updates = numbers(*count, *shape[depth:])
    wanted = x.copy()
    for where in np.ndindex(*count):
        target = tuple(indices[where])
        wanted[target] = JOIN[mode](wanted[target], updates[where])
    return case(
        "scatterND", [x, indices, updates], wanted, label=f"{mode} {shape} {count} {depth}", mode=mode
    )


def scattered_along(mode: str, shape: tuple[int, ...], axis: int, count: int) -> Case:
    x, wide = numbers(*shape), list(shape)
    wide[axis] = count
    indices, updates = RNG.integers(-shape[axis], shape[axis], wide), numbers(*wide)
    wanted = x.copy()
    for where in np.ndindex(*wide):
        target = list(where)
        target[axis] = indices[where]
        wanted[tuple(target)] = JOIN[mode](wanted[tuple(target)], updates[where])
    return case(
        "scatterAlongAxis",
        [x, indices, updates],
        wanted,
        label=f"{mode} {shape} {axis} {count}",
        axis=axis,
        mode=mode,
    )


CASES = [
    gathered((4,), 0, (3,)),
    gathered((2, 3), 0, (6, 8)),
    gathered((2, 3, 5), 1, (6, 8)),
    gathered((2, 3, 5), -1, (4,)),
    gathered((2, 3, 2, 1, 2), -3, (4,)),
    gathered_nd((5,), (3,), 1),
    gathered_nd((4, 2, 3, 4), (6,), 2),
    gathered_nd((3, 3, 3, 4, 7), (3,), 5),
    gathered_nd((5, 3, 2, 5), (2, 7), 2),
    gathered_along((5,), 0, 7),
    gathered_along((4, 4, 7), 1, 5),
    gathered_along((2, 3, 4), -1, 2),
    *(scattered(mode, (4, 3), 1, (5, 2)) for mode in JOIN),
    *(scattered(mode, (4, 4, 3), -2, (6,)) for mode in JOIN),
    scattered("SCATTER_UPDATE", (5,), -1, (2, 3, 2)),
    scattered("SCATTER_ADD", (3, 2), 0, (4,)),
    *(scattered_nd(mode, (3, 2), (4,), 2) for mode in JOIN),
    *(scattered_nd(mode, (4, 3), (2, 3), 1) for mode in JOIN),
    *(scattered_along(mode, (2, 5, 6), -2, 3) for mode in JOIN),
    *(scattered_along(mode, (4,), 0, 6) for mode in JOIN),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
