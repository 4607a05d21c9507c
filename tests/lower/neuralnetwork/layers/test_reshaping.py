"""Layers that give a value another shape or order, against NumPy; examples are the format's."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.lower.neuralnetwork.layers.case import Case, case, check, draws
from tests.networks import Array

RNG = draws(__name__)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def same_elements(
    kind: str, shape: tuple[int, ...], into: tuple[int, ...], *inputs: Any, **fields: Any
) -> Case:
    """The elements keep their order."""
    x = normal(*shape)
    label = f"{shape} {into} {fields}"
    return case(kind, [x, *inputs], x.reshape(into), label=label, **fields)


def reshape(shape: tuple[int, ...], target: tuple[int, ...], mode: str) -> Case:
    """`CHANNEL_LAST`: flattened and shaped again with the channels last."""
    x = normal(*shape)
    lead = shape[:-3] if len(target) == 3 else (target[0], *shape[1:-3])
    channels, height, width = target[-3:]
    if mode == "CHANNEL_LAST":
        last = np.moveaxis(x, -3, -1).reshape(*lead, height, width, channels)
        wanted = np.moveaxis(last, -1, -3)
    else:
        wanted = x.reshape(*lead, channels, height, width)
    return case("reshape", [x], wanted, label=f"{shape} {target} {mode}", targetShape=target, mode=mode)


def flatten(shape: tuple[int, ...], mode: str) -> Case:
    x = normal(*shape)
    order = np.moveaxis(x, -3, -1) if mode == "CHANNEL_LAST" else x
    return case("flatten", [x], order.reshape(*shape[:-3], -1, 1, 1), label=f"{shape} {mode}", mode=mode)


def permute(axis: tuple[int, ...]) -> Case:
    """Of [S, B, C, H, W] all but the batch."""
    x = normal(2, 3, 4, 5, 6)
    order = axis or (0, 1, 2, 3)
    wanted = np.stack([x[:, batch].transpose(order) for batch in range(3)], 1)
    return case("permute", [x], wanted, label=str(axis), axis=axis)


def joined(kind: str, shapes: list[tuple[int, ...]], along: int, **fields: Any) -> Case:
    values = [normal(*shape) for shape in shapes]
    return case(kind, values, np.concatenate(values, along), label=f"{shapes} {along}", **fields)


def interleaved(shape: tuple[int, ...], count: int, axis: int) -> Case:
    values = [normal(*shape) for _ in range(count)]
    wanted = np.concatenate(
        [value.take([place], axis) for place in range(shape[axis]) for value in values], axis
    )
    return case("concatND", values, wanted, label=f"{shape} {count} {axis}", axis=axis, interleave=True)


def stacked(shape: tuple[int, ...], count: int, axis: int) -> Case:
    values = [normal(*shape) for _ in range(count)]
    return case("stack", values, np.stack(values, axis), label=f"{shape} {count} {axis}", axis=axis)


def split(shape: tuple[int, ...], count: int) -> Case:
    x = normal(*shape)
    return case("split", [x], tuple(np.split(x, count, -3)), label=f"{shape} {count}", nOutputs=count)


def split_nd(
    shape: tuple[int, ...],
    axis: int,
    count: int = 0,
    sizes: tuple[int, ...] = (),
    told: tuple[int, ...] = (),
) -> Case:
    """Of parts that are not equal, the first ones are larger."""
    x = normal(*shape)
    parts = np.array_split(x, np.cumsum(sizes)[:-1] if sizes else count, axis)
    label = f"{shape} {axis} {count} {sizes}"
    return case(
        "splitND", [x], tuple(parts), label=label, told=told, axis=axis, numSplits=count, splitSizes=sizes
    )


def tiled(shape: tuple[int, ...], reps: tuple[int, ...], second: bool = False) -> Case:
    x = normal(*shape)
    fields: dict[str, Any] = {} if second else {"reps": reps}
    inputs = [x, np.array(reps)] if second else [x]
    return case("tile", inputs, np.tile(x, reps), label=f"{shape} {reps} {second}", **fields)


def blocks(shape: tuple[int, ...], mode: str, size: int) -> Case:
    """In `DEPTH_TO_SPACE` the place in a block is the slower index of a channel."""
    x, (c, h, w) = normal(*shape), shape[-3:]
    lead, n = shape[:-3], len(shape) - 3
    if mode == "SPACE_TO_DEPTH":
        apart = x.reshape(*lead, c, h // size, size, w // size, size)
        order = (*range(n), n + 2, n + 4, n, n + 1, n + 3)
        wanted = apart.transpose(order).reshape(*lead, c * size * size, h // size, w // size)
    elif mode == "DEPTH_TO_SPACE":
        apart = x.reshape(*lead, size, size, c // size**2, h, w)
        order = (*range(n), n + 2, n + 3, n, n + 4, n + 1)
        wanted = apart.transpose(order).reshape(*lead, c // size**2, h * size, w * size)
    else:
        wanted = F.pixel_shuffle(torch.from_numpy(x), size).numpy()
    return case("reorganizeData", [x], wanted, label=f"{shape} {mode} {size}", mode=mode, blockSize=size)


COUNTED = np.arange(1, 17).reshape(8, 1, 2)
TO_SPACE = [[[1, 5, 2, 6], [9, 13, 10, 14]], [[3, 7, 4, 8], [11, 15, 12, 16]]]
SHUFFLED = [[[1, 3, 2, 4], [5, 7, 6, 8]], [[9, 11, 10, 12], [13, 15, 14, 16]]]


def reversed_(shape: tuple[int, ...], chosen: tuple[bool, ...]) -> Case:
    x = normal(*shape)
    wanted = np.flip(x, [axis for axis, choice in enumerate(chosen) if choice])
    return case("reverse", [x], wanted, label=f"{shape} {chosen}", reverseDim=chosen)


def reversed_sequence(shape: tuple[int, ...], batch: int, sequence: int) -> Case:
    x = normal(*shape)
    lengths = RNG.integers(1, shape[sequence] + 1, shape[batch])
    wanted = np.moveaxis(x.copy(), (batch, sequence), (0, 1))
    for row, length in zip(wanted, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    return case(
        "reverseSeq",
        [x, lengths],
        np.moveaxis(wanted, (0, 1), (batch, sequence)),
        label=f"{shape} {batch} {sequence}",
        batchAxis=batch,
        sequenceAxis=sequence,
    )


def transposed(shape: tuple[int, ...], axes: tuple[int, ...]) -> Case:
    x = normal(*shape)
    return case("transpose", [x], x.transpose(axes), label=f"{shape} {axes}", axes=axes)


MODES = ("CHANNEL_FIRST", "CHANNEL_LAST")
CASES = [
    *(
        reshape(shape, target, mode)
        for mode in MODES
        for shape, target in (
            ((3, 1, 4, 2, 3), (2, 3, 4)),
            ((1, 1, 4, 2, 3), (6, 4, 1)),
            ((3, 1, 4, 2, 3), (2, 4, 3, 3)),
            ((2, 4, 2, 3), (2, 3, 4)),
        )
    ),
    *(flatten(shape, mode) for mode in MODES for shape in ((2, 3, 4), (2, 2, 3, 4), (2, 3, 2, 3, 4))),
    *(permute(axis) for axis in ((), (0, 1, 2, 3), (0, 3, 1, 2), (3, 1, 2, 0), (0, 3, 2, 1), (2, 0, 1, 3))),
    transposed((6, 7, 8, 9), (3, 1, 2, 0)),
    transposed((2, 3), (1, 0)),
    transposed((2, 3, 4, 1, 2), (4, 0, 2, 3, 1)),
    *(
        same_elements("squeeze", shape, into, axes=axes)
        for shape, into, axes in (
            ((1, 1, 10, 5), (10, 5), (0, 1)),
            ((1, 10, 5, 1), (10, 5), (0, 3)),
            ((10, 5, 1, 1), (10, 5), (-2, -1)),
            ((1,), (1,), (0,)),
            ((1, 1), (1,), (0, 1)),
        )
    ),
    *(
        same_elements("squeeze", shape, into, squeezeAll=True, told=told)
        for shape, into, told in (
            ((1, 3, 1, 2), (3, 2), (0, 2)),
            ((1, 1, 1), (1,), (0, 1)),
            ((3, 1), (3,), (1,)),
            ((2, 3), (2, 3), ()),
        )
    ),
    *(
        same_elements("expandDims", (10, 5), into, axes=axes)
        for into, axes in (((1, 1, 10, 5), (0, 1)), ((1, 10, 1, 5), (0, 2)), ((10, 5, 1, 1), (-2, -1)))
    ),
    *(
        same_elements("flattenTo2D", shape, into, axis=axis)
        for shape, axis, into in (
            ((3,), -1, (1, 3)),
            ((3,), 1, (3, 1)),
            ((4, 3), -1, (4, 3)),
            ((5, 2), 0, (1, 10)),
            ((5, 5, 3), -2, (5, 15)),
            ((2, 3, 2), -1, (6, 2)),
        )
    ),
    same_elements("reshapeLike", (2, 6), (3, 4), np.zeros((3, 4))),
    same_elements("reshapeStatic", (2, 6), (3, 4), targetShape=[3, 4]),
    same_elements("reshapeStatic", (2, 6), (1, 3, 4), targetShape=[1, 3, -1]),
    same_elements("reshapeDynamic", (2, 6), (3, 4), [3, 4]),
    same_elements("reshapeDynamic", (2, 6), (2, 1, 6), [-1, 1, 6]),
    *(
        same_elements("rankPreservingReshape", shape, into, targetShape=target)
        for shape, target, into in (
            ((20, 10), (5, -1), (5, 40)),
            ((20, 10, 5), (0, 2, 25), (20, 2, 25)),
            ((10, 3, 5), (25, 0, -1), (25, 3, 2)),
        )
    ),
    joined("concat", [(2, 3, 4), (1, 3, 4), (3, 3, 4)], -3),
    joined("concat", [(2, 2, 3, 4), (2, 1, 3, 4)], -3),
    joined("concat", [(1, 2, 2, 3, 4), (1, 2, 1, 3, 4)], -3),
    joined("concat", [(1, 2, 2, 3, 4), (3, 2, 2, 3, 4)], -5, sequenceConcat=True),
    *(joined("concatND", [(2, 3), (2, 3), (2, 3)], axis, axis=axis) for axis in (0, 1, -1)),
    joined("concatND", [(2, 3, 4), (2, 1, 4)], -2, axis=-2),
    interleaved((2, 3, 4), 2, 1),
    interleaved((2, 3), 3, -1),
    interleaved((4,), 2, 0),
    stacked((2, 4, 2), 5, 3),
    stacked((2, 4, 2), 5, -2),
    stacked((3,), 2, 0),
    *(split(shape, 3) for shape in ((6, 2, 3), (2, 3, 2, 3), (1, 2, 6, 2, 3))),
    split_nd((5, 3, 4), -3, sizes=(3, 2)),
    split_nd((2, 6), 1, count=3),
    split_nd((6,), 0, sizes=(1, 2, 3)),
    split_nd((2, 7), -1, count=3, told=(1,)),
    tiled((2, 4, 2), (1, 2, 6)),
    tiled((2, 4, 2), (6,)),
    tiled((2, 4, 2), (1, 2, 6), second=True),
    tiled((2, 4), (3,), second=True),
    *(
        case(
            "sequenceRepeat",
            [x],
            np.concatenate([x] * (count or 1)),
            label=str(count),
            nRepetitions=count,
        )
        for count in (0, 1, 3)
        for x in [normal(2, 3, 4, 1, 2)]
    ),
    *(
        blocks((*lead, 8, 6, 4), mode, 2)
        for mode in ("SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "PIXEL_SHUFFLE")
        for lead in ((), (2,), (1, 2))
    ),
    blocks((9, 2, 3), "DEPTH_TO_SPACE", 3),
    case(
        "reorganizeData",
        [COUNTED],
        TO_SPACE,
        label="the format's example",
        mode="DEPTH_TO_SPACE",
        blockSize=2,
    ),
    case("reorganizeData", [TO_SPACE], COUNTED, label="and back", mode="SPACE_TO_DEPTH", blockSize=2),
    case("reorganizeData", [COUNTED], SHUFFLED, label="shuffled", mode="PIXEL_SHUFFLE", blockSize=2),
    reversed_((2, 3), (True, False)),
    reversed_((2, 3, 4), (False, True, True)),
    reversed_((2, 3), (False, False)),
    reversed_sequence((3, 5), 0, 1),
    reversed_sequence((2, 3, 4, 2), 0, 2),
    reversed_sequence((2, 3, 4), -2, -1),
    case(
        "reverseSeq",
        [np.arange(8).reshape(2, 4), [3, 0]],
        [[2, 1, 0, 3], [4, 5, 6, 7]],
        label="the format's example",
        sequenceAxis=1,
    ),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)
