"""Convolutions. Source: coremltools, `ops/defs/iOS15/conv.py`, `iOS17/conv.py`."""

from __future__ import annotations

from coremlops.lower.context import Lowering
from coremlops.lower.padding import spatial_padding
from coremlops.lower.registry import Ints, Unsupported, Value, lowers


@lowers("conv")
def conv(
    ctx: Lowering,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Value:
    """Convolution over one to three spatial axes.

    x: [n, C_in, *D], fp16|fp32; weight: [C_out, C_in / groups, *K]; bias: [C_out] -> [n, C_out, *D_out].
    """
    kernel = weight.shape[2:]
    if not 1 <= len(kernel) <= 3 or any(size is None for size in kernel):
        raise Unsupported(f"a kernel of shape {weight.shape}")
    sizes = tuple(size or 0 for size in kernel)
    strides = strides or (1,) * len(sizes)
    dilations = dilations or (1,) * len(sizes)
    padding = spatial_padding(
        pad_type, pad, input_sizes=x.shape[2:], kernel=sizes, strides=strides, dilations=dilations
    )
    return ctx.node(
        "Conv",
        x,
        weight,
        bias,
        kernel_shape=sizes,
        strides=strides,
        dilations=dilations,
        group=groups,
        **padding,
    )
