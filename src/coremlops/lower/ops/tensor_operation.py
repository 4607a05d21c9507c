"""Padding and joining. Source: coremltools, `ops/defs/iOS15/tensor_operation.py`."""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Ints, Unsupported, Value, Values, lowers


@lowers("pad", moves=True)
def pad(ctx: Lowering, x: Value, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Value:
    """x with its last axes made longer; `pad` holds before and after for each of them.

    x: [*], fp16|fp32 -> same dtype. `mode`: constant, reflect (the edge once) or replicate (the edge
    repeated).
    """
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}
    if mode not in modes or len(pad) % 2 or len(pad) > 2 * x.rank or any(amount < 0 for amount in pad):
        raise Unsupported(f"mode {mode!r} with pad {pad} over rank {x.rank}")
    leading = (0,) * (x.rank - len(pad) // 2)
    amounts = ctx.ints((*leading, *pad[0::2], *leading, *pad[1::2]))
    fill = ctx.constant(constant_val, np.float32) if mode == "constant" else None
    return ctx.node("Pad", x, amounts, fill, mode=modes[mode])


@lowers("concat", moves=True)
def concat(ctx: Lowering, values: Values, axis: int, interleave: bool = False) -> Value:
    """Tensors one after another along an axis; `interleave`: element by element in turn.

    values: [*], any dtype, equal but for the axis -> same dtype.
    """
    if not interleave:
        return ctx.node("Concat", *values, axis=axis)
    shape = values[0].shape
    where = values[0].axis(axis)
    if None in shape:
        raise Unsupported("interleave over sizes known at run time alone")
    stacked = [ctx.node("Unsqueeze", value, ctx.ints((where + 1,))) for value in values]
    joined = ctx.node("Concat", *stacked, axis=where + 1)
    sizes = [(size or 0) * (len(values) if index == where else 1) for index, size in enumerate(shape)]
    return ctx.node("Reshape", joined, ctx.ints(sizes), allowzero=1)
