"""Layers that take a part of a value, or put something around it, against NumPy's indexing and padding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from coremlops.errors import ModelFormatError
from tests.lower.neuralnetwork.layers.case import Case, add_layer, case, check, draws, network_case
from tests.lower.neuralnetwork.layers.windows import border
from tests.networks import Array, lower, network, one

RNG = draws(__name__)
AXES = {"CHANNEL_AXIS": -3, "HEIGHT_AXIS": -2, "WIDTH_AXIS": -1}


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape)


def old_slice(shape: tuple[int, ...], axis: str, start: int, end: int, stride: int) -> Case:
    x = normal(*shape)
    index: list[Any] = [slice(None)] * x.ndim
    index[AXES[axis]] = slice(start, end, stride or 1)
    label = f"{shape} {axis} {start}:{end}:{stride}"
    fields: dict[str, Any] = {"startIndex": start, "endIndex": end, "stride": stride}
    return case("slice", [x], x[tuple(index)], label=label, axis=axis, **fields)


def wanted_slice(
    x: Array,
    begins: Sequence[int],
    ends: Sequence[int],
    strides: Sequence[int],
    begin_masks: Sequence[bool] = (),
    end_masks: Sequence[bool] = (),
    squeezed: Sequence[bool] = (),
) -> Array:
    """A squeezed axis keeps the one element where its slice begins."""
    index: list[Any] = []
    for axis in range(x.ndim):
        begin = None if axis < len(begin_masks) and begin_masks[axis] else begins[axis]
        end = None if axis < len(end_masks) and end_masks[axis] else ends[axis]
        if axis < len(squeezed) and squeezed[axis]:
            index.append((-1 if strides[axis] < 0 else 0) if begin is None else begin)
        else:
            index.append(slice(begin, end, strides[axis]))
    return np.atleast_1d(x[tuple(index)])


SLICES: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    (
        (5, 5, 5),  # the format's examples
        {
            "begins": [1, 2, 3],
            "ends": [3, -3, 2],
            "strides": [2, 2, 2],
            "begin_masks": [True, False, True],
            "end_masks": [False, True, True],
        },
    ),
    (
        (5, 5, 5),
        {
            "begins": [1, 2, 3],
            "ends": [3, -3, 2],
            "strides": [2, 2, 2],
            "begin_masks": [True, False, True],
            "end_masks": [False, True, True],
            "squeezed": [False, True, False],
        },
    ),
    ((6,), {"begins": [-1], "ends": [0], "strides": [-2]}),
    ((6,), {"begins": [4], "ends": [0], "strides": [-1], "begin_masks": [True], "end_masks": [True]}),
    ((4, 6), {"begins": [1, -5], "ends": [100, -1], "strides": [1, 2]}),
    ((4, 6), {"begins": [-1, 0], "ends": [0, 6], "strides": [1, 1], "squeezed": [True, False]}),
    ((4, 3), {"begins": [2, 1], "ends": [0, 0], "strides": [1, -1], "squeezed": [True, True]}),
    (
        (4, 3),
        {
            "begins": [2, 1],
            "ends": [3, 2],
            "strides": [1, -1],
            "begin_masks": [True, True],
            "squeezed": [False, True],
            "end_masks": [True, False],
        },
    ),
    (
        (2, 4, 3),
        {
            "begins": [1, 3, 0],
            "ends": [2, 0, 3],
            "strides": [1, -2, 1],
            "begin_masks": [True, False, False],
            "squeezed": [True, False, False],
        },
    ),
    ((1, 2, 3, 4, 5), {"begins": [0, 1, 0, -3, 1], "ends": [1, 2, 2, 4, 5], "strides": [1, 1, 1, 1, 3]}),
]


def fields_of(rank: int, options: dict[str, Any]) -> dict[str, Any]:
    no = [False] * rank
    return {
        "endIds": options["ends"],
        "strides": options["strides"],
        "beginMasks": options.get("begin_masks", no),
        "endMasks": options.get("end_masks", no),
        "squeezeMasks": options.get("squeezed", []),
    }


def static(shape: tuple[int, ...], options: dict[str, Any]) -> Case:
    x = normal(*shape)
    fields = fields_of(len(shape), options)
    wanted = wanted_slice(x, **options)
    return case("sliceStatic", [x], wanted, label=f"{shape} {options}", beginIds=options["begins"], **fields)


ORDER = ("endIds", "strides", "beginMasks", "endMasks", "squeezeMasks")


def dynamic(shape: tuple[int, ...], options: dict[str, Any], inputs: int) -> Case:
    """So many inputs, x and begin among them; which axes are dropped stands in the file."""
    x, fields = normal(*shape), fields_of(len(shape), options)
    given = {"begin": options["begins"]} | {name: fields.pop(name) for name in ORDER[: inputs - 2]}
    squeezed = given.pop("squeezeMasks", None)
    feeds = {"x": x, **given}
    names = [*feeds, *(["squeezeMasks"] if squeezed is not None else [])]

    def build(message: Any) -> None:
        if squeezed is not None:
            mask = np.array(squeezed or [False] * len(shape), np.float32)
            add_layer(message, "loadConstantND", [], ["squeezeMasks"], shape=[len(shape)], data=mask)
        add_layer(message, "sliceDynamic", names, ["y"], **fields)

    return network_case(
        "sliceDynamic", build, feeds, {"y": wanted_slice(x, **options)}, f"{inputs} {shape} {options}"
    )


def by_size(shape: tuple[int, ...], axis: int, begin: int, size: int) -> Case:
    x = normal(*shape)
    start = begin % shape[axis]
    wanted = x.take(range(start, start + size), axis)
    return case(
        "sliceBySize", [x, [begin]], wanted, label=f"{shape} {axis} {begin} {size}", axis=axis, size=size
    )


def cropped(shape: tuple[int, ...], edges: Sequence[tuple[int, int]]) -> Case:
    x = normal(*shape)
    (top, bottom), (left, right) = edges
    wanted = x[..., top : shape[-2] - bottom, left : shape[-1] - right]
    return case("crop", [x], wanted, label=f"{shape} {edges}", cropAmounts=border(edges))


def cropped_like(shape: tuple[int, ...], like: tuple[int, ...], offset: tuple[int, int]) -> Case:
    x, (top, left) = normal(*shape), offset
    wanted = x[..., top : top + like[-2], left : left + like[-1]]
    fields: dict[str, Any] = {"offset": offset} if any(offset) else {}
    return case("crop", [x, np.zeros(like)], wanted, label=f"{shape} like {like} {offset}", **fields)


def padded(shape: tuple[int, ...], edges: Sequence[tuple[int, int]], mode: str, value: float = 0.0) -> Case:
    x = normal(*shape)
    pads = [(0, 0)] * (x.ndim - 2) + list(edges)
    numpys: dict[str, Any] = {"constant": "constant", "reflection": "reflect", "replication": "edge"}
    options = {"constant_values": value} if mode == "constant" else {}
    wanted = np.pad(x, pads, numpys[mode], **options)
    fields: dict[str, Any] = {mode: {"value": value} if mode == "constant" else {}}
    label = f"{shape} {edges} {mode} {value}"
    return case("padding", [x], wanted, label=label, paddingAmounts=border(edges), **fields)


def constant_pad(
    shape: tuple[int, ...], amounts: Sequence[int], *, sized: bool = False, second: bool = False
) -> Case:
    """`sized`: an amount is the size that the axis is to have, on the side where the padding goes."""
    x, pairs = normal(*shape), np.array(amounts).reshape(-1, 2)
    widths = np.where(pairs > 0, np.maximum(pairs - np.array(shape)[:, None], 0), 0) if sized else pairs
    return case(
        "constantPad",
        [x, amounts] if second else [x],
        np.pad(x, widths.tolist(), constant_values=1.5),
        label=f"{shape} {amounts} {sized} {second}",
        value=1.5,
        padAmounts=[] if second else amounts,
        padToGivenOutputSizeMode=sized,
    )


def windows(shape: tuple[int, ...], axis: int, size: int, step: int) -> Case:
    x, place = normal(*shape), axis % len(shape)
    every = np.moveaxis(np.lib.stride_tricks.sliding_window_view(x, size, place), -1, place + 1)
    wanted = every.take(range(0, every.shape[place], step or 1), place)
    label = f"{shape} {axis} {size} {step}"
    return case("slidingWindows", [x], wanted, label=label, axis=axis, windowSize=size, step=step)


EDGES = [((0, 0), (0, 0)), ((1, 2), (0, 1)), ((2, 0), (1, 2))]
LITTLE = normal(2, 3)
CASES = [
    *(
        old_slice((2, 6, 7, 8), axis, start, end, stride)
        for axis in AXES
        for start, end, stride in ((0, 3, 1), (1, -1, 2), (-4, -2, 0), (2, 100, 3))
    ),
    old_slice((1, 2, 6, 4, 3), "CHANNEL_AXIS", 1, 5, 2),
    old_slice((5,), "WIDTH_AXIS", 1, 4, 1),
    *(static(shape, options) for shape, options in SLICES),
    *(dynamic(shape, options, inputs) for shape, options in SLICES for inputs in range(2, 8)),
    case("sliceDynamic", [LITTLE, [1, 0]], LITTLE[1:, :2], label="fields left out", endIds=[2, 2]),
    by_size((2, 3, 4), 1, 1, 2),
    by_size((5,), 0, -3, 3),
    by_size((2, 6), -1, -4, 2),
    by_size((2, 6), -1, 0, 6),
    *(cropped(shape, edges) for shape in ((6, 7), (2, 6, 7), (1, 2, 2, 6, 7)) for edges in EDGES),
    cropped_like((2, 6, 7), (1, 3, 4), (1, 2)),
    cropped_like((1, 2, 2, 6, 7), (1, 2, 1, 5, 7), (0, 0)),
    *(
        padded(shape, edges, mode)
        for shape in ((3, 4), (2, 3, 4), (1, 2, 2, 3, 4))
        for edges in EDGES
        for mode in ("constant", "reflection", "replication")
    ),
    padded((2, 3, 4), EDGES[1], "constant", -2.5),
    case(
        "padding",
        [[[1, 2]]],
        [[0, 0, 0], [0, 1, 2]],
        label="of no kind",
        paddingAmounts=border([(1, 0), (1, 0)]),
    ),
    *(
        constant_pad(shape, amounts, second=second)
        for shape, amounts in (
            ((20, 10), (0, 1, 4, 0)),
            ((20, 10, 5), (0, 0, 3, 4, 0, 9)),
            ((3,), (2, 1)),
        )
        for second in (False, True)
    ),
    *(
        constant_pad(shape, amounts, sized=True, second=second)
        for shape, amounts in (
            ((20, 10), (0, 21, 14, 0)),
            ((20, 10, 5), (0, 0, 17, 0, 0, 14)),
            ((4, 3), (0, 2, 5, 0)),
        )
        for second in (False, True)
    ),
    *(
        windows(shape, axis, size, step)
        for shape, axis, size, step in (
            ((7,), 0, 3, 1),
            ((2, 8, 3), 1, 3, 2),
            ((2, 1, 6, 3, 2), 2, 2, 3),
            ((3, 5), -1, 5, 1),
            ((9,), 0, 2, 4),
        )
    ),
]


@pytest.mark.parametrize("entry", CASES, ids=str)
def test_layer(entry: Case) -> None:
    check(entry)


@pytest.mark.parametrize("size", [0, 8])
def test_windows_that_do_not_fit(size: int) -> None:
    with pytest.raises(ModelFormatError, match=f"windows of {size} elements over 7"):
        one("slidingWindows", np.ones((3, 7)), axis=1, windowSize=size, step=1)


def test_windows_that_would_fill_the_memory() -> None:
    """Nothing is allocated for them: half of 2^20 elements, from half a million places."""
    message = network()
    add_layer(message, "slidingWindows", ["x"], ["y"], axis=0, windowSize=1 << 19, step=1)
    with pytest.raises(ModelFormatError, match="at most 268435456 elements"):
        lower(message, {"x": [1 << 20]}, ["y"])
    message.layers[0].slidingWindows.windowSize = 1 << 40
    with pytest.raises(ModelFormatError, match="windows of 1099511627776 elements"):
        lower(message, {"x": [None]}, ["y"])
