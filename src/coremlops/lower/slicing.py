"""Slices in MIL's words, with their masks: what `slice_by_index` and `slice_update` share.

Source: coremltools, `ops/defs/_utils.py`, `solve_slice_by_index_slice`: NumPy's slices, where a masked begin
or end is None, and a squeezed axis is one element at `begin`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Ints, Value
from coremlops.lower.shapes import Size, element, longs

Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
FAR = 1 << 62  # beyond every axis; ONNX clamps it


@dataclass(frozen=True, slots=True)
class Slices:
    """`starts`, `ends`: vectors of int64, an element for each axis, as ONNX means them.

    `squeezed`: the axes that go.
    """

    starts: Value
    ends: Value
    steps: Ints
    squeezed: Ints

    def start(self, ctx: Lowering, axis: int) -> Size:
        """Where the slice of one axis starts; negative ones count from the end."""
        return element(ctx, self.starts, axis)

    def end(self, ctx: Lowering, axis: int) -> Size:
        """Where the slice of one axis ends."""
        return element(ctx, self.ends, axis)

    def whole(self, axis: int) -> bool:
        """Whether all of this axis is known to be taken, in order."""
        starts, ends = self.starts.constant, self.ends.constant
        if self.steps[axis] != 1 or starts is None or ends is None:
            return False
        return bool(starts[axis] == 0 and ends[axis] == FAR)


def slices(
    ctx: Lowering,
    x: Value,
    begin: Value,
    end: Value,
    stride: Ints | None,
    begin_mask: Value | None,
    end_mask: Value | None,
    squeeze_mask: Value | None,
) -> Slices:
    """The slices that these inputs of an op mean. Raises ValueError when they do not fit x."""
    rank = x.rank
    no_begin, no_end = _mask(begin_mask, rank), _mask(end_mask, rank)
    squeezed = _mask(squeeze_mask, rank)
    steps = np.array(stride or (1,) * rank, np.int64)
    if steps.shape != (rank,) or np.any((steps == 0) & ~squeezed):
        raise ValueError(f"strides {stride} for a tensor of rank {rank}")
    steps[squeezed] = 1
    open_start, open_end = np.where(steps < 0, FAR, 0), np.where(steps < 0, -FAR, FAR)
    starts = _choose(ctx, no_begin, ctx.ints(open_start), _bounds(ctx, begin, rank))
    ends = _choose(ctx, no_end, ctx.ints(open_end), _bounds(ctx, end, rank))
    if squeezed.any():
        ends = _choose(ctx, squeezed, _after(ctx, starts), ends)
    starts, ends = _plain(ctx, x, starts, ends, steps.tolist())
    return Slices(starts, ends, tuple(steps.tolist()), tuple(np.flatnonzero(squeezed).tolist()))


def cut(ctx: Lowering, x: Value, taken: Slices, axes: Sequence[int]) -> Value:
    """The slice of x along `axes`; the others stay whole, and none is squeezed."""
    axes = [axis for axis in axes if not taken.whole(axis)]
    if not axes:
        return x
    starts, ends = (_some(ctx, bounds, axes, len(taken.steps)) for bounds in (taken.starts, taken.ends))
    steps = ctx.ints([taken.steps[axis] for axis in axes])
    return ctx.node("Slice", x, starts, ends, ctx.ints(axes), steps)


def trimmed(ctx: Lowering, x: Value, height: Sequence[int], width: Sequence[int]) -> Value:
    """x without the first and last elements of its last two axes; `height`, `width`: two numbers each."""
    if len(height) != 2 or len(width) != 2 or min(*height, *width) < 0:
        raise ValueError(f"crops of {tuple(height)} and {tuple(width)} elements")
    ends = [-last if last else FAR for last in (height[1], width[1])]
    return ctx.node("Slice", x, ctx.ints([height[0], width[0]]), ctx.ints(ends), ctx.ints([-2, -1]))


def _mask(value: Value | None, rank: int) -> Mask:
    if value is None:
        return np.zeros(rank, np.bool_)
    if value.constant is None or value.constant.shape != (rank,):
        raise ValueError(f"a mask that is no constant of {rank} elements")
    return value.constant.astype(np.bool_)


def _choose(ctx: Lowering, mask: Mask, chosen: Value, other: Value) -> Value:
    """`chosen` where the mask is set, else `other`; computed here when both are known."""
    if not mask.any() or mask.all():
        return chosen if mask.all() and mask.size else other
    if chosen.constant is not None and other.constant is not None:
        return ctx.ints(np.where(mask, chosen.constant, other.constant))
    return ctx.node("Where", ctx.constant(mask), chosen, other)


def _after(ctx: Lowering, starts: Value) -> Value:
    """Where a slice of one element ends: after -1, which is the last element, comes the end."""
    if starts.constant is not None:
        return ctx.ints(np.where(starts.constant == -1, FAR, starts.constant + 1))
    last = ctx.node("Equal", starts, ctx.ints([-1]))
    return ctx.node("Where", last, ctx.ints([FAR]), ctx.node("Add", starts, ctx.ints([1])))


def _bounds(ctx: Lowering, value: Value, rank: int) -> Value:
    shape = value.shape if value.constant is None else value.constant.shape
    if len(shape) != 1 or shape[0] not in (rank, None):
        raise ValueError(f"bounds of shape {shape} for a tensor of rank {rank}")
    return longs(ctx, value)


def _plain(ctx: Lowering, x: Value, starts: Value, ends: Value, steps: Sequence[int]) -> tuple[Value, Value]:
    """Known bounds, with those that are negative or past the end of an axis of known size resolved."""
    if starts.constant is None or ends.constant is None:
        return starts, ends
    first, last = starts.constant.copy(), ends.constant.copy()
    for axis, (known, step) in enumerate(zip(x.shape, steps, strict=True)):
        if known is not None and step > 0:
            first[axis] = max(first[axis] + known, 0) if first[axis] < 0 else first[axis]
            last[axis] = FAR if last[axis] >= known else last[axis]
    return ctx.ints(first), ctx.ints(last)


def _some(ctx: Lowering, bounds: Value, axes: Sequence[int], rank: int) -> Value:
    if len(axes) == rank:
        return bounds
    if bounds.constant is not None:
        return ctx.ints(bounds.constant[list(axes)])
    return ctx.node("Gather", bounds, ctx.ints(axes))
