"""Attention. Source: coremltools, `ops/defs/iOS18/transformers.py`."""

from __future__ import annotations

import math

import numpy as np

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Value, lowers


@lowers("scaled_dot_product_attention")
def scaled_dot_product_attention(
    ctx: Lowering, query: Value, key: Value, value: Value, attn_mask: Value | None = None
) -> Value:
    """softmax(query @ key.T / sqrt(E) + mask) @ value.

    query: [B, *, L, E], key: [B, *, S, E], value: [B, *, S, EV], fp16|fp32; attn_mask: broadcasts to
    [B, *, L, S], bool (what may be looked at) or float (added) -> [B, *, L, EV], dtype of query. In fp16 the
    steps are float32 and the result is rounded. Where a mask leaves nothing to look at, the result is NaN, as
    in coremltools' `value_inference`.
    """
    turned = ctx.node("Transpose", key, perm=(*range(key.rank - 2), key.rank - 1, key.rank - 2))
    scores = ctx.node("Div", ctx.node("MatMul", query, turned), _root_of_width(ctx, query, key))
    if attn_mask is not None and attn_mask.dtype == "bool":
        scores = ctx.node("Where", attn_mask, scores, ctx.constant(-math.inf, np.float32))
    elif attn_mask is not None:
        scores = ctx.node("Add", scores, attn_mask)
    return ctx.node("MatMul", ctx.node("Softmax", scores, axis=-1), value)


def _root_of_width(ctx: Lowering, query: Value, key: Value) -> Value:
    width = query.shape[-1] or key.shape[-1]
    if width:
        return ctx.constant(math.sqrt(width), np.float32)
    return ctx.node("Sqrt", ctx.cast(ctx.node("Shape", query, start=-1), "fp32"))
