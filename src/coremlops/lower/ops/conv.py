"""Convolutions. Source: coremltools, `ops/defs/iOS15/conv.py`, `iOS17/conv.py`."""

from __future__ import annotations

import numpy as np

from coremlops.errors import ModelFormatError
from coremlops.lower.context import Lowering
from coremlops.lower.padding import padded_or_pads
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

    x: [n, C_in, *D], fp16|fp32; weight: [C_out, C_in / groups, *K]; bias: [C_out] -> [n, C_out, *D_out]. The
    weight and the bias may be known at run time alone.
    """
    kernel = _kernel(weight)
    strides, dilations = strides or (1,) * len(kernel), dilations or (1,) * len(kernel)
    x, pads = padded_or_pads(ctx, x, pad_type, pad, kernel, strides, dilations)
    return ctx.node(
        "Conv",
        x,
        weight,
        bias,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=groups,
        pads=pads,
    )


@lowers("conv_quantized")
def conv_quantized(
    ctx: Lowering,
    x: Value,
    weight: Value,
    quantization_type: str,
    quant_scale: Value,
    quant_bias: Value,
    bias: Value | None = None,
    nbits: int = 8,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Value:
    """A convolution whose weight is weight * quant_scale + quant_bias.

    As `conv`, but weight: uint8; quant_scale, quant_bias: one number, or [C_out].
    """
    if quantization_type == "lut":
        raise Unsupported("quantization_type 'lut': the op has no input for the table, nor says what it is")
    if quantization_type != "linear" or not 1 <= nbits <= 8:
        raise Unsupported(f"quantization_type {quantization_type!r} of {nbits} bits")
    parts = [part.constant for part in (weight, quant_scale, quant_bias)]
    numbers, scale, offset = parts
    if numbers is None or scale is None or offset is None:
        raise Unsupported("a quantized weight known at run time alone")
    channels = (-1, *[1] * (numbers.ndim - 1))
    decoded = numbers.astype(np.float32) * scale.reshape(channels) + offset.reshape(channels)
    if bias is not None and bias.dtype == "uint8":
        raise Unsupported("a quantized bias: the op has a scale for its weight alone")
    made = Value(ctx.constant(decoded, np.float32).name, weight.type, decoded.astype(np.float32))
    return conv(ctx, x, made, bias, strides, pad_type, pad, dilations, groups)


@lowers("conv_transpose")
def conv_transpose(
    ctx: Lowering,
    x: Value,
    weight: Value,
    bias: Value | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Value:
    """The transpose of a convolution: each input adds its multiple of the kernel to the output.

    x: [n, C_in, *D], fp16|fp32; weight: [C_in, C_out / groups, *K]; bias: [C_out] -> [n, C_out, *D_out].
    `pad` is cut off; `same` gives D * stride results, cutting an odd element after (`same_lower`: before).
    `output_shape` wins: what it asks for beyond that is at the end.
    """
    kernel = _kernel(weight)
    axes = len(kernel)
    strides, dilations = strides or (1,) * axes, dilations or (1,) * axes
    if len(strides) != axes or len(dilations) != axes or (pad is not None and len(pad) != 2 * axes):
        raise ModelFormatError(
            f"a kernel of {kernel} with strides {strides}, dilations {dilations}, pad {pad}"
        )
    wanted = _wanted(output_shape, axes)
    cuts: list[int] = []
    ends: list[int] = []
    for axis, (size, width, stride) in enumerate(zip(x.shape[2:], kernel, strides, strict=True)):
        beyond = (width - 1) * dilations[axis] + 1 - stride  # what there is beyond size * stride
        before, after = _cut(pad_type.lower(), pad, axis, beyond)
        if wanted is not None:
            if size is None:
                raise Unsupported(
                    f"output_shape {output_shape} fits one input; this one has sizes known at run time alone"
                )
            total = size * stride + beyond - wanted[axis]
            if pad_type.lower() == "same":
                before = max(0, total) // 2
            after = total - before
        cuts.append(before)
        ends.append(after)
    return ctx.node(
        "ConvTranspose",
        x,
        weight,
        bias,
        kernel_shape=kernel,
        strides=strides,
        dilations=dilations,
        group=groups,
        pads=(*cuts, *(max(0, end) for end in ends)),
        output_padding=[max(0, -end) for end in ends] if min(ends) < 0 else None,
    )


def _cut(pad_type: str, pad: Ints | None, axis: int, beyond: int) -> tuple[int, int]:
    """How many elements go before and after an axis; a negative number adds zeros."""
    match pad_type:
        case "valid":
            return 0, 0
        case "custom":
            return (pad[2 * axis], pad[2 * axis + 1]) if pad else (0, 0)
        case "same" | "same_lower":
            less = max(0, beyond) // 2
            return (less, beyond - less) if pad_type == "same" else (max(0, beyond) - less, min(less, beyond))
    raise Unsupported(f"pad_type {pad_type!r}")


def _wanted(output_shape: Ints | None, axes: int) -> Ints | None:
    if output_shape is None:
        return None
    if len(output_shape) != axes + 2:
        raise ModelFormatError(f"an output_shape of {output_shape} for {axes} spatial axes")
    return output_shape[2:]


def _kernel(weight: Value) -> Ints:
    sizes = weight.shape[2:]
    if not 1 <= len(sizes) <= 3 or any(size is None for size in sizes):
        raise Unsupported(f"a kernel of shape {weight.shape}")
    return tuple(size or 0 for size in sizes)
