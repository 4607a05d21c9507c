"""Ops that move, pick and place what they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.reference.interpreter import Array, Inputs, op


def _ints(given: Inputs, name: str) -> list[int]:
    return [int(value) for value in np.ravel(given[name])]


def _places(given: Inputs) -> Array:
    return np.asarray(given["indices"], np.int64)


def _cut(given: Inputs, rank: int) -> tuple[slice | int, ...]:
    """What `slice_by_index` and `slice_update` name."""

    def flags(name: str) -> list[bool]:
        return [bool(flag) for flag in given.get(name, [False] * rank)]

    steps = _ints(given, "stride") if "stride" in given else [1] * rank
    parts: list[slice | int] = []
    ends = zip(_ints(given, "begin"), _ints(given, "end"), steps, strict=True)
    masks = zip(flags("begin_mask"), flags("end_mask"), flags("squeeze_mask"), strict=True)
    for (begin, end, step), (free, open_, squeezed) in zip(ends, masks, strict=True):
        parts.append(begin if squeezed else slice(None if free else begin, None if open_ else end, step))
    return tuple(parts)


@op("slice_by_index")
def _slice_by_index(given: Inputs) -> Any:
    return given["x"][_cut(given, given["x"].ndim)]


@op("slice_update")
def _slice_update(given: Inputs) -> Any:
    found = given["x"].copy()
    found[_cut(given, found.ndim)] = given["update"]
    return found


@op("slice_by_size")
def _slice_by_size(given: Inputs) -> Any:
    pairs = zip(_ints(given, "begin"), _ints(given, "size"), given["x"].shape, strict=True)
    return given["x"][tuple(slice(b, whole if size == -1 else b + size) for b, size, whole in pairs)]


@op("gather")
def _gather(given: Inputs) -> Any:
    x, places, axis = given["x"], _places(given), int(given.get("axis", 0))
    batch = int(given.get("batch_dims", 0))
    if not batch:
        return np.take(x, places, axis)
    axis %= x.ndim
    found = [np.take(x[at], places[at], axis - batch) for at in np.ndindex(*x.shape[:batch])]
    return np.stack(found).reshape(*x.shape[:batch], *found[0].shape)


@op("gather_along_axis")
def _gather_along_axis(given: Inputs) -> Any:
    return np.take_along_axis(given["x"], _places(given), int(given.get("axis", 0)))


@op("gather_nd")
def _gather_nd(given: Inputs) -> Any:
    x, places, batch = given["x"], _places(given), int(given.get("batch_dims", 0))
    if not batch:
        return x[tuple(np.moveaxis(places, -1, 0))]
    found = [x[at][tuple(np.moveaxis(places[at], -1, 0))] for at in np.ndindex(*x.shape[:batch])]
    return np.stack(found).reshape(*x.shape[:batch], *found[0].shape)


_COMBINE: dict[str, Callable[[Any, Any], Any]] = {
    "update": lambda old, new: new,
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new if old.dtype.kind == "f" else np.trunc(old / new),
    "max": np.maximum,
    "min": np.minimum,
}


def _placed(given: Inputs, pairs: Any) -> Array:
    """`data` with each of (place, value) combined with what is there."""
    found: Array = given["data"].copy()
    combine = _COMBINE[given.get("mode", "add")]
    for place, value in pairs:
        found[place] = combine(found[place], value)
    return found


@op("scatter")
def _scatter(given: Inputs) -> Any:
    axis, places = int(given.get("axis", 0)) % given["data"].ndim, _places(given)
    values = np.moveaxis(given["updates"], range(axis, axis + places.ndim), range(places.ndim))
    before = (slice(None),) * axis
    return _placed(given, (((*before, places[at]), values[at]) for at in np.ndindex(*places.shape)))


@op("scatter_along_axis")
def _scatter_along_axis(given: Inputs) -> Any:
    axis, places = int(given.get("axis", 0)) % given["data"].ndim, _places(given)
    return _placed(
        given,
        (
            ((*at[:axis], places[at], *at[axis + 1 :]), given["updates"][at])
            for at in np.ndindex(*places.shape)
        ),
    )


@op("scatter_nd")
def _scatter_nd(given: Inputs) -> Any:
    places = _places(given)
    return _placed(
        given, ((tuple(places[at]), given["updates"][at]) for at in np.ndindex(*places.shape[:-1]))
    )


@op("band_part")
def _band_part(given: Inputs) -> Any:
    x, lower, upper = given["x"], int(given.get("lower", -1)), int(given.get("upper", -1))
    row, column = np.indices(x.shape[-2:])
    kept = ((lower < 0) | (row - column <= lower)) & ((upper < 0) | (column - row <= upper))
    return np.where(kept, x, np.zeros((), x.dtype))


@op("fill")
def _fill(given: Inputs) -> Any:
    return np.full(_ints(given, "shape"), given.get("value", 0.0))


@op("fill_like")
def _fill_like(given: Inputs) -> Any:
    return np.full(given["ref_tensor"].shape, given.get("value", 0.0))


@op("non_zero")
def _non_zero(given: Inputs) -> Any:
    return np.argwhere(given["x"])


@op("one_hot")
def _one_hot(given: Inputs) -> Any:
    places, size = _places(given), int(given["one_hot_vector_size"])
    hot = places[..., None] == np.arange(size)
    found = np.where(hot, given.get("on_value", 1), given.get("off_value", 0))
    axis = int(given.get("axis", -1))
    return np.moveaxis(found, -1, axis)


@op("range_1d")
def _range(given: Inputs) -> Any:
    start, end, step = (given[name] for name in ("start", "end", "step"))
    count = max(0, int(np.ceil((np.float64(end) - start) / step)))
    return start + step * np.arange(count)


@op("argsort")
def _argsort(given: Inputs) -> Any:
    x, axis = given["x"], int(given.get("axis", -1))
    # ties: the first stands first, in either direction
    order = np.argsort(x if given.get("ascending", False) else _negative(x), axis=axis, kind="stable")
    return order


def _negative(x: Array) -> Array:
    return -x.astype(np.int64) if x.dtype.kind in "iu" else -x


@op("topk")
def _topk(given: Inputs) -> Any:
    x, axis, k = given["x"], int(given.get("axis", -1)), int(given.get("k", 1))
    order = np.argsort(x if given.get("ascending", False) else _negative(x), axis=axis, kind="stable")
    order = np.take(order, np.arange(k if k >= 0 else x.shape[axis]), axis)
    found = np.take_along_axis(x, order, axis)
    return (found, order) if given.get("return_indices", True) else found


@op("flatten2d")
def _flatten(given: Inputs) -> Any:
    x, axis = given["x"], int(given.get("axis", 1))
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis])), -1)


@op("shape")
def _shape(given: Inputs) -> Any:
    return np.array(given["x"].shape)


@op("concat")
def _concat(given: Inputs) -> Any:
    values, axis = given["values"], int(given["axis"])
    if given.get("interleave", False):
        axis %= values[0].ndim
        mixed = np.stack(values, axis + 1)
        return mixed.reshape(*values[0].shape[:axis], -1, *values[0].shape[axis + 1 :])
    return np.concatenate(values, axis)


@op("reverse")
def _reverse(given: Inputs) -> Any:
    return np.flip(given["x"], tuple(_ints(given, "axes")) if "axes" in given else None)


@op("reverse_sequence")
def _reverse_sequence(given: Inputs) -> Any:
    x, lengths = given["x"], _ints(given, "lengths")
    along, batch = (int(given.get(name, 0)) % given["x"].ndim for name in ("seq_axis", "batch_axis"))
    found = np.moveaxis(x, (batch, along), (0, 1)).copy()
    for row, length in zip(found, lengths, strict=True):
        row[:length] = row[:length][::-1].copy()
    return np.moveaxis(found, (0, 1), (batch, along))


@op("depth_to_space")
def _depth_to_space(given: Inputs) -> Any:
    (n, c, h, w), b = given["x"].shape, int(given["block_size"])
    found = given["x"].reshape(n, b, b, c // b**2, h, w).transpose(0, 3, 4, 1, 5, 2)
    return found.reshape(n, c // b**2, h * b, w * b)


@op("space_to_depth")
def _space_to_depth(given: Inputs) -> Any:
    (n, c, h, w), b = given["x"].shape, int(given["block_size"])
    found = given["x"].reshape(n, c, h // b, b, w // b, b).transpose(0, 3, 5, 1, 2, 4)
    return found.reshape(n, c * b**2, h // b, w // b)


@op("pixel_shuffle")
def _pixel_shuffle(given: Inputs) -> Any:
    (n, c, h, w), b = given["x"].shape, int(given["upscale_factor"])
    found = given["x"].reshape(n, c // b**2, b, b, h, w).transpose(0, 1, 4, 2, 5, 3)
    return found.reshape(n, c // b**2, h * b, w * b)


@op("pixel_unshuffle")
def _pixel_unshuffle(given: Inputs) -> Any:
    (n, c, h, w), b = given["x"].shape, int(given["downscale_factor"])
    found = given["x"].reshape(n, c, h // b, b, w // b, b).transpose(0, 1, 3, 5, 2, 4)
    return found.reshape(n, c * b**2, h // b, w // b)


@op("space_to_batch")
def _space_to_batch(given: Inputs) -> Any:
    (a, b), pads = _ints(given, "block_shape"), np.reshape(given["paddings"], (2, 2)).tolist()
    x = np.pad(given["x"], [(0, 0), (0, 0), *pads])
    n, c, h, w = x.shape
    found = x.reshape(n, c, h // a, a, w // b, b).transpose(3, 5, 0, 1, 2, 4)
    return found.reshape(n * a * b, c, h // a, w // b)


@op("batch_to_space")
def _batch_to_space(given: Inputs) -> Any:
    (a, b), (low, high) = _ints(given, "block_shape"), np.reshape(given["crops"], (2, 2)).tolist()
    n, c, h, w = given["x"].shape
    found = given["x"].reshape(a, b, n // (a * b), c, h, w).transpose(2, 3, 4, 0, 5, 1)
    found = found.reshape(n // (a * b), c, h * a, w * b)
    return found[:, :, low[0] : h * a - low[1], high[0] : w * b - high[1]]


@op("sliding_windows")
def _sliding_windows(given: Inputs) -> Any:
    x, size, stride = given["x"], int(given["size"]), int(given.get("stride", 1))
    axis = int(given["axis"]) % given["x"].ndim
    found = np.lib.stride_tricks.sliding_window_view(x, size, axis=axis)
    found = np.moveaxis(found, -1, axis + 1)
    return np.take(found, np.arange(0, found.shape[axis], stride), axis)


@op("crop")
def _crop(given: Inputs) -> Any:
    (top, bottom), (left, right) = _ints(given, "crop_height"), _ints(given, "crop_width")
    *_, h, w = given["x"].shape
    return given["x"][..., top : h - bottom, left : w - right]
