"""Normalizations against their formulas in double precision."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.lower.neuralnetwork.layers.case import ENCODINGS, Case, case, check, draws
from tests.networks import Array

RNG = draws(__name__)
SHAPES: tuple[tuple[int, ...], ...] = ((3, 4, 5), (2, 3, 4, 5), (2, 1, 3, 4, 5))


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def standardized(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    result: Array = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)
    return result


def batchnorm(
    shape: tuple[int, ...], *, computed: str = "", epsilon: float = 0.0, encoding: str = "float32"
) -> Case:
    """`computed`: mean and variance are those of each `instance`, or of the whole `batch`."""
    x = normal(*shape) + 1
    names = ("gamma", "beta", "mean", "variance")
    pairs = {name: ENCODINGS[encoding](RNG.uniform(0.5, 2, shape[-3]), 0) for name in names}
    gamma, beta, mean, variance = (pairs[name][1].reshape(-1, 1, 1) for name in names)
    if computed:
        lead = tuple(range(x.ndim - 3)) if computed == "batch" else ()
        scaled = standardized(x, (*lead, -2, -1), epsilon or 1e-5)
    else:
        scaled = (x - mean) / np.sqrt(variance + (epsilon or 1e-5))
    return case(
        "batchnorm",
        [x],
        gamma * scaled + beta,
        label=f"{shape} {computed} {epsilon} {encoding}",
        channels=shape[-3],
        computeMeanVar=bool(computed),
        instanceNormalization=computed == "instance",
        epsilon=epsilon,
        **{name: stored for name, (stored, _) in pairs.items()},
    )


def mvn(shape: tuple[int, ...], across: bool, variance: bool, epsilon: float) -> Case:
    x = normal(*shape) / 100  # so that epsilon counts
    axes = (-3, -2, -1) if across else (-2, -1)
    wanted = standardized(x, axes, epsilon or 1e-6) if variance else x - x.mean(axes, keepdims=True)
    return case(
        "mvn",
        [x],
        wanted,
        label=f"{shape} {across} {variance} {epsilon}",
        acrossChannels=across,
        normalizeVariance=variance,
        epsilon=epsilon,
    )


def l2(shape: tuple[int, ...], epsilon: float) -> Case:
    x = normal(*shape) / 100
    wanted = x / np.sqrt((x * x).sum((-3, -2, -1), keepdims=True) + (epsilon or 1e-6))
    return case("l2normalize", [x], wanted, label=f"{shape} {epsilon}", epsilon=epsilon)


def lrn(shape: tuple[int, ...], size: int, k: float) -> Case:
    """An even window reaches one further to the channels before."""
    x, count = normal(*shape), shape[-3]
    total = np.zeros_like(x)
    for place in range(count):
        first = max(0, place - size // 2)
        last = min(count, place - size // 2 + size)
        total[..., place, :, :] = (x[..., first:last, :, :] ** 2).sum(-3)
    wanted = x / ((k or 1) + 2 / size * total) ** 0.75
    return case("lrn", [x], wanted, label=f"{shape} {size} {k}", alpha=2.0, beta=0.75, localSize=size, k=k)


def softmax(x: Array, axis: int) -> Array:
    grown = np.exp(x - x.max(axis, keepdims=True))
    result: Array = grown / grown.sum(axis, keepdims=True)
    return result


def along(shape: tuple[int, ...], axis: int) -> Case:
    x = normal(*shape) * 10
    return case("softmaxND", [x], softmax(x, axis), label=f"{shape} {axis}", axis=axis)


def layer_norm(shape: tuple[int, ...], count: int, epsilon: float, encoding: str = "float32") -> Case:
    x, over = normal(*shape), shape[-count:]
    (g, gamma), (b, beta) = (ENCODINGS[encoding](normal(*over), 0) for _ in range(2))
    return case(
        "layerNormalization",
        [x],
        standardized(x, tuple(range(-count, 0)), epsilon) * gamma + beta,
        label=f"{shape} {count} {epsilon} {encoding}",
        normalizedShape=over,
        eps=epsilon,
        gamma=g,
        beta=b,
    )


def beside(values: Array, shape: Sequence[int]) -> Array:
    """[1], [C], [1, H, W] or [C, H, W] as it stands beside [..., C, H, W]."""
    return values.reshape(-1, 1, 1) if len(shape) == 1 else values


def scale(
    shape: tuple[int, ...], by: tuple[int, ...], offset: tuple[int, ...], encoding: str = "float32"
) -> Case:
    x = normal(*shape)
    s, factor = ENCODINGS[encoding](normal(*by), 0)
    fields: dict[str, Any] = {"shapeScale": by, "scale": s}
    wanted = x * beside(factor, by)
    if offset:
        b, bias = ENCODINGS[encoding](normal(*offset), 0)
        fields |= {"hasBias": True, "shapeBias": offset, "bias": b}
        wanted = wanted + beside(bias, offset)
    return case("scale", [x], wanted, label=f"{shape} {by} {offset} {encoding}", **fields)


def bias(shape: tuple[int, ...], of: tuple[int, ...], encoding: str = "float32") -> Case:
    x = normal(*shape)
    b, values = ENCODINGS[encoding](normal(*of), 0)
    wanted = x + beside(values, of)
    return case("bias", [x], wanted, label=f"{shape} {of} {encoding}", shape=of, bias=b)


PLACES: tuple[tuple[int, ...], ...] = ((1,), (3,), (1, 4, 5), (3, 4, 5))
CASES = [
    *(batchnorm(shape, computed=computed) for shape in SHAPES for computed in ("", "batch", "instance")),
    *(batchnorm(SHAPES[1], computed=computed, epsilon=0.5) for computed in ("", "batch", "instance")),
    *(batchnorm(SHAPES[1], encoding=encoding) for encoding in ENCODINGS),
    *(
        mvn(shape, across, variance, epsilon)
        for shape in SHAPES
        for across in (False, True)
        for variance, epsilon in ((True, 0.0), (True, 0.01), (False, 0.0))
    ),
    *(l2(shape, epsilon) for shape in SHAPES for epsilon in (0.0, 0.01)),
    *(lrn((2, 7, 2, 3), size, k) for size in (1, 4, 5, 9) for k in (0.0, 3.0)),
    *(lrn((*lead, 5, 2, 3), 3, 1.0) for lead in ((), (2, 2))),
    *(
        case("softmax", [x], softmax(x, -3), label=str(shape))
        for shape in SHAPES
        for x in [normal(*shape) * 10]
    ),
    *(
        along(shape, axis)
        for shape in ((4,), (3, 4), (2, 3, 4, 5))
        for axis in range(-len(shape), len(shape))
    ),
    *(layer_norm((2, 3, 4), count, epsilon) for count in (1, 2, 3) for epsilon in (1e-5, 0.5)),
    *(layer_norm((3, 4), 1, 1e-3, encoding) for encoding in ENCODINGS),
    *(scale(SHAPES[1], by, offset) for by in PLACES for offset in ((), *PLACES)),
    *(scale(shape, (3,), (1,)) for shape in SHAPES),
    *(scale(SHAPES[1], (3,), (1, 4, 5), encoding) for encoding in ENCODINGS),
    *(bias(shape, of) for shape in SHAPES for of in PLACES),
    *(bias(SHAPES[1], (3,), encoding) for encoding in ENCODINGS),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
