"""Padding and windows in the words of `SamePadding`, `ValidPadding` and `ValidCompletePadding`."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from tests.networks import Array

# Before and after each axis.
Pads: TypeAlias = Sequence[tuple[int, int]]


def same(sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int], top_left: bool = False) -> Pads:
    """What `same` adds: as much as ceil(size / stride) windows need, the odd one at the end or in front."""
    pads = []
    for size, width, stride in zip(sizes, reach, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + width - size)
        less = total // 2
        pads.append((total - less, less) if top_left else (less, total - less))
    return pads


def padded(x: Array, pads: Pads, value: float = 0) -> Array:
    """x with its last axes padded."""
    return np.pad(x, [(0, 0)] * (x.ndim - len(pads)) + list(pads), constant_values=value)


def counts(sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], pads: Pads) -> list[int]:
    """How many windows there are along each axis: those that lie inside the padded input."""
    return [
        (size + before + after - width) // stride + 1
        for size, width, stride, (before, after) in zip(sizes, kernel, strides, pads, strict=True)
    ]


def counts_with_last_pixel(
    sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int], pads: Pads
) -> list[int]:
    """The same with the number rounded up; a window that would begin past the input is not one."""
    found = []
    for size, width, stride, (pad, _) in zip(sizes, kernel, strides, pads, strict=True):
        count = -(-(size + 2 * pad - width) // stride) + 1
        if any(before > 0 for before, _ in pads) and (count - 1) * stride >= size + pad:
            count -= 1
        found.append(count)
    return found


def pooled(
    x: Array,
    kind: str,
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Pads,
    number: Sequence[int],
    exclude: bool = False,
) -> Array:
    """Pools over the last axes, one window after the other.

    A mean counts the padding, unless `exclude`, and never what lies past it.
    """
    axes = len(kernel)
    sizes, lead = x.shape[-axes:], x.shape[:-axes]
    result = np.zeros((*lead, *number))
    for place in product(*(range(count) for count in number)):
        starts = [i * stride - before for i, stride, (before, _) in zip(place, strides, pads, strict=True)]
        window: tuple[Any, ...] = (..., *_clipped(starts, kernel, sizes))
        inner = x[window].reshape(*lead, -1)
        if kind == "MAX":
            value = inner.max(-1)
        elif kind == "L2":
            value = np.sqrt((inner**2).sum(-1))
        else:
            reached = [
                min(start + width, size + after) - start
                for start, width, size, (_, after) in zip(starts, kernel, sizes, pads, strict=True)
            ]
            value = inner.sum(-1) / (inner.shape[-1] if exclude else np.prod(reached))
        result.reshape(*lead, -1)[..., np.ravel_multi_index(place, tuple(number))] = value
    return result


def _clipped(starts: Sequence[int], kernel: Sequence[int], sizes: Sequence[int]) -> Iterator[slice]:
    for start, width, size in zip(starts, kernel, sizes, strict=True):
        yield slice(max(0, start), min(size, start + width))


def border(pads: Pads) -> dict[str, list[dict[str, int]]]:
    """`BorderAmounts` of these."""
    return {"borderAmounts": [{"startEdgeSize": before, "endEdgeSize": after} for before, after in pads]}
