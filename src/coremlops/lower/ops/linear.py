"""Products of matrices. Source: coremltools, `ops/defs/iOS15/linear.py`, `iOS17/linear.py`."""

from __future__ import annotations

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value, lowers


@lowers("linear")
def linear(ctx: Lowering, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """x @ weight.T + bias. x: [*D, D_in], fp16|fp32; weight: [D_out, D_in]; bias: [D_out] -> [*D, D_out]."""
    if x.rank == 2:
        return ctx.node("Gemm", x, weight, bias, transB=1)
    if weight.constant is None:
        raise Unsupported("a weight known at run time alone")
    turned = ctx.constant(np.ascontiguousarray(weight.constant.T))
    product = ctx.node("MatMul", x, turned)
    return product if bias is None else ctx.node("Add", product, bias)


@lowers("matmul")
def matmul(ctx: Lowering, x: Value, y: Value, transpose_x: bool = False, transpose_y: bool = False) -> Value:
    """The product of the last two axes, the others broadcast.

    x: [*, m, k], y: [*, k, n], fp16|fp32|int32 -> [*, m, n]; a vector is treated as NumPy's matmul does, and
    transposing it does nothing.
    """
    return ctx.node(
        "MatMul",
        _transposed(ctx, x) if transpose_x and x.rank > 1 else x,
        _transposed(ctx, y) if transpose_y and y.rank > 1 else y,
    )


def _transposed(ctx: Lowering, x: Value) -> Value:
    order = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
    if x.constant is not None:
        return ctx.constant(np.ascontiguousarray(x.constant.transpose(order)))
    return ctx.node("Transpose", x, perm=order)
