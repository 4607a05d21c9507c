"""Ops that reshape, slice and reorder, against NumPy and PyTorch, exactly: they only move values."""

from typing import Any

import numpy as np
import pytest
import torch

from coremlops.dialects.mil import Ref
from coremlops.errors import ModelFormatError, UnsupportedOpsError
from tests.lower.programs import Array, function, one, onnx_ops, operation, run, typed

RNG = np.random.default_rng(11)
DTYPES: dict[str, Any] = {
    "fp32": np.float32,
    "fp16": np.float16,
    "int32": np.int32,
    "bool": np.bool_,
    "uint8": np.uint8,
}


def counted(*shape: int, dtype: str = "fp32") -> Array:
    """Different numbers, all of them exact in fp16."""
    count = int(np.prod(shape))
    return RNG.permutation(count).reshape(shape).astype(DTYPES[dtype])


def moved(kind: str, x: Array, expected: Array, dtype: str = "fp32", **inputs: Any) -> None:
    """The op gives `expected`, with the shapes of x and of the result known and with none known."""
    for open_ in (False, True):
        shapes = [tuple(None for _ in value.shape) if open_ else value.shape for value in (x, expected)]
        program = function(
            {"x": typed(dtype, *shapes[0])},
            [operation(kind, "y", typed(dtype, *shapes[1]), x=Ref("x"), **inputs)],
        )
        found = run(program, x=x)["y"]
        np.testing.assert_array_equal(found, expected)
        assert found.shape == expected.shape


def _some(**inputs: Any) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if value is not None}


def at_run_time(kind: str, x: Array, expected: Array, **vectors: list[int]) -> None:
    """The op gives `expected` when its vectors of integers are inputs of the program."""
    types = {name: typed("int32", len(value)) for name, value in vectors.items()}
    program = function(
        {"x": typed("fp32", *(None,) * x.ndim), **types},
        [
            operation(
                kind,
                "y",
                typed("fp32", *(None,) * expected.ndim),
                x=Ref("x"),
                **{name: Ref(name) for name in vectors},
            )
        ],
    )
    feeds = {name: np.array(value, np.int32) for name, value in vectors.items()}
    found = run(program, x=x, **feeds)["y"]
    np.testing.assert_array_equal(found, expected)
    assert found.shape == expected.shape


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_all_dtypes(dtype: str) -> None:
    x = counted(2, 4, 3, dtype=dtype)
    moved("reverse", x, x[:, ::-1], dtype, axes=[1])
    moved("sliding_windows", x, np.stack([x[:, 0:2], x[:, 2:4]], 1), dtype, axis=1, size=2, stride=2)
    moved("slice_by_index", x, x[:, 1:3, ::-1], dtype, begin=[0, 1, 2], end=[2, 3, 0], stride=[1, 1, -1],
          end_mask=np.array([False, False, True]))  # fmt: skip
    moved("slice_by_size", x, x[:, 1:3], dtype, begin=[0, 1, 0], size=[-1, 2, 3])
    turned = x.copy()
    turned[0, :, :2], turned[1, :, :3] = x[0, :, 1::-1], x[1, :, ::-1]
    moved("reverse_sequence", x, turned, dtype, lengths=[2, 3], seq_axis=-1, batch_axis=0)
    updated = x.copy()
    updated[:, 1:3] = x[:, :2]
    program = function(
        {"x": typed(dtype, 2, 4, 3), "u": typed(dtype, 2, 2, 3)},
        [
            operation(
                "slice_update",
                "y",
                typed(dtype, 2, 4, 3),
                x=Ref("x"),
                update=Ref("u"),
                begin=[0, 1, 0],
                end=[2, 3, 3],
            )
        ],
    )
    np.testing.assert_array_equal(run(program, x=x, u=np.ascontiguousarray(x[:, :2]))["y"], updated)


@pytest.mark.parametrize(
    ("shape", "wanted", "expected"),
    [
        ((2, 3, 4), [4, 6], (4, 6)),
        ((2, 3, 4), [-1, 4], (6, 4)),
        ((2, 3, 4), [0, -1, 2], (2, 6, 2)),
        ((2, 3, 4), [2, -1, 0], (2, 3, 4)),
        ((2, 50), [1, 0, -1, 0], (1, 1, 2, 50)),  # iOS 17: zeros are matched from the right
        ((2, 3, 4), [-1, 0], (6, 4)),
        ((1,), [1, 1], (1, 1)),
    ],
)
def test_reshape(shape: tuple[int, ...], wanted: list[int], expected: tuple[int, ...]) -> None:
    x = counted(*shape)
    moved("reshape", x, x.reshape(expected), shape=wanted)
    at_run_time("reshape", x, x.reshape(expected), shape=wanted)


def test_reshape_to_and_from_a_scalar() -> None:
    np.testing.assert_array_equal(
        one("reshape", typed("fp32", 1, 1), np.array(3, np.float32), shape=[1, 1]), [[3]]
    )
    assert (
        one("squeeze", typed("fp32"), np.full((1, 1), 3, np.float32), x_type=typed("fp32", 1, 1)).shape == ()
    )


def test_reshape_like() -> None:
    x = counted(6, 5)
    program = function(
        {"x": typed("fp32", 6, 5), "a": typed("int32", None, 3, 4), "b": typed("fp32", 1, 5, 7)},
        [
            operation(
                "reshape_like",
                "y",
                typed("fp32", None, 3, 5, 1),
                x=Ref("x"),
                ref_tensors=(Ref("a"), Ref("b"), Ref("b")),
                begins=(Ref("zero"), Ref("one"), Ref("zero")),
                ends=(Ref("two"), Ref("two"), Ref("one")),
                end_masks=(Ref("no"), Ref("no"), Ref("no")),
            )
        ],
    )
    constants = {"zero": 0, "one": 1, "two": 2, "no": False}
    from dataclasses import replace

    from coremlops.dialects.mil import NamedType, Operation, TensorType
    from tests.lower.programs import constant

    made = tuple(
        Operation(
            "const",
            name,
            {},
            (NamedType(name, TensorType("bool" if name == "no" else "int32")),),
            (),
            {"val": constant(value)},
        )
        for name, value in constants.items()
    )
    program = replace(program, block=replace(program.block, operations=(*made, *program.block.operations)))
    found = run(program, x=x, a=np.zeros((2, 3, 4), np.int32), b=np.zeros((1, 5, 7), np.float32))["y"]
    np.testing.assert_array_equal(found, x.reshape(2, 3, 5, 1))


@pytest.mark.parametrize(
    ("begin", "end", "stride", "masks", "expected"),
    [
        ([1, 0, 2], [3, 2, 5], None, {}, np.s_[1:3, 0:2, 2:5]),
        ([-3, 0, -2], [-1, 3, 9], None, {}, np.s_[-3:-1, :, -2:9]),
        ([3, 0, 4], [0, 3, -6], [-2, 1, -1], {}, np.s_[3:0:-2, :, 4::-1]),
        ([9, 9, 9], [9, 9, 9], [1, -1, 2], {"begin_mask": "111", "end_mask": "111"}, np.s_[:, ::-1, ::2]),
        ([1, 2, 1], [0, 0, 3], None, {"squeeze_mask": "110"}, np.s_[1, 2, 1:3]),
        ([-1, 0, -1], [0, 3, 0], [7, 2, 1], {"squeeze_mask": "101"}, np.s_[-1, 0:3:2, -1]),
        ([0, 1, -5], [0, 0, 0], None, {"squeeze_mask": "111"}, np.s_[0, 1, -5]),
        ([1, 2, 0], [9, 0, 2], None, {"begin_mask": "100", "squeeze_mask": "010", "end_mask": "001"},
         np.s_[:, 2, :]),
    ],
)  # fmt: skip
def test_slice_by_index(
    begin: list[int], end: list[int], stride: list[int] | None, masks: dict[str, str], expected: Any
) -> None:
    x = counted(4, 3, 5)
    more: dict[str, Any] = {name: np.array([bit == "1" for bit in bits]) for name, bits in masks.items()}
    if stride:
        more["stride"] = stride
    moved("slice_by_index", x, x[expected], begin=begin, end=end, **more)
    program = function(
        {"x": typed("fp32", 4, None, 5), "b": typed("int32", 3), "e": typed("int32", 3)},
        [
            operation(
                "slice_by_index",
                "y",
                typed("fp32", *(None,) * x[expected].ndim),
                x=Ref("x"),
                begin=Ref("b"),
                end=Ref("e"),
                **more,
            )
        ],
    )
    found = run(program, x=x, b=np.array(begin, np.int32), e=np.array(end, np.int32))["y"]
    np.testing.assert_array_equal(found, x[expected])


def test_a_slice_that_takes_all_costs_nothing() -> None:
    program = function(
        {"x": typed("fp32", 4, 5)},
        [operation("slice_by_index", "y", typed("fp32", 4, 5), x=Ref("x"), begin=[0, -5], end=[4, 99])],
    )
    assert onnx_ops(program) == []


def test_slice_that_is_empty() -> None:
    x = counted(4, 3)
    moved("slice_by_index", x, x[2:2], begin=[2, 0], end=[2, 3])


@pytest.mark.parametrize(("mask", "begin"), [("10", [0]), ("1", [0, 0])])
def test_slice_with_bounds_that_do_not_fit(mask: str, begin: list[int]) -> None:
    bits = np.array([bit == "1" for bit in mask])
    with pytest.raises(ModelFormatError, match="do not fit"):
        one("slice_by_index", typed("fp32", 2, 2), counted(2, 2), begin=begin, end=begin, begin_mask=bits)


@pytest.mark.parametrize(
    ("begin", "size", "expected"),
    [
        ([1, 0, 2], [2, 3, 3], np.s_[1:3, :, 2:5]),
        ([0, 1, 3], [-1, -1, -1], np.s_[:, 1:, 3:]),
        ([-2, 0, -5], [1, 2, -1], np.s_[2:3, :2, :]),
    ],
)
def test_slice_by_size(begin: list[int], size: list[int], expected: Any) -> None:
    x = counted(4, 3, 5)
    moved("slice_by_size", x, x[expected], begin=begin, size=size)
    at_run_time("slice_by_size", x, x[expected], begin=begin, size=size)


UPDATES: list[tuple[list[int], list[int], list[int] | None, dict[str, str], Any]] = [
    ([0, 1, 0], [4, 2, 5], None, {}, np.s_[:, 1:2]),
    ([1, 1, 2], [3, 3, 4], None, {}, np.s_[1:3, 1:3, 2:4]),
    ([-3, 0, -2], [-1, 3, 9], None, {}, np.s_[-3:-1, :, -2:]),
    ([0, 2, 0], [4, 0, 5], [2, 1, 3], {"squeeze_mask": "010"}, np.s_[0:4:2, 2, 0:5:3]),
    ([3, 0, 4], [0, 3, -6], [-2, 1, -1], {}, np.s_[3:0:-2, :, 4::-1]),
    ([0, 0, 1], [0, 0, 4], None, {"begin_mask": "110", "end_mask": "110"}, np.s_[:, :, 1:4]),
    ([0, 0, 0], [4, 3, 5], None, {}, np.s_[:, :, :]),
]


@pytest.mark.parametrize(("begin", "end", "stride", "masks", "expected"), UPDATES)
@pytest.mark.parametrize("how", ["known", "open", "run time"])
def test_slice_update(
    begin: list[int],
    end: list[int],
    stride: list[int] | None,
    masks: dict[str, str],
    expected: Any,
    how: str,
) -> None:
    x = counted(4, 3, 5)
    update = -1 - counted(*x[expected].shape)
    wanted = x.copy()
    wanted[expected] = update
    more: dict[str, Any] = {name: np.array([bit == "1" for bit in bits]) for name, bits in masks.items()}
    if stride:
        more["stride"] = stride
    known = how == "known"
    inputs = {
        "x": typed("fp32", *(x.shape if known else (None,) * 3)),
        "u": typed("fp32", *(update.shape if known else (None,) * update.ndim)),
    }
    feeds = {"x": x, "u": update}
    if how == "run time":
        inputs |= {"b": typed("int32", 3), "e": typed("int32", 3)}
        feeds |= {"b": np.array(begin, np.int32), "e": np.array(end, np.int32)}
        more |= {"begin": Ref("b"), "end": Ref("e")}
    else:
        more |= {"begin": begin, "end": end}
    program = function(
        inputs, [operation("slice_update", "y", inputs["x"], x=Ref("x"), update=Ref("u"), **more)]
    )
    np.testing.assert_array_equal(run(program, **feeds)["y"], wanted)


@pytest.mark.parametrize("axes", [None, [0], [-1, 0], [2, 1, 0]])
def test_reverse(axes: list[int] | None) -> None:
    x = counted(2, 3, 4)
    moved("reverse", x, np.flip(x, axes), **_some(axes=axes))


@pytest.mark.parametrize(("sequence", "batch"), [(1, 0), (0, 1), (-1, 1), (1, -1)])
def test_reverse_sequence(sequence: int, batch: int) -> None:
    x = counted(3, 4, 5)
    lengths = RNG.integers(0, x.shape[sequence] + 1, x.shape[batch])
    lengths[0] = 0
    front = np.moveaxis(x, (batch, sequence), (0, 1)).copy()
    for row, length in enumerate(lengths):
        front[row, :length] = front[row, :length][::-1]
    expected = np.moveaxis(front, (0, 1), (batch, sequence))
    moved("reverse_sequence", x, expected, lengths=lengths.tolist(), seq_axis=sequence, batch_axis=batch)


@pytest.mark.parametrize(("axis", "size", "stride"), [(1, 2, 1), (-1, 3, 2), (0, 4, 9), (1, 1, 1)])
def test_sliding_windows(axis: int, size: int, stride: int) -> None:
    x = counted(4, 3, 8)
    windows = np.lib.stride_tricks.sliding_window_view(x, size, axis=axis)
    positive = axis % 3
    expected = np.moveaxis(windows, -1, positive + 1)[
        (slice(None),) * positive + (slice(None, None, stride),)
    ]
    moved("sliding_windows", x, expected, axis=axis, size=size, stride=stride)


def test_sliding_windows_longer_than_the_axis() -> None:
    with pytest.raises(ModelFormatError, match="windows of 9 elements along an axis of 8"):
        one("sliding_windows", typed("fp32", 0, 9), counted(8), x_type=typed("fp32", 8), axis=0, size=9)


def test_pixels_and_channels() -> None:
    x = counted(2, 12, 4, 6)
    shuffled = torch.nn.functional.pixel_shuffle(torch.from_numpy(x), 2).numpy()
    moved("pixel_shuffle", x, shuffled, upscale_factor=2)
    moved("pixel_unshuffle", shuffled, x, downscale_factor=2)
    blocks = x.reshape(2, 2, 2, 3, 4, 6).transpose(0, 3, 4, 1, 5, 2).reshape(2, 3, 8, 12)
    moved("depth_to_space", x, blocks, block_size=2)
    moved("space_to_depth", blocks, x, block_size=2)


def test_space_and_batch() -> None:
    x = counted(2, 3, 5, 4)
    paddings = np.array([[1, 2], [0, 2]], np.int32)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 2), (0, 2)))
    split = padded.reshape(2, 3, 4, 2, 2, 3).transpose(3, 5, 0, 1, 2, 4).reshape(12, 3, 4, 2)
    moved("space_to_batch", x, split, block_shape=[2, 3], paddings=paddings)
    moved("batch_to_space", split, x, block_shape=[2, 3], crops=paddings)


def test_blocks_that_make_no_sense() -> None:
    with pytest.raises(UnsupportedOpsError, match="a block of 0 elements"):
        one("pixel_unshuffle", typed("fp32", 1, 0, 2, 2), counted(1, 1, 2, 2), downscale_factor=0)


def test_a_moved_value_is_rounded_once() -> None:
    """fp16 input into a slice: the debt of rounding passes through, so that one pair of casts is written."""
    program = function(
        {"x": typed("fp16", 4)},
        [operation("slice_by_index", "y", typed("fp16", 2), x=Ref("x"), begin=[1], end=[3])],
    )
    assert onnx_ops(program) == ["Slice", "Cast", "Cast"]
