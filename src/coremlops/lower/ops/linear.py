"""Products of matrices. Source: coremltools, `ops/defs/iOS15/linear.py`, `iOS17/linear.py`."""

from __future__ import annotations

import numpy as np

from coremlops.dialects.mil.graph import NUMPY_DTYPES, TensorType
from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value, Values, lowers


@lowers("linear")
def linear(ctx: Lowering, x: Value, weight: Value, bias: Value | None = None) -> Value:
    """x @ weight.T + bias.

    x: [*D, D_in], fp16|fp32|int32; weight: [D_out, D_in]; bias: [D_out] -> [*D, D_out], dtype of x. What is
    of another dtype than x is converted to it.
    """
    weight = _as(ctx, weight, x.dtype)
    bias = None if bias is None else _as(ctx, bias, x.dtype)
    if x.rank == 2 and x.dtype.startswith("fp"):
        return ctx.node("Gemm", x, weight, bias, transB=1)
    product = ctx.node("MatMul", x, _transposed(ctx, weight))
    return product if bias is None else ctx.node("Add", product, bias)


@lowers("matmul")
def matmul(ctx: Lowering, x: Value, y: Value, transpose_x: bool = False, transpose_y: bool = False) -> Value:
    """The product of the last two axes, the others broadcast.

    x: [*, m, k], y: [*, k, n], fp16|fp32|int32 -> [*, m, n]; a vector is treated as NumPy's matmul does, and
    transposing it does nothing. A constant of another dtype than the result is converted to it.
    """
    dtype = ctx.output_type.dtype
    x, y = _as(ctx, x, dtype), _as(ctx, y, dtype)
    return ctx.node(
        "MatMul",
        _transposed(ctx, x) if transpose_x and x.rank > 1 else x,
        _transposed(ctx, y) if transpose_y and y.rank > 1 else y,
    )


@lowers("einsum")
def einsum(ctx: Lowering, values: Values, equation: str) -> Value:
    """Two tensors multiplied over axis -1 of the first and -3 of the second: "nchw,nwhu->nchu".

    values: [*B, C, H, W1] and [*B, W1, H, W2], fp16|fp32 -> [*B, C, H, W2]; axes B and H broadcast. Other
    equations are computed too, though coremltools lets none pass.
    """
    if len(values) != 2:
        raise Unsupported(f"{len(values)} values")
    return ctx.node("Einsum", *values, equation=equation.replace(" ", ""))


def _transposed(ctx: Lowering, x: Value) -> Value:
    order = (*range(x.rank - 2), x.rank - 1, x.rank - 2)
    if x.stored is not None:
        return ctx.constant(np.ascontiguousarray(x.stored.transpose(order)))
    return ctx.node("Transpose", x, perm=order)


def _as(ctx: Lowering, value: Value, dtype: str) -> Value:
    """`value` in the numbers that stand for `dtype`: floats of either width are float32 here."""
    if value.dtype == dtype or (value.dtype.startswith("fp") and dtype.startswith("fp")):
        return value
    type_ = TensorType(dtype, value.shape)
    if value.stored is not None:
        array = value.stored.astype(NUMPY_DTYPES[dtype])
        return Value(ctx.constant(array).name, type_, array)
    return Value(ctx.cast(value, dtype).name, type_)
