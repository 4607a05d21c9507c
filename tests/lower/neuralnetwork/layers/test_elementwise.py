"""Elementwise layers against NumPy in double precision."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.lower.neuralnetwork.layers.case import Case, case, check, draws
from tests.networks import Array

RNG = draws(__name__)
X = RNG.standard_normal((2, 3, 4)) * 2
UNIT = RNG.uniform(-0.95, 0.95, (2, 3, 4))
POSITIVE = RNG.uniform(0.1, 4, (1, 2, 3, 2, 2))
# Whole numbers, so that some are equal.
A, B = RNG.integers(-2, 3, (2, 1, 3)), RNG.integers(-2, 3, (4, 3))
WHOLE = np.where(A == 0, 3, A)  # what may divide

UNARY: dict[str, tuple[Callable[..., Any], Array]] = {
    "sin": (np.sin, X),
    "cos": (np.cos, X),
    "tan": (np.tan, UNIT),
    "asin": (np.arcsin, UNIT),
    "acos": (np.arccos, UNIT),
    "atan": (np.arctan, X),
    "sinh": (np.sinh, X),
    "cosh": (np.cosh, X),
    "tanh": (np.tanh, X),
    "asinh": (np.arcsinh, X),
    "acosh": (np.arccosh, POSITIVE + 1),
    "atanh": (np.arctanh, UNIT),
    "erf": (lambda x: torch.erf(torch.from_numpy(x)).numpy(), X),
    "exp2": (np.exp2, X),
    "ceil": (np.ceil, X),
    "floor": (np.floor, X),
    "round": (np.round, X),
    "sign": (np.sign, A),
    "logicalNot": (np.logical_not, A),
}
BINARY: dict[str, Callable[..., Any]] = {
    "addBroadcastable": np.add,
    "subtractBroadcastable": np.subtract,
    "multiplyBroadcastable": np.multiply,
    "maxBroadcastable": np.maximum,
    "minBroadcastable": np.minimum,
    "logicalAnd": np.logical_and,
    "logicalOr": np.logical_or,
    "logicalXor": np.logical_xor,
}
# Not by zero; the remainder has the sign of what divides, as Python's.
DIVIDING: dict[str, Callable[..., Any]] = {
    "divideBroadcastable": np.true_divide,
    "floorDivBroadcastable": np.floor_divide,
    "modBroadcastable": np.mod,
}
COMPARISONS: dict[str, Callable[..., Any]] = {
    "equal": np.equal,
    "notEqual": np.not_equal,
    "lessThan": np.less,
    "lessEqual": np.less_equal,
    "greaterThan": np.greater,
    "greaterEqual": np.greater_equal,
}
# The function, and whether epsilon (0 means 1e-6) is added to what it gets.
FUNCTIONS: dict[str, tuple[Callable[..., Any], bool]] = {
    "SQRT": (np.sqrt, False),
    "RSQRT": (lambda x: 1 / np.sqrt(x), True),
    "INVERSE": (lambda x: 1 / x, True),
    "POWER": (lambda x: x**2.5, False),
    "EXP": (np.exp, False),
    "LOG": (np.log, True),
    "ABS": (np.abs, False),
    "THRESHOLD": (lambda x: np.maximum(x, 2.5), False),
}
SEVERAL: dict[str, Callable[..., Any]] = {
    "add": lambda *values: sum(values[1:], values[0]),
    "multiply": lambda *values: np.prod(np.broadcast_arrays(*values), axis=0),
    "average": lambda *values: np.mean(np.broadcast_arrays(*values), axis=0),
    "max": lambda *values: np.max(np.broadcast_arrays(*values), axis=0),
    "min": lambda *values: np.min(np.broadcast_arrays(*values), axis=0),
}


def function(kind: str, epsilon: float, scale: float, shift: float) -> Case:
    apply, adds = FUNCTIONS[kind]
    x = (scale or 1) * POSITIVE + shift
    if adds:
        x = x + (epsilon or 1e-6)
    return case(
        "unary",
        [POSITIVE],
        apply(x),
        label=f"{kind} {epsilon} {scale} {shift}",
        type=kind,
        alpha=2.5,
        epsilon=epsilon,
        scale=scale,
        shift=shift,
    )


def several(kind: str, *shapes: tuple[int, ...]) -> Case:
    values = [RNG.standard_normal(shape) for shape in shapes]
    return case(kind, values, SEVERAL[kind](*values), label=" ".join(map(str, shapes)))


CHOICE = RNG.integers(0, 2, (3, 1))
CASES = [
    *(case(kind, [x], apply(x)) for kind, (apply, x) in UNARY.items()),
    *(case(kind, [A, B], apply(A, B)) for kind, apply in (BINARY | COMPARISONS).items()),
    *(case(kind, [B, WHOLE], apply(B, WHOLE)) for kind, apply in DIVIDING.items()),
    *(
        case(kind, [X, WHOLE[:, :, :1] + 0.75], apply(X, WHOLE[:, :, :1] + 0.75), label="fractions")
        for kind, apply in DIVIDING.items()
    ),
    case("powBroadcastable", [POSITIVE, B[:2, :2]], POSITIVE ** B[:2, :2]),
    case("powBroadcastable", [[-2.0, -1.5, 0.0], [3.0, 2.0, 0.0]], [-8.0, 2.25, 1.0], label="of negatives"),
    *(
        case(kind, [B], apply(B, alpha), label=f"than {alpha}", alpha=alpha)
        for kind, apply in COMPARISONS.items()
        for alpha in (0.0, 1.0, -0.5)
    ),
    *(
        function(kind, epsilon, scale, shift)
        for kind in FUNCTIONS
        for epsilon, scale, shift in ((0.0, 0.0, 0.0), (0.5, 2.0, 0.25))
    ),
    case("clip", [X], np.clip(X, -0.5, 1.25), minVal=-0.5, maxVal=1.25),
    *(
        several(kind, *shapes)
        for kind in SEVERAL
        for shapes in (
            ((3, 2), (3, 2)),
            ((2, 3, 4, 5), (2, 3, 1, 1), (2, 1, 1, 1), (2, 1, 4, 5)),
            ((2, 1, 1, 1), (2, 3, 4, 5)),
            ((1, 2, 3, 4, 5), (1, 2, 3, 1, 1)),
        )
    ),
    case("add", [X], X + 0.25, label="a number", alpha=0.25),
    case("multiply", [X], X * -1.5, label="a number", alpha=-1.5),
    case("multiply", [X], X * 0, label="nothing"),
    case("whereBroadcastable", [CHOICE, X, B[None, :1, :1]], np.where(CHOICE, X, B[:1, :1])),
    case("whereBroadcastable", [A, B, X[:, :1, :1]], np.where(A, B, X[:, :1, :1]), label="of numbers"),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
