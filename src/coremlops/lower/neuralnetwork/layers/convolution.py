"""Convolutions and their transposes over two and three axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from coremlops.dialects.neuralnetwork import Fields, Weights
from coremlops.errors import ModelFormatError
from coremlops.lower.neuralnetwork.context import NetworkLowering
from coremlops.lower.neuralnetwork.layers.matrix import given
from coremlops.lower.neuralnetwork.registry import layer
from coremlops.lower.padding import padded_or_pads
from coremlops.lower.registry import Ints, Unsupported, Value


@layer("convolution")
def convolution(
    ctx: NetworkLowering,
    x: Value,
    kernels: Value | None = None,
    *,
    outputChannels: int,
    kernelChannels: int,
    nGroups: int,
    kernelSize: Ints,
    stride: Ints,
    dilationFactor: Ints,
    valid: Fields | None,
    same: Fields | None,
    isDeconvolution: bool,
    hasBias: bool,
    weights: Weights | None,
    bias: Weights | None,
    outputShape: Ints,
) -> Value:
    """A convolution, or its transpose, over height and width.

    x: [..., C, H, W]. weights, or `kernels` as a second input: [outputChannels, kernelChannels, *kernelSize];
    of a transposed one [kernelChannels, outputChannels / nGroups, *kernelSize]. The format's text says that a
    transposed one ignores dilations; coremltools' tests have them.
    """
    groups, size = nGroups or 1, kernelSize or (3, 3)
    strides, dilations = stride or (1, 1), dilationFactor or (1, 1)
    shape = (outputChannels, kernelChannels)
    if isDeconvolution:
        shape = (kernelChannels, outputChannels // groups)
    if kernels is None:
        stored = given(weights, "weights").array(*shape, *size, channels=int(isDeconvolution))
        kernels = ctx.weight(stored)
    else:
        kernels = ctx.reshape(kernels, [*shape, *size])
    offsets = ctx.weight(given(bias, "bias").array(outputChannels)) if hasBias else None
    padding = window_padding(valid, same)

    def function(view: Value) -> Value:
        if isDeconvolution:
            return transposed(
                ctx, view, kernels, offsets, groups, size, strides, dilations, padding, outputShape
            )
        return _convolved(ctx, view, kernels, offsets, groups, size, strides, dilations, padding)

    return ctx.on_images(x, function)


def window_padding(valid: Fields | None, same: Fields | None) -> tuple[str, Ints | None]:
    """Padding in MIL's words: `pad_type`, and before and after each axis in turn."""
    if same is not None:
        return ("same" if same["asymmetryMode"] == "BOTTOM_RIGHT_HEAVY" else "same_lower"), None
    amounts = border_amounts(valid["paddingAmounts"]) if valid is not None else None
    return ("custom", amounts) if amounts else ("valid", None)


def border_amounts(border: Fields | None) -> Ints:
    """Before and after height, then width; empty when nothing is said."""
    edges = border["borderAmounts"] if border is not None else ()
    if len(edges) not in (0, 2):
        raise ModelFormatError(f"{len(edges)} borders; expected those of height and width")
    return tuple(amount for edge in edges for amount in (edge["startEdgeSize"], edge["endEdgeSize"]))


def _convolved(
    ctx: NetworkLowering,
    x: Value,
    kernels: Value,
    bias: Value | None,
    groups: int,
    size: Ints,
    strides: Ints,
    dilations: Ints,
    padding: tuple[str, Ints | None],
) -> Value:
    x, pads = padded_or_pads(ctx, x, *padding, size, strides, dilations)
    return ctx.node(
        "Conv",
        x,
        kernels,
        bias,
        kernel_shape=size,
        strides=strides,
        dilations=dilations,
        group=groups,
        pads=pads,
    )


def transposed(
    ctx: NetworkLowering,
    x: Value,
    kernels: Value,
    bias: Value | None,
    groups: int,
    size: Ints,
    strides: Ints,
    dilations: Ints,
    padding: tuple[str, Ints | None],
    output: Ints,
) -> Value:
    """A transposed convolution. `output`: the sizes that it gives; empty when `padding` says.

    The full result has (in - 1) * stride + (kernel - 1) * dilation + 1 elements along an axis; padding is
    cut off. `same` leaves in * stride.
    """
    kind, amounts = padding
    axes = len(size)
    if len(strides) != axes or len(output) not in (0, axes) or min(*strides, *size, *dilations) < 1:
        raise ModelFormatError(f"kernels of {size} with strides {strides} and the output shape {output}")
    before, after = [0] * axes, [0] * axes
    if output or kind in ("same", "same_lower"):
        for axis in range(axes):
            total = _excess(x.shape[2 + axis], size[axis], strides[axis], dilations[axis], output, axis)
            # An odd one has its extra element after; `same_lower`: before. What is missing comes after.
            first = total // 2 if kind != "same_lower" else total - total // 2
            before[axis] = first if total > 0 else 0
            after[axis] = total - before[axis]
    elif amounts:
        before, after = list(amounts[0::2]), list(amounts[1::2])
    attributes: dict[str, Any] = {"pads": [*before, *(max(0, pad) for pad in after)]}
    if any(pad < 0 for pad in after):
        attributes["output_padding"] = [max(0, -pad) for pad in after]
    return ctx.node(
        "ConvTranspose",
        x,
        kernels,
        bias,
        kernel_shape=size,
        strides=strides,
        dilations=dilations,
        group=groups,
        **attributes,
    )


def _excess(
    length: int | None, width: int, stride: int, dilation: int, output: Sequence[int], axis: int
) -> int:
    """What the full result has more than is wanted."""
    reach = (width - 1) * dilation + 1
    if not output:
        return reach - stride
    if length is None:
        raise Unsupported("an outputShape, which fits one input, over sizes known at run time alone")
    return (length - 1) * stride + reach - output[axis]


@layer("convolution3d")
def convolution3d(
    ctx: NetworkLowering,
    x: Value,
    *,
    outputChannels: int,
    inputChannels: int,
    nGroups: int,
    kernelDepth: int,
    kernelHeight: int,
    kernelWidth: int,
    strideDepth: int,
    strideHeight: int,
    strideWidth: int,
    dilationDepth: int,
    dilationHeight: int,
    dilationWidth: int,
    hasBias: bool,
    weights: Weights | None,
    bias: Weights | None,
    paddingType: str,
    customPaddingFront: int,
    customPaddingBack: int,
    customPaddingTop: int,
    customPaddingBottom: int,
    customPaddingLeft: int,
    customPaddingRight: int,
    isDeconvolution: bool,
    outputShape: Ints,
) -> Value:
    """A convolution, or its transpose, over depth, height and width.

    x: [N, C, D, H, W]. weights: [outputChannels, inputChannels / nGroups, *kernel]; of a transposed one
    [inputChannels, outputChannels / nGroups, *kernel].
    """
    groups = nGroups or 1
    size = (kernelDepth or 3, kernelHeight or 3, kernelWidth or 3)
    strides = (strideDepth or 1, strideHeight or 1, strideWidth or 1)
    dilations = (dilationDepth or 1, dilationHeight or 1, dilationWidth or 1)
    custom = (
        customPaddingFront,
        customPaddingBack,
        customPaddingTop,
        customPaddingBottom,
        customPaddingLeft,
        customPaddingRight,
    )
    padding: tuple[str, Ints | None] = (paddingType.lower(), custom if paddingType == "CUSTOM" else None)
    shape = (outputChannels, inputChannels // groups)
    if isDeconvolution:
        shape = (inputChannels, outputChannels // groups)
    kernels = ctx.weight(given(weights, "weights").array(*shape, *size, channels=int(isDeconvolution)))
    offsets = ctx.weight(given(bias, "bias").array(outputChannels)) if hasBias else None
    if isDeconvolution:
        # The format writes the output shape as it is for the whole tensor or for its three axes.
        output = outputShape[-3:]
        return transposed(ctx, x, kernels, offsets, groups, size, strides, dilations, padding, output)
    return _convolved(ctx, x, kernels, offsets, groups, size, strides, dilations, padding)
