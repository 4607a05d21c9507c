"""Activations against their formulas in double precision."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.lower.neuralnetwork.layers.case import ENCODINGS, Case, case, check, draws
from tests.networks import Array

RNG = draws(__name__)
X = RNG.standard_normal((2, 3, 4, 5)) * 2
X[0, 0, 0] = [-1, 0, 0.5, 1, 30]  # where functions bend, and where exp would be large


def elu(x: Array, alpha: float) -> Array:
    return np.where(x >= 0, x, alpha * np.expm1(np.minimum(x, 0)))


def softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


FUNCTIONS: dict[str, list[tuple[Any, Callable[[Array], Any]]]] = {
    "linear": [({"alpha": 1.5, "beta": -0.5}, lambda x: 1.5 * x - 0.5), ({}, lambda x: 0 * x)],
    "ReLU": [({}, lambda x: np.maximum(0, x))],
    "leakyReLU": [({"alpha": 0.3}, lambda x: np.where(x >= 0, x, 0.3 * x))],
    "thresholdedReLU": [
        ({"alpha": 0.5}, lambda x: np.where(x >= 0.5, x, 0)),
        ({"alpha": -1.0}, lambda x: np.where(x >= -1, x, 0)),
    ],
    "tanh": [({}, np.tanh)],
    "scaledTanh": [({"alpha": 1.7159, "beta": 0.6}, lambda x: 1.7159 * np.tanh(0.6 * x))],
    "sigmoid": [({}, lambda x: 1 / (1 + np.exp(-x)))],
    "sigmoidHard": [({"alpha": 0.2, "beta": 0.5}, lambda x: np.clip(0.2 * x + 0.5, 0, 1))],
    "ELU": [({"alpha": 0.7}, lambda x: elu(x, 0.7))],
    "softsign": [({}, lambda x: x / (1 + np.abs(x)))],
    "softplus": [({}, softplus)],
}


def by_channel(values: Array, rank: int) -> Array:
    """[C] or [1] as it stands beside axis -3."""
    return values.reshape((-1, 1, 1)) if rank else values


def told(encoding: str) -> tuple[int, ...]:
    """Packed weights end anywhere in a byte: the channels say how many they are."""
    return () if encoding in ("float32", "float16", "8 bits") else (-3,)


def prelu(x: Array, encoding: str, count: int) -> Case:
    stored, alpha = ENCODINGS[encoding](RNG.uniform(-1, 1, count), 0)
    wanted = np.where(x >= 0, x, by_channel(alpha, x.ndim) * x)
    label = f"PReLU, {count} of {encoding}, rank {x.ndim}"
    return case("activation", [x], wanted, PReLU={"alpha": stored}, label=label, told=told(encoding))


def parametric(x: Array, encoding: str, counts: tuple[int, int]) -> Case:
    (a, alpha), (b, beta) = (ENCODINGS[encoding](RNG.uniform(0.5, 2, count), 0) for count in counts)
    wanted = by_channel(alpha, x.ndim) * softplus(by_channel(beta, x.ndim) * x)
    fields: Any = {"alpha": a, "beta": b}
    label = f"parametricSoftplus, {counts} of {encoding}, rank {x.ndim}"
    return case("activation", [x], wanted, parametricSoftplus=fields, label=label, told=told(encoding))


GELU: dict[str, Callable[[Array], Any]] = {
    "EXACT": lambda x: 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))),
    "TANH_APPROXIMATION": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "SIGMOID_APPROXIMATION": lambda x: x / (1 + np.exp(-1.702 * x)),
}


CASES = [
    *(
        case("activation", [X], function(X), label=f"{name} {fields}", **{name: fields})
        for name, entries in FUNCTIONS.items()
        for fields, function in entries
    ),
    *(case("activation", [x], np.tanh(x), tanh={}, label=f"rank {x.ndim}") for x in (X[0, 0, 0], X[None])),
    *(prelu(X, encoding, 3) for encoding in ENCODINGS),
    *(prelu(X, encoding, 1) for encoding in ("float32", "float16", "8 bits")),
    prelu(X[0], "float32", 3),
    prelu(X[None], "float16", 3),
    *(parametric(X, encoding, (3, 3)) for encoding in ENCODINGS),
    parametric(X[None], "float16", (1, 3)),
    parametric(X, "float16", (3, 1)),
    *(
        case(
            "clampedReLU",
            [X],
            np.minimum(beta, np.where(X >= 0, X, alpha * X)),
            label=f"{alpha} {beta}",
            alpha=alpha,
            beta=beta,
        )
        for alpha, beta in ((0.25, 1.5), (-1.0, 0.75), (0.0, 6.0), (2.0, -0.5))
    ),
    *(case("gelu", [X], apply(X), label=mode, mode=mode) for mode, apply in GELU.items()),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
