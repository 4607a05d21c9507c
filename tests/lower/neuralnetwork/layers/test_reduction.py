"""Reductions against NumPy in double precision."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from coremlops.errors import UnsupportedOpsError
from tests.lower.neuralnetwork.layers.case import Case, case, check, draws
from tests.networks import Array, one

RNG = draws(__name__)
REDUCTIONS: dict[str, Callable[..., Any]] = {
    "reduceL1": lambda x, **o: np.abs(x).sum(**o),
    "reduceL2": lambda x, **o: np.sqrt((x * x).sum(**o)),
    "reduceMax": np.max,
    "reduceMin": np.min,
    "reduceSum": np.sum,
    "reduceProd": np.prod,
    "reduceMean": np.mean,
    "reduceLogSum": lambda x, **o: np.log(np.abs(x).sum(**o)),
    "reduceSumSquare": lambda x, **o: (x * x).sum(**o),
    "reduceLogSumExp": lambda x, **o: np.log(np.exp(x).sum(**o)),
}
MODES: dict[str, Callable[..., Any]] = {
    "SUM": np.sum,
    "AVG": np.mean,
    "PROD": np.prod,
    "SUMSQUARE": REDUCTIONS["reduceSumSquare"],
    "L1": REDUCTIONS["reduceL1"],
    "L2": REDUCTIONS["reduceL2"],
    "MAX": np.max,
    "MIN": np.min,
}
AXES = {"CHW": (-3, -2, -1), "HW": (-2, -1), "C": (-3,), "H": (-2,), "W": (-1,)}


def values(kind: str, shape: tuple[int, ...]) -> Array:
    """Where a logarithm is taken, positive ones."""
    x: Array = RNG.standard_normal(shape)
    return np.abs(x) + 0.1 if "LogSum" in kind and "Exp" not in kind else x


def reduced(
    kind: str, shape: tuple[int, ...], axes: tuple[int, ...], keep: bool, everything: bool = False
) -> Case:
    x = values(kind, shape)
    wanted = REDUCTIONS[kind](x, axis=None if everything else axes, keepdims=keep)
    return case(
        kind,
        [x],
        np.atleast_1d(wanted),
        label=f"{shape} {axes} {keep} {everything}",
        axes=axes,
        keepDims=keep,
        reduceAll=everything,
    )


def old(mode: str, axis: str, shape: tuple[int, ...], epsilon: float = 0.0) -> Case:
    x = np.abs(RNG.standard_normal(shape))
    label = f"{mode} {axis} {shape} {epsilon}"
    if mode == "ARGMAX":
        wanted = x.argmax(AXES[axis][0], keepdims=True)
    elif mode == "LOGSUM":
        x.flat[0] = 0  # what epsilon is for
        wanted = np.log(x + (epsilon or 1e-6)).sum(AXES[axis], keepdims=True)
    else:
        wanted = MODES[mode](x, axis=AXES[axis], keepdims=True)
    return case("reduce", [x], wanted, label=label, mode=mode, axis=axis, epsilon=epsilon)


def place(kind: str, shape: tuple[int, ...], axis: int, remove: bool) -> Case:
    """Whole numbers, so that some are equal: the first counts."""
    x = RNG.integers(0, 4, shape)
    wanted = (np.argmax if kind == "argMax" else np.argmin)(x, axis=axis, keepdims=not remove)
    label = f"{shape} {axis} {remove}"
    return case(kind, [x], np.atleast_1d(wanted), label=label, axis=axis, removeDim=remove)


def summed(shape: tuple[int, ...], axis: int, exclude: bool, reverse: bool, second: bool = False) -> Case:
    x = RNG.integers(-5, 6, shape)
    turned = np.flip(x, axis) if reverse else x
    wanted = np.cumsum(turned, axis) - (turned if exclude else 0)
    return case(
        "cumSum",
        [x, [axis]] if second else [x],
        np.flip(wanted, axis) if reverse else wanted,
        label=f"{shape} {axis} {exclude} {reverse} {second}",
        axis=0 if second else axis,
        excludeFinalSum=exclude,
        reverse=reverse,
    )


CASES = [
    *(
        reduced(kind, shape, axes, keep)
        for kind in REDUCTIONS
        for shape, axes in (((4,), (0,)), ((3, 4), (-1,)), ((2, 3, 4), (0, 2)), ((2, 3, 2, 2), (-3, 3)))
        for keep in (False, True)
    ),
    *(
        reduced(kind, (2, 3), axes, keep, everything=True)
        for kind in REDUCTIONS
        for keep, axes in ((False, ()), (True, ()), (True, (1,)))
    ),
    *(reduced(kind, (2, 1, 3, 2, 2), (1, 2), True) for kind in REDUCTIONS),
    *(old(mode, axis, (2, 3, 4, 5)) for mode in (*MODES, "LOGSUM") for axis in AXES),
    *(old(mode, "CHW", shape) for mode in MODES for shape in ((3, 2, 2), (2, 1, 3, 2, 2))),
    *(old("ARGMAX", axis, (2, 1, 3, 4, 5)) for axis in ("C", "H", "W")),
    old("LOGSUM", "C", (3, 4, 5), 0.5),
    *(
        place(kind, shape, axis, remove)
        for kind in ("argMax", "argMin")
        for shape, axis in (((6,), 0), ((3, 5), -1), ((2, 7, 3), 1))
        for remove in (False, True)
    ),
    *(
        summed(shape, axis, exclude, reverse)
        for shape, axis in (((5,), 0), ((2, 4, 3), -2))
        for exclude in (False, True)
        for reverse in (False, True)
    ),
    case("cumSum", [[4, 6, 7]], [13, 7, 0], label="the format's example", excludeFinalSum=True, reverse=True),
    summed((2, 4, 3), -1, False, False, second=True),
    summed((2, 4, 3), 1, True, True, second=True),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)


def test_the_place_of_the_greatest_in_several_axes_is_refused() -> None:
    with pytest.raises(UnsupportedOpsError, match="ARGMAX along HW: one place in several axes"):
        one("reduce", np.zeros((2, 3, 4)), mode="ARGMAX", axis="HW")
