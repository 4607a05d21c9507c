"""One tensor, element by element.

Source: coremltools, `ops/defs/iOS15/elementwise_unary.py`, `iOS17/elementwise_unary.py`.
"""

from __future__ import annotations

import numpy as np

from coremlops.dialects.mil.graph import NUMPY_DTYPES
from coremlops.lower.context import Lowering
from coremlops.lower.registry import Unsupported, Value, lowers


@lowers("cast", moves=True)
def cast(ctx: Lowering, x: Value, dtype: str) -> Value:
    """x as another dtype; a float becomes an integer by truncation. x: [*] -> same shape."""
    if dtype not in NUMPY_DTYPES:
        raise Unsupported(f"to {dtype!r}")
    floats = ("fp16", "fp32")
    if x.dtype == dtype or (x.dtype in floats and dtype in floats):
        # Both are float32 here; the declared type of the result decides whether it is rounded.
        return x
    return ctx.cast(x, dtype)


@lowers("clip", moves=True)
def clip(ctx: Lowering, x: Value, alpha: float, beta: float) -> Value:
    """min(max(x, alpha), beta). x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Clip", x, ctx.constant(alpha, np.float32), ctx.constant(beta, np.float32))


@lowers("tanh")
def tanh(ctx: Lowering, x: Value) -> Value:
    """The hyperbolic tangent. x: [*], fp16|fp32 -> same shape and dtype."""
    return ctx.node("Tanh", x)


@lowers("identity", moves=True)
def identity(ctx: Lowering, x: Value) -> Value:
    """x. x: [*] -> same shape and dtype."""
    return x
