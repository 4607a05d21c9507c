"""One weight, encoded: what is stored for it, and the values that a system decodes from that.

Pure NumPy: arrays in, arrays out. Sources: coremltools, `ops/defs/iOS16/constexpr_ops.py` and
`iOS18/compression.py`, for what each operation computes; `optimize/_utils.py` for the ranges of integers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from coremlops.compress.kmeans import cluster, nearest
from coremlops.compress.recipe import Setting
from coremlops.compress.weights import Weight
from coremlops.errors import InputError
from coremlops.model.bits import packed_bytes

Array: TypeAlias = np.ndarray[Any, Any]


class Unfit(Exception):
    """A setting that a weight's shape or values do not allow: the reason. The weight stays as it is."""


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """scale * (data - offset): `data` int8 that holds numbers of `bits` bits; the others one a block.

    `scale`, and `offset` where there is one, have the data's rank and axes that divide its own.
    """

    data: Array
    bits: int
    scale: Array
    offset: Array | None

    def decoded(self) -> Array:
        """The numbers, in the scale's dtype."""
        shifted = self.data.astype(np.float32)
        if self.offset is not None:
            shifted -= spread(self.offset.astype(np.float32), self.data.shape)
        with np.errstate(over="ignore"):
            return (shifted * spread(self.scale.astype(np.float32), self.data.shape)).astype(self.scale.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """`indices` (uint8 of the weight's shape) into tables `lut` [*groups, 2**bits, 1].

    `linear`: the tables as int8, where they are stored so.
    """

    indices: Array
    bits: int
    lut: Array
    linear: Linear | None = None

    def decoded(self) -> Array:
        """The numbers, in the table's dtype."""
        groups = self.lut.shape[:-2]
        rows = np.arange(math.prod(groups), dtype=np.int64).reshape(groups)
        found: Array = self.lut.reshape(-1)[(spread(rows, self.indices.shape) << self.bits) + self.indices]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """A weight as it will be stored.

    `mask`: where values are stored at all (bool of the weight's shape), None for everywhere. `table` or
    `linear`: how those are; neither: as they are in `dense`, which is what a system decodes.
    """

    dense: Array
    mask: Array | None = None
    table: Table | None = None
    linear: Linear | None = None
    error: float = field(default=0.0)
    power: float = field(default=0.0)

    @property
    def bytes(self) -> int:
        """What its values take in a weight file, without records and padding."""
        count = int(np.count_nonzero(self.mask)) if self.mask is not None else self.dense.size
        total = 0 if self.mask is None else packed_bytes(self.mask.size, 1)
        if self.table is not None:
            total += packed_bytes(count, self.table.bits)
            linear = self.table.linear
            return total + (
                self.table.lut.nbytes if linear is None else linear.data.nbytes + linear.scale.nbytes
            )
        if self.linear is not None:
            total += packed_bytes(count, self.linear.bits) + self.linear.scale.nbytes
            offset = self.linear.offset
            return total + (0 if offset is None else packed_bytes(offset.size, self.linear.bits))
        return total + count * self.dense.itemsize

    @property
    def snr_db(self) -> float:
        """The weight's power over the error's, in decibels; infinite without an error."""
        return 10 * math.log10(self.power / self.error) if self.error and self.power else math.inf


def spread(entries: Array, shape: tuple[int, ...]) -> Array:
    """Each entry repeated over the block that it stands for."""
    for axis, size in enumerate(shape):
        times = size // entries.shape[axis]
        if times > 1 and entries.shape[axis] > 1:
            entries = np.repeat(entries, times, axis)
    return np.broadcast_to(entries, shape)


def encode(values: Array, setting: Setting, weight: Weight, *, workers: int = 2) -> Encoding:
    """A weight's values encoded by a setting; the same call gives the same encoding.

    values: `weight.shape`, float16 or float32. Raises InputError for values that are no numbers, and Unfit
    when the setting cannot hold this weight; nothing of the weight has then changed.
    """
    if not np.isfinite(values).all():
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        raise InputError(
            f"the weight {weight.name} holds {bad} values that are NaN or infinite; nothing was compressed",
            hint='leave it out with {"method": "none"} in a recipe, or convert the model again',
        )
    mask = _pruned(values, setting, weight)
    if setting.method == "palettize":
        table = _palettized(values, mask, setting, weight, workers)
        dense = table.decoded()
        made = Encoding(_masked(dense, mask), mask, table=table)
    elif setting.method == "quantize":
        linear = _quantized(values if mask is None else _masked(values, mask), setting, weight)
        made = Encoding(_masked(linear.decoded(), mask), mask, linear=linear)
    elif setting.method == "prune":
        made = Encoding(_masked(values, mask), mask)
    else:
        made = Encoding(values)
    exact = values.astype(np.float64)
    error = float(np.square(made.dense.astype(np.float64) - exact).sum())
    return Encoding(made.dense, made.mask, made.table, made.linear, error, float(np.square(exact).sum()))


def _masked(values: Array, mask: Array | None) -> Array:
    return values if mask is None else np.where(mask, values, values.dtype.type(0))


def _pruned(values: Array, setting: Setting, weight: Weight) -> Array | None:
    """Where values stay; None when all do."""
    if setting.pattern:
        return _by_pattern(values, setting, weight)
    if not setting.sparsity:
        return None
    size = np.abs(values)
    zeros = round(setting.sparsity * values.size)
    # The smallest ones go; of equal ones, those that come first, so that the share is what was asked for.
    order = np.argsort(size, axis=None, kind="stable")
    mask = np.ones(values.size, bool)
    mask[order[:zeros]] = False
    kept: Array = mask.reshape(values.shape) & (values != 0)
    if not kept.any():
        raise Unfit("no value would be left")
    return kept


def _by_pattern(values: Array, setting: Setting, weight: Weight) -> Array:
    zeros, of = setting.zeros_of
    axis = _axis(weight.input_axis, "input")
    if values.shape[axis] % of:
        raise Unfit(f"{values.shape[axis]} input channels are no multiple of {of}")
    last = np.moveaxis(values, axis, -1)
    lines = np.abs(last).reshape(*last.shape[:-1], -1, of)
    mask = np.ones(lines.shape, bool)
    np.put_along_axis(mask, np.argsort(lines, axis=-1, kind="stable")[..., :zeros], False, axis=-1)
    kept: Array = np.moveaxis(mask.reshape(last.shape), -1, axis) & (values != 0)
    return np.ascontiguousarray(kept)


def _axis(axis: int | None, what: str) -> int:
    if axis is None:
        raise Unfit(f"the operations that take it do not agree which axis its {what} channels are")
    return axis


def _palettized(values: Array, mask: Array | None, setting: Setting, weight: Weight, workers: int) -> Table:
    axis, parts = 0, 1
    if setting.group:
        axis = _axis(weight.output_axis, "output")
        if values.shape[axis] % setting.group:
            raise Unfit(f"{values.shape[axis]} output channels are no multiple of the group {setting.group}")
        parts = values.shape[axis] // setting.group
    front = np.moveaxis(values, axis, 0)
    lines = front.reshape(parts, -1)
    kept = None if mask is None else np.moveaxis(mask, axis, 0).reshape(parts, -1)
    bits = setting.bits
    if setting.how == "unique":
        centres = _unique(lines, kept, bits)
    elif setting.how == "uniform":
        low = np.where(kept, lines, np.inf).min(1) if kept is not None else lines.min(1)
        high = np.where(kept, lines, -np.inf).max(1) if kept is not None else lines.max(1)
        low, high = (np.where(np.isfinite(edge), edge, 0).astype(np.float64) for edge in (low, high))
        centres = np.linspace(low, high, 1 << bits, axis=1)
    else:
        weights = None if kept is None else kept.astype(np.float64)
        centres = cluster(lines, 1 << bits, weights=weights, workers=workers)
    places = centres.astype(values.dtype)
    shape = [1] * values.ndim
    shape[axis] = parts
    lut = places.reshape(*shape, 1 << bits, 1)
    linear = None
    if setting.lut_bits:
        linear = _linear(lut, (0,) * lut.ndim, setting.lut_bits, symmetric=True)
        lut = linear.decoded()
        places = lut.reshape(parts, -1)
    indices = np.moveaxis(nearest(lines, places).reshape(front.shape), 0, axis)
    return Table(np.ascontiguousarray(indices), bits, lut, linear)


def _unique(lines: Array, kept: Array | None, bits: int) -> Array:
    """The distinct values themselves, the largest one repeated."""
    centres = np.empty((len(lines), 1 << bits), lines.dtype)
    for row, line in enumerate(lines):
        found = np.unique(line if kept is None else line[kept[row]])
        if found.size > 1 << bits:
            raise Unfit(f"{found.size} distinct values in a table of {1 << bits}")
        centres[row] = (
            np.concatenate((found, np.repeat(found[-1:], (1 << bits) - found.size))) if found.size else 0
        )
    return centres


def _quantized(values: Array, setting: Setting, weight: Weight) -> Linear:
    blocks = [0] * values.ndim  # 0: the whole axis shares a scale
    if setting.block >= 0:
        output = _axis(weight.output_axis, "output")
        if setting.block:
            axis = _axis(weight.input_axis, "input")
            if values.shape[axis] % setting.block:
                raise Unfit(
                    f"{values.shape[axis]} input channels are no multiple of the block {setting.block}"
                )
            blocks[axis] = setting.block
        blocks[output] = 1
    return _linear(values, tuple(blocks), setting.bits, symmetric=setting.how == "symmetric")


def _linear(values: Array, blocks: tuple[int, ...], bits: int, *, symmetric: bool) -> Linear:
    """Signed numbers of `bits` bits, each block with its scale; symmetric ones leave the lowest number out.

    The integers of a block are found with its scale as it is stored, rounded to the weight's dtype.
    """
    split: list[int] = []
    over: list[int] = []
    shape: list[int] = []
    for size, block in zip(values.shape, blocks, strict=True):
        if block:
            split += [size // block, block]
            over.append(len(split) - 1)
            shape.append(size // block)
        else:
            split.append(size)
            over.append(len(split) - 1)
            shape.append(1)
    parts = values.astype(np.float64).reshape(split)
    lowest = -(1 << (bits - 1)) + symmetric
    highest = (1 << (bits - 1)) - 1
    high = parts.max(axis=tuple(over), keepdims=True)
    low = parts.min(axis=tuple(over), keepdims=True)
    if symmetric:
        high = np.maximum(np.abs(low), np.abs(high))
        low = -high
    else:
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    info = np.finfo(values.dtype)
    scale = (high - low) / (highest - lowest)
    # A block of zeros has any scale; one too small for the dtype would turn its values into zeros.
    scale = np.where(scale == 0, 1, np.maximum(scale, info.smallest_subnormal)).astype(values.dtype)
    offset = None
    shift = np.zeros(scale.shape)
    if not symmetric:
        shift = np.clip(np.round(lowest - low / scale.astype(np.float64)), lowest, highest)
        offset = shift.astype(np.int8).reshape(shape)
    data = np.clip(np.round(parts / scale.astype(np.float64)) + shift, lowest, highest)
    return Linear(data.astype(np.int8).reshape(values.shape), bits, scale.reshape(shape), offset)
