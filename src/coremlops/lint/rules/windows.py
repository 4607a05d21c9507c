"""`ane-...`: convolutions, pools and upsampling whose windows the Neural Engine may not take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from coremlops.dialects.neuralnetwork import Layer
from coremlops.lint.context import Context
from coremlops.lint.rule import Hit, rule
from coremlops.lint.rules.neural_engine import APPLE, NEWER
from coremlops.lint.subject import Op, Part

CONVOLUTIONS = ("conv", "conv_transpose", "conv_quantized")
POOLS = ("avg_pool", "max_pool", "l2_pool")
LARGE_DILATION = 8  # no source says which is large: a guess


class Window(NamedTuple):
    """How an op or a layer moves over a picture; empty where the file does not say."""

    at: Op | Layer
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    palettized: bool = False


@rule(
    "ane-wide-kernel",
    "note",
    "M",
    source=APPLE,
    fix="use several smaller kernels one after the other",
    triggers="""
        program("iOS16")
        x: fp16[1, 8, 64, 64] = input()
        y: fp16[1, 8, 64, 64] = conv(x=x, weight=fp16[8, 8, 17, 17], pad_type="same")
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 64, 64] = input()
        y: fp16[1, 8, 64, 64] = conv(x=x, weight=fp16[8, 8, 13, 13], pad_type="same")
        output(y)
    """,
    leaves_engine=True,
)
def wide_kernel(part: Part, context: Context) -> Iterator[Hit]:
    """A wide kernel of a convolution.

    13 was the widest on the A13, 15 on the A16.
    """
    newer = bool(context.devices) and all(device.chip in NEWER for device in context.devices)
    limit = 15 if newer else 13
    for window in _convolutions(part):
        widest = max(window.kernel, default=0)
        if widest > limit:
            chip = "the A16" if newer else "the A13"
            yield Hit(f"a kernel of {widest}; at most {limit} on {chip}", window.at)


@rule(
    "ane-stride",
    "warning",
    "H",
    source=APPLE,
    fix="stride by 2 or 3, several times if need be",
    triggers="""
        program("iOS16")
        x: fp16[1, 8, 70, 70] = input()
        y: fp16[1, 8, 14, 14] = conv(x=x, weight=fp16[8, 8, 5, 5], strides=[5, 5])
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 64, 64] = input()
        y: fp16[1, 8, 16, 16] = conv(x=x, weight=fp16[8, 8, 4, 4], strides=[4, 4])
        output(y)
    """,
    leaves_engine=True,
)
def stride(part: Part, context: Context) -> Iterator[Hit]:
    """A stride that the Neural Engine does not take.

    Strides of a convolution are products of 2 and 3; large ones are equal along both axes, and with
    palettized kernels they are at most 2.
    """
    for window in _convolutions(part):
        odd = [step for step in window.strides if not _smooth(step)]
        if odd:
            yield Hit(f"a stride of {odd[0]}, which is no product of 2 and 3", window.at)
        elif len(set(window.strides)) > 1 and max(window.strides) > 2 and min(window.strides) > 1:
            yield Hit(f"unequal strides {list(window.strides)}", window.at)
        elif window.palettized and max(window.strides, default=1) > 2:
            yield Hit(f"strides {list(window.strides)} with a palettized kernel; at most 2", window.at)


@rule(
    "ane-dilation",
    "note",
    "M",
    source=f"{APPLE}; hollance/neural-engine. From {LARGE_DILATION} on is our guess",
    fix="use a smaller dilation, or downsample first",
    triggers="""
        program("iOS16")
        x: fp16[1, 8, 64, 64] = input()
        y: fp16[1, 8, 64, 64] = conv(x=x, weight=fp16[8, 8, 3, 3], dilations=[12, 12], pad_type="same")
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 64, 64] = input()
        y: fp16[1, 8, 64, 64] = conv(x=x, weight=fp16[8, 8, 3, 3], dilations=[2, 2], pad_type="same")
        output(y)
    """,
    leaves_engine=True,
)
def dilation(part: Part, context: Context) -> Iterator[Hit]:
    """A large dilation.

    Dilated kernels are computed as if they were as wide as what they span, or not at all.
    """
    for window in _convolutions(part):
        if max(window.dilations, default=1) >= LARGE_DILATION:
            yield Hit(f"dilations {list(window.dilations)}", window.at)


@rule(
    "ane-pool-stride",
    "note",
    "H",
    source=APPLE,
    fix="pool with a stride of 2 or 4, or use a convolution with a stride",
    triggers="""
        program("iOS16")
        x: fp16[1, 8, 60, 60] = input()
        y: fp16[1, 8, 20, 20] = max_pool(x=x, kernel_sizes=[3, 3], strides=[3, 3], pad_type="valid")
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 64, 64] = input()
        y: fp16[1, 8, 32, 32] = max_pool(x=x, kernel_sizes=[2, 2], strides=[2, 2], pad_type="valid")
        output(y)
    """,
    leaves_engine=True,
)
def pool_stride(part: Part, context: Context) -> Iterator[Hit]:
    """A pool whose stride is neither 2 nor 4.

    A stride of 1 is not named: it is usual inside of networks that run there.
    """
    for window in _pools(part):
        odd = [step for step in window.strides if step not in (1, 2, 4)]
        if odd:
            yield Hit(f"strides {list(window.strides)}", window.at)


@rule(
    "ane-pool-kernel",
    "note",
    "L",
    source="logs in hollance/neural-engine, 2020",
    fix="pool in two steps, or reduce over the axes when the window is the whole picture",
    triggers="""
        program("iOS16")
        x: fp16[1, 8, 60, 60] = input()
        y: fp16[1, 8, 4, 4] = avg_pool(x=x, kernel_sizes=[16, 16], strides=[4, 4], pad_type="valid")
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 60, 60] = input()
        y: fp16[1, 8, 15, 15] = avg_pool(x=x, kernel_sizes=[4, 4], strides=[4, 4], pad_type="valid")
        output(y)
    """,
    leaves_engine=True,
)
def pool_kernel(part: Part, context: Context) -> Iterator[Hit]:
    """A pool wider than 13.

    Wider ones left the Neural Engine in those logs.
    """
    for window in _pools(part):
        if max(window.kernel, default=0) > 13:
            yield Hit(f"a window of {list(window.kernel)}", window.at)


@rule(
    "ane-upsample-factor",
    "note",
    "L",
    source="logs in hollance/neural-engine, 2020",
    fix="upsample by 2, several times",
    triggers="""
        program("iOS16")
        x: fp16[1, 8, 16, 16] = input()
        y: fp16[1, 8, 48, 48] = upsample_nearest_neighbor(x=x, scale_factor_height=3, scale_factor_width=3)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 16, 16] = input()
        y: fp16[1, 8, 32, 32] = upsample_nearest_neighbor(x=x, scale_factor_height=2, scale_factor_width=2)
        output(y)
    """,
    leaves_engine=True,
)
def upsample_factor(part: Part, context: Context) -> Iterator[Hit]:
    """Upsampling by another factor than 2.

    A factor of 2 ran on the Neural Engine in those logs, others did not.
    """
    for body in part.bodies:
        for op in body.ops:
            if op.type in ("upsample_nearest_neighbor", "upsample_bilinear"):
                factors = [op.value("scale_factor_height"), op.value("scale_factor_width")]
                if any(factor is not None and factor != 2 for factor in factors):
                    yield Hit(f"factors {factors}", op)
    for layer in part.layers:
        factors = list(layer.fields.get("scalingFactor", ())) if layer.kind == "upsample" else []
        if any(factor != 2 for factor in factors):
            yield Hit(f"factors {factors}", layer)


def _smooth(step: int) -> bool:
    """Whether a stride has no prime factor but 2 and 3."""
    for factor in (2, 3):
        while step > 1 and step % factor == 0:
            step //= factor
    return step <= 1


def _convolutions(part: Part) -> Iterator[Window]:
    for body in part.bodies:
        for op in body.ops:
            if op.type in CONVOLUTIONS:
                weight = op.type_of("weight")
                axes = (weight.shape or ())[2:] if weight is not None else ()
                yield Window(
                    op,
                    tuple(axis for axis in axes if axis is not None),
                    op.numbers("strides"),
                    op.numbers("dilations"),
                    _palettized(op),
                )
    yield from _layers(part, "convolution", "dilationFactor")


def _pools(part: Part) -> Iterator[Window]:
    for body in part.bodies:
        for op in body.ops:
            if op.type in POOLS:
                yield Window(op, op.numbers("kernel_sizes"), op.numbers("strides"), ())
    yield from _layers(part, "pooling", "")


def _layers(part: Part, kind: str, dilation: str) -> Iterator[Window]:
    """Layers of a kind; a pool over the whole picture has no window."""
    for layer in part.layers:
        fields = layer.fields
        if layer.kind == kind and not fields.get("globalPooling"):
            kernel, strides = tuple(fields["kernelSize"]), tuple(fields["stride"])
            yield Window(layer, kernel, strides, tuple(fields.get(dilation, ())))


def _palettized(op: Op) -> bool:
    maker = op.maker("weight")
    return maker is not None and maker.type.startswith("constexpr_lut_to_")
