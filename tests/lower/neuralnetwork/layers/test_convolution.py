"""Convolutions against PyTorch's without padding: what is padded or cut off, the format's text says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.lower.neuralnetwork.layers.case import ENCODINGS, Case, case, check, draws
from tests.lower.neuralnetwork.layers.windows import Pads, border, padded, same
from tests.networks import Array

RNG = draws(__name__)
CONVOLVE: dict[int, Any] = {2: F.conv2d, 3: F.conv3d}
TRANSPOSE: dict[int, Any] = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def reaches(size: Sequence[int], dilations: Sequence[int]) -> list[int]:
    return [(width - 1) * dilation + 1 for width, dilation in zip(size, dilations, strict=True)]


def convolved(
    x: Array,
    w: Array,
    b: Array | None,
    pads: Pads,
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Array:
    """x: [..., C, *sizes]."""
    axes = len(pads)
    flat = padded(x, pads).reshape(
        -1, x.shape[-axes - 1], *(s + sum(p) for s, p in zip(x.shape[-axes:], pads, strict=True))
    )
    result: Array = CONVOLVE[axes](
        torch.from_numpy(flat),
        torch.from_numpy(w.astype(np.float64)),
        None if b is None else torch.from_numpy(b.astype(np.float64)),
        stride=tuple(strides),
        dilation=tuple(dilations),
        groups=groups,
    ).numpy()
    return result.reshape(*x.shape[: -axes - 1], *result.shape[1:])


def transposed(
    x: Array,
    w: Array,
    b: Array | None,
    cut: Pads,
    strides: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Array:
    """The full result with `cut` taken off each end; a negative number adds what only the bias reaches."""
    axes = len(cut)
    full = TRANSPOSE[axes](
        torch.from_numpy(x.reshape(-1, *x.shape[-axes - 1 :])),
        torch.from_numpy(w.astype(np.float64)),
        stride=tuple(strides),
        dilation=tuple(dilations),
        groups=groups,
    ).numpy()
    full = padded(full, [(0, max(0, -after)) for _, after in cut])
    ends = [size - max(0, after) for size, (_, after) in zip(full.shape[2:], cut, strict=True)]
    kept: tuple[Any, ...] = (..., *(slice(before, end) for (before, _), end in zip(cut, ends, strict=True)))
    result: Array = full[kept]
    if b is not None:
        result = result + b.reshape(-1, *[1] * axes)
    return result.reshape(*x.shape[: -axes - 1], *result.shape[1:])


def convolution(
    *,
    lead: tuple[int, ...] = (2,),
    sizes: tuple[int, int] = (7, 6),
    size: tuple[int, int] = (3, 2),
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    groups: int = 1,
    padding: str | Pads = ((0, 0), (0, 0)),
    encoding: str = "float32",
    biased: bool = True,
    second: bool = False,
) -> Case:
    """`padding`: SAME's word, or amounts. `second`: the kernels are an input."""
    x = normal(*lead, 4, *sizes)
    w = normal(6, 4 // groups, *size)
    b, bias = ENCODINGS[encoding](normal(6), 0)
    fields: dict[str, Any] = {}
    if isinstance(padding, str):
        pads = same(sizes, reaches(size, dilations), strides, padding == "TOP_LEFT_HEAVY")
        fields["same"] = {"asymmetryMode": padding}
    else:
        pads = padding
        fields["valid"] = {"paddingAmounts": border(padding)} if any(map(any, padding)) else {}
    inputs = [x, w]
    if not second:
        fields["weights"], w = ENCODINGS[encoding](w, 0)
        inputs = [x]
    if biased:
        fields |= {"hasBias": True, "bias": b}
    wanted = convolved(x, w, bias if biased else None, pads, strides, dilations, groups)
    label = f"{lead} {sizes} {size} {strides} {dilations} {groups} {padding} {encoding} {second}"
    return case(
        "convolution",
        inputs,
        wanted,
        label=label,
        outputChannels=6,
        kernelChannels=4 // groups,
        nGroups=groups if groups > 1 else 0,
        kernelSize=[] if size == (3, 3) else size,
        stride=[] if strides == (1, 1) else strides,
        dilationFactor=[] if dilations == (1, 1) else dilations,
        **fields,
    )


def deconvolution(
    *,
    lead: tuple[int, ...] = (2,),
    size: tuple[int, int] = (3, 2),
    strides: tuple[int, int] = (2, 3),
    dilations: tuple[int, int] = (1, 1),
    groups: int = 1,
    padding: str | Pads = ((0, 0), (0, 0)),
    output: tuple[int, int] | None = None,
    encoding: str = "float32",
) -> Case:
    x = normal(*lead, 4, 4, 5)
    weights, w = ENCODINGS[encoding](normal(4, 6 // groups, *size), 1)
    b, bias = ENCODINGS[encoding](normal(6), 0)
    fields: dict[str, Any] = {}
    if isinstance(padding, str):
        fields["same"] = {"asymmetryMode": padding}
        front = padding == "TOP_LEFT_HEAVY"
        reached = reaches(size, dilations)
        cut = [halves(reach - stride, front) for reach, stride in zip(reached, strides, strict=True)]
    else:
        fields["valid"] = {"paddingAmounts": border(padding)}
        cut = list(padding)
    if output is not None:
        fields["outputShape"] = output
        reached = reaches(size, dilations)
        full = [(n - 1) * s + reach for n, s, reach in zip((4, 5), strides, reached, strict=True)]
        cut = [halves(whole - left, False) for whole, left in zip(full, output, strict=True)]
    return case(
        "convolution",
        [x],
        transposed(x, w, bias, cut, strides, dilations, groups),
        label=f"transposed {lead} {size} {strides} {dilations} {groups} {padding} {output} {encoding}",
        told=() if output is None else (-2, -1),
        outputChannels=6,
        kernelChannels=4,
        nGroups=groups,
        kernelSize=size,
        stride=strides,
        dilationFactor=dilations,
        isDeconvolution=True,
        hasBias=True,
        weights=weights,
        bias=b,
        **fields,
    )


def halves(total: int, front: bool) -> tuple[int, int]:
    """What is cut off before and after; what is missing (a negative number) comes after."""
    if total < 0:
        return 0, total
    less = total // 2
    return (total - less, less) if front else (less, total - less)


def convolution3d(
    *,
    kind: str = "VALID",
    strides: tuple[int, int, int] = (1, 1, 1),
    dilations: tuple[int, int, int] = (1, 1, 1),
    groups: int = 1,
    encoding: str = "float32",
    deconvolution: bool = False,
    output: tuple[int, ...] = (),
) -> Case:
    sizes, size = (5, 6, 4), (2, 3, 2)
    x, custom = normal(2, 4, *sizes), ((1, 2), (2, 1), (1, 3))
    b, bias = ENCODINGS[encoding](normal(6), 0)
    pads: Pads = {"CUSTOM": custom, "VALID": ((0, 0),) * 3}.get(kind, ())
    if deconvolution:
        weights, w = ENCODINGS[encoding](normal(4, 6 // groups, *size), 1)
        reached = reaches(size, dilations)
        full = [(n - 1) * s + reach for n, s, reach in zip(sizes, strides, reached, strict=True)]
        if output:
            pads = [halves(whole - left, False) for whole, left in zip(full, output[-3:], strict=True)]
        elif kind == "SAME":
            pads = [halves(whole - n * s, False) for whole, n, s in zip(full, sizes, strides, strict=True)]
        wanted = transposed(x, w, bias, pads, strides, dilations, groups)
    else:
        weights, w = ENCODINGS[encoding](normal(6, 4 // groups, *size), 0)
        pads = pads or same(sizes, reaches(size, dilations), strides)
        wanted = convolved(x, w, bias, pads, strides, dilations, groups)
    edges = ("Front", "Back", "Top", "Bottom", "Left", "Right")
    amounts = [amount for pair in custom for amount in pair]
    return case(
        "convolution3d",
        [x],
        wanted,
        label=f"{kind} {strides} {dilations} {groups} {encoding} {deconvolution} {output}",
        told=(-3, -2, -1) if output else (),
        outputChannels=6,
        inputChannels=4,
        nGroups=groups,
        **dict(zip(("kernelDepth", "kernelHeight", "kernelWidth"), size, strict=True)),
        **(dict(zip(STRIDES, strides, strict=True)) if any(n > 1 for n in strides) else {}),
        **(dict(zip(DILATIONS, dilations, strict=True)) if any(n > 1 for n in dilations) else {}),
        **{f"customPadding{edge}": amount for edge, amount in zip(edges, amounts, strict=True)},
        paddingType=kind,
        hasBias=True,
        weights=weights,
        bias=b,
        isDeconvolution=deconvolution,
        outputShape=output,
    )


STRIDES = ("strideDepth", "strideHeight", "strideWidth")
DILATIONS = ("dilationDepth", "dilationHeight", "dilationWidth")
HEAVY = ("BOTTOM_RIGHT_HEAVY", "TOP_LEFT_HEAVY")
CASES = [
    *(convolution(lead=lead, groups=2, padding=((1, 2), (0, 3))) for lead in ((2,), (1, 2), (3, 2))),
    convolution(size=(3, 3), biased=False),
    convolution(strides=(2, 3), dilations=(2, 1), padding=((3, 0), (1, 1))),
    *(
        convolution(padding=heavy, sizes=sizes, strides=strides, dilations=dilations)
        for heavy in HEAVY
        for sizes in ((7, 6), (5, 8))
        for strides, dilations in (((1, 1), (1, 1)), ((2, 3), (1, 1)), ((2, 2), (2, 3)))
    ),
    convolution(padding=HEAVY[0], size=(1, 1), strides=(2, 2)),
    *(convolution(encoding=encoding, padding=HEAVY[0]) for encoding in ENCODINGS),
    convolution(groups=2, encoding="8 bits", lead=(1, 1)),
    *(convolution(second=True, groups=groups, padding=((1, 1), (1, 1))) for groups in (1, 2)),
    *(deconvolution(lead=lead, groups=2) for lead in ((2,), (1, 2), (3, 2))),
    deconvolution(padding=((1, 0), (0, 1))),
    *(
        deconvolution(padding=heavy, size=size, strides=strides)
        for heavy in HEAVY
        for size, strides in (((3, 2), (2, 1)), ((4, 3), (1, 2)), ((2, 3), (3, 3)), ((4, 6), (2, 1)))
    ),
    deconvolution(padding=HEAVY[0], size=(4, 4), strides=(2, 2), output=(8, 11)),
    deconvolution(padding=((1, 1), (1, 1)), output=(9, 13)),
    # The format's text says that a transposed convolution ignores dilations; coremltools' tests have them.
    deconvolution(dilations=(2, 3)),
    deconvolution(dilations=(2, 1), padding=HEAVY[1], size=(3, 3)),
    deconvolution(dilations=(2, 1), size=(3, 3), strides=(2, 2), output=(9, 9)),
    *(deconvolution(encoding=encoding) for encoding in ENCODINGS),
    *(
        convolution3d(kind=kind, strides=strides, dilations=dilations, deconvolution=deconvolution)
        for deconvolution in (False, True)
        for kind in ("CUSTOM", "VALID", "SAME")
        for strides, dilations in (((1, 1, 1), (1, 1, 1)), ((2, 1, 3), (1, 2, 1)))
    ),
    *(
        convolution3d(groups=2, encoding=encoding, deconvolution=deconvolution)
        for deconvolution in (False, True)
        for encoding in ENCODINGS
    ),
    convolution3d(deconvolution=True, strides=(2, 2, 2), output=(10, 12, 8)),
    convolution3d(deconvolution=True, strides=(2, 2, 2), output=(2, 6, 10, 12, 8)),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
