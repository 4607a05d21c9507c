"""Pools against one window after the other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.lower.neuralnetwork.layers.case import Case, case, check, draws
from tests.lower.neuralnetwork.layers.windows import (
    Pads,
    border,
    counts,
    counts_with_last_pixel,
    pooled,
    same,
)

RNG = draws(__name__)
KINDS = ("MAX", "AVERAGE", "L2")
HEAVY = ("BOTTOM_RIGHT_HEAVY", "TOP_LEFT_HEAVY")
EDGES = [f"customPadding{edge}" for edge in ("Front", "Back", "Top", "Bottom", "Left", "Right")]
STRIDES = ("strideDepth", "strideHeight", "strideWidth")
REDUCE: dict[str, Any] = {
    "MAX": np.max,
    "AVERAGE": np.mean,
    "L2": lambda x, axis, keepdims: np.sqrt((x * x).sum(axis, keepdims=keepdims)),
}


def pool(
    kind: str,
    padding: str | Pads = ((0, 0), (0, 0)),
    *,
    lead: tuple[int, ...] = (2, 3),
    sizes: tuple[int, int] = (7, 8),
    kernel: tuple[int, int] = (3, 2),
    strides: tuple[int, int] = (2, 1),
    exclude: bool = False,
) -> Case:
    x = RNG.standard_normal((*lead, *sizes))
    if isinstance(padding, str):
        pads = same(sizes, kernel, strides, padding == "TOP_LEFT_HEAVY")
        fields: dict[str, Any] = {"same": {"asymmetryMode": padding}}
    else:
        pads = padding
        fields = {"valid": {"paddingAmounts": border(padding)}}
    return case(
        "pooling",
        [x],
        pooled(x, kind, kernel, strides, pads, counts(sizes, kernel, strides, pads), exclude),
        label=f"{kind} {padding} {lead} {sizes} {kernel} {strides} {exclude}",
        type=kind,
        kernelSize=[] if kernel == (3, 3) else kernel,
        stride=[] if strides == (1, 1) else strides,
        avgPoolExcludePadding=exclude,
        **fields,
    )


def last_pixel(
    kind: str,
    pads: tuple[int, int],
    *,
    sizes: tuple[int, int] = (8, 7),
    kernel: tuple[int, int] = (3, 2),
    strides: tuple[int, int] = (2, 2),
    exclude: bool = False,
) -> Case:
    x = RNG.standard_normal((1, 2, *sizes))
    around = [(pad, pad) for pad in pads]
    number = counts_with_last_pixel(sizes, kernel, strides, around)
    return case(
        "pooling",
        [x],
        pooled(x, kind, kernel, strides, around, number, exclude),
        label=f"{kind} last pixel {pads} {sizes} {kernel} {strides} {exclude}",
        type=kind,
        kernelSize=kernel,
        stride=strides,
        includeLastPixel={"paddingAmounts": pads} if any(pads) else {},
        avgPoolExcludePadding=exclude,
    )


def whole(kind: str, shape: tuple[int, ...]) -> Case:
    x = RNG.standard_normal(shape)
    wanted = REDUCE[kind](x, (-2, -1), keepdims=True)
    return case("pooling", [x], wanted, label=f"global {kind} {shape}", type=kind, globalPooling=True)


def pool3d(
    kind: str, padding: str, strides: Sequence[int], *, exclude: bool = False, shape: Sequence[int] = (2, 3)
) -> Case:
    sizes, kernel = (5, 6, 4), (2, 3, 2)
    x = RNG.standard_normal((*shape, *sizes))
    custom: Pads = ((1, 1), (2, 1), (1, 1))
    pads = {"CUSTOM": custom, "VALID": ((0, 0),) * 3}.get(padding) or same(sizes, kernel, strides)
    amounts = (amount for pair in custom for amount in pair)
    fields: dict[str, Any] = {
        **dict(zip(("kernelDepth", "kernelHeight", "kernelWidth"), kernel, strict=True)),
        **(dict(zip(STRIDES, strides, strict=True)) if any(n > 1 for n in strides) else {}),
        **dict(zip(EDGES, amounts, strict=True)),
    }
    return case(
        "pooling3d",
        [x],
        pooled(x, kind, kernel, strides, pads, counts(sizes, kernel, strides, pads), exclude),
        label=f"{kind} {padding} {strides} {exclude} {shape}",
        type=kind,
        paddingType=padding,
        **fields,
        countExcludePadding=exclude,
    )


def whole3d(kind: str) -> Case:
    x = RNG.standard_normal((2, 3, 4, 5, 2))
    wanted = REDUCE[kind](x, (-3, -2, -1), keepdims=True)
    return case("globalPooling3d", [x], wanted, label=kind, type=kind)


CASES = [
    *(pool(kind, lead=lead) for kind in KINDS for lead in ((3,), (2, 3), (1, 2, 3))),
    *(
        pool(kind, padding, exclude=exclude)
        for kind in KINDS
        for padding in (*HEAVY, ((1, 2), (0, 1)), ((2, 0), (1, 0)))
        for exclude in (False, True)
    ),
    *(pool(kind, kernel=(3, 3), strides=(1, 1)) for kind in KINDS),
    *(pool(kind, heavy, strides=(3, 2), sizes=(8, 5)) for kind in KINDS for heavy in HEAVY),
    *(
        last_pixel(kind, pads, exclude=exclude)
        for kind in KINDS
        for pads in ((0, 0), (1, 1), (0, 1))
        for exclude in (False, True)
    ),
    *(last_pixel(kind, (1, 1), sizes=(5, 6), kernel=(3, 3), strides=(3, 2)) for kind in KINDS),
    *(last_pixel(kind, (1, 0), sizes=(9, 10), kernel=(2, 4), strides=(2, 3)) for kind in KINDS),
    *(whole(kind, shape) for kind in KINDS for shape in ((3, 4, 5), (2, 3, 4, 5), (1, 2, 3, 4, 5))),
    *(
        pool3d(kind, padding, strides, exclude=exclude)
        for kind in ("MAX", "AVERAGE")
        for padding in ("CUSTOM", "VALID", "SAME")
        for strides in ((1, 1, 1), (2, 1, 3))
        for exclude in (False, True)
    ),
    *(whole3d(kind) for kind in ("MAX", "AVERAGE")),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
