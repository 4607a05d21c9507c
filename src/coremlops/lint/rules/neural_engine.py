"""`ane-...`: the risk that values, types or shapes keep an op from the Neural Engine.

Apple publishes no list: support varies by chip, system and size. A finding says *risk*, on whose word, and
how sure that is; whether an op runs there, a compute plan on the device alone can tell.
"""

from __future__ import annotations

from collections.abc import Iterator

from coremlops.dialects.mil import TensorType
from coremlops.lint.context import Context
from coremlops.lint.rule import Hit, rule
from coremlops.lint.subject import Part, is_open
from coremlops.lint.target import NO_NEURAL_ENGINE
from coremlops.model import ArrayFeature

APPLE = "Apple's rules for models on the Neural Engine (coreai-models)"
ANEFORGE = "aneforge's tables of what compiled, a chip each"
NEWER = ("A16", "A17 Pro", "A18", "A18 Pro", "A19", "A19 Pro")
LARGE, LARGE_CHANNELS = 16384, 65536
ROW_BYTES = 64
_FLOATS = ("fp16", "fp32")
_NO_ARITHMETIC = ("cast", "classify", "cond", "while_loop")


@rule(
    "ane-rank",
    "warning",
    "H",
    source=f"{APPLE}; onnxruntime #14212",
    fix="fold axes together, so that no value has more than five",
    triggers="""
        program("iOS16")
        x: fp16[1, 2, 2, 2, 2, 8] = input()
        y: fp16[1, 2, 2, 2, 2, 8] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 2, 2, 4, 8] = input()
        y: fp16[1, 2, 2, 4, 8] = relu(x=x)
        output(y)
    """,
    leaves_engine=True,
)
def rank(part: Part, context: Context) -> Iterator[Hit]:
    """A value with more than five axes.

    The Neural Engine works on at most five.
    """
    for body in part.bodies:
        for op in body.ops:
            high = [type_ for type_ in op.outputs if (type_.rank or 0) > 5]
            if high:
                yield Hit(f"a value of rank {high[0].rank}: {high[0]}", op)


@rule(
    "ane-large-axis",
    "note",
    "M",
    source=f"the error text in executorch #7907 (M); for A16 and newer {ANEFORGE} say 65536 (L)",
    fix="split the axis, or tile the picture",
    triggers="""
        program("iOS16")
        x: fp16[1, 8, 20000, 4] = input()
        y: fp16[1, 8, 20000, 4] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 16384, 4] = input()
        y: fp16[1, 8, 16384, 4] = relu(x=x)
        output(y)
    """,
    leaves_engine=True,
)
def large_axis(part: Part, context: Context) -> Iterator[Hit]:
    """An axis that may be too long.

    Height, width and depth past 16384, batch and channels past 65536. One source says that A16 and newer
    take 65536 everywhere, so for those alone the shorter limit does not count.
    """
    only_newer = bool(context.devices) and all(device.chip in NEWER for device in context.devices)
    for body in part.bodies:
        for op in body.ops:
            for type_ in op.outputs:
                long = _too_long(type_, LARGE_CHANNELS if only_newer else LARGE)
                if long:
                    yield Hit(f"an axis of {long}: {type_}", op, confidence="L" if only_newer else "M")
                    break


def _too_long(type_: TensorType, limit: int) -> int:
    """The first axis past its limit: `limit` from the third axis on, that of channels before; else 0."""
    axes = type_.shape or ()
    spatial = axes[2:] if len(axes) > 2 else axes[-1:]
    leading = axes[:2] if len(axes) > 2 else axes[:-1]
    for axis, most in (*((axis, limit) for axis in spatial), *((axis, LARGE_CHANNELS) for axis in leading)):
        if axis is not None and axis > most:
            return axis
    return 0


@rule(
    "ane-float32",
    "warning",
    "H",
    source="coremltools' guide, typed execution",
    fix="convert with precision float16; keep in float32 what needs it (`verify --locate` names it)",
    triggers="""
        program("iOS16")
        x: fp32[1, 8, 32, 32] = input()
        y: fp32[1, 8, 32, 32] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 32, 32] = input()
        y: fp16[1, 8, 32, 32] = relu(x=x)
        output(y)
    """,
    leaves_engine=True,
)
def float32(part: Part, context: Context) -> Iterator[Hit]:
    """An op typed float32.

    The Neural Engine computes in float16; what an ML Program types float32 runs on the GPU or the CPU.
    """
    for body in part.bodies:
        for op in body.ops:
            wide = any(type_.dtype == "fp32" for type_ in op.outputs)
            if wide and op.type not in _NO_ARITHMETIC and not op.type.startswith("constexpr_"):
                yield Hit(f"it computes {op.output}", op)


@rule(
    "ane-narrow-row",
    "note",
    "H",
    source=APPLE,
    fix="put an axis of 32 or more elements last, or reshape before the output",
    triggers="""
        program("iOS16")
        x: fp16[1, 64, 1000, 1] = input()
        y: fp16[1, 64, 1000, 1] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 64, 10, 100] = input()
        y: fp16[1, 64, 10, 100] = relu(x=x)
        output(y)
    """,
)
def narrow_row(part: Part, context: Context) -> Iterator[Hit]:
    """The last axis of an input or output is short.

    Each row is padded to 64 bytes, 32 elements of fp16: a last axis of 1 takes 32 times the memory. Vectors
    of a few numbers do not matter and are not named.
    """
    for feature in part.features:
        if isinstance(feature, ArrayFeature) and len(feature.shape) > 1:
            last, rows = feature.shape[-1], 1
            for axis in feature.shape[:-1]:
                rows *= axis
            if 0 < 2 * last < ROW_BYTES and rows >= 1024:
                factor = ROW_BYTES / (2 * last)
                yield Hit(
                    f"{list(feature.shape)} has rows of {last}, padded to 32: {factor:.1f} times the memory",
                    feature.name,
                )


@rule(
    "ane-dynamic-shape",
    "note",
    "M",
    source=ANEFORGE,
    fix="give the model fixed or enumerated shapes, or pad to one size",
    triggers="""
        program("iOS16")
        x: fp16[1, 8] = input(range=[[1, 1], [1, 64]])
        y: fp16[1, None] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8] = input()
        y: fp16[1, 8] = relu(x=x)
        output(y)
    """,
    leaves_engine=True,
)
def dynamic_shape(part: Part, context: Context) -> Iterator[Hit]:
    """A value whose size is known at run time alone.

    Programs for the Neural Engine are compiled for shapes. When an input has enumerated shapes this is no
    finding: each is compiled.
    """
    if any(getattr(feature, "shapes", ()) for feature in part.description.inputs):
        return
    for body in part.bodies:
        for op in body.ops:
            if any(is_open(type_) for type_ in op.outputs):
                yield Hit(f"it gives {op.output}", op)


@rule(
    "ane-blockwise-weights",
    "note",
    "M",
    source="coremltools #2510",
    fix="palettize instead (4 bits in groups of channels), and compare both on a device",
    triggers="""
        program("iOS18")
        x: fp16[1, 64] = input()
        w: fp16[32, 64] = constexpr_blockwise_shift_scale(data=int4[32, 64], scale=fp16[32, 2])
        y: fp16[1, 32] = linear(x=x, weight=w)
        output(y)
    """,
    quiet="""
        program("iOS18")
        x: fp16[1, 64] = input()
        w: fp16[32, 64] = constexpr_blockwise_shift_scale(data=int8[32, 64], scale=fp16[32, 1])
        y: fp16[1, 32] = linear(x=x, weight=w)
        output(y)
    """,
    leaves_engine=True,
)
def blockwise_weights(part: Part, context: Context) -> Iterator[Hit]:
    """Weights quantized a block each.

    Scales a block of int4 or int8 weights were reported to keep layers on the GPU and the CPU.
    """
    for body in part.bodies:
        for op in body.ops:
            scale = op.type_of("scale")
            if op.type == "constexpr_blockwise_shift_scale" and scale is not None:
                split = [axis for axis in scale.shape or () if axis != 1]
                if len(split) > 1:
                    yield Hit(f"scales {scale} for weights {op.type_of('data')}", op)


@rule(
    "ane-quantized-activations",
    "note",
    "H",
    source="coremltools' guide, quantization",
    fix="expect the memory, not the speed, on older chips; measure on the ones you ship to",
    triggers="""
        lint(device="A15")
        program("iOS17")
        x: fp16[1, 64] = input()
        q: int8[1, 64] = quantize(input=x, scale=fp16(0.1), output_dtype="int8")
        y: fp16[1, 64] = dequantize(input=q, scale=fp16(0.1))
        output(y)
    """,
    quiet="""
        lint(device="M4")
        program("iOS17")
        x: fp16[1, 64] = input()
        q: int8[1, 64] = quantize(input=x, scale=fp16(0.1), output_dtype="int8")
        y: fp16[1, 64] = dequantize(input=q, scale=fp16(0.1))
        output(y)
    """,
)
def quantized_activations(part: Part, context: Context) -> Iterator[Hit]:
    """Activations in 8 bits, on a chip that does not compute faster with them.

    The A17 Pro and M4 were the first to multiply int8 by int8 at twice the rate.
    """
    slow = ("A12", "A13", "A14", "A15", "A16", "M1", "M2", "M3")
    chips = context.chips(*slow)
    for body in part.bodies:
        for op in body.ops:
            if op.type == "quantize" and chips:
                yield Hit(f"no speed to expect on {', '.join(chips)}", op)


@rule(
    "ane-none",
    "note",
    "H",
    source="Apple's documentation of MLComputeUnits",
    fix="plan for the GPU and the CPU of this device",
    triggers="""
        lint(device="iPhone X")
        program("iOS16")
        x: fp16[1, 64] = input()
        y: fp16[1, 64] = relu(x=x)
        output(y)
    """,
    quiet="""
        lint(device="iPhone 13")
        program("iOS16")
        x: fp16[1, 64] = input()
        y: fp16[1, 64] = relu(x=x)
        output(y)
    """,
)
def none(part: Part, context: Context) -> Iterator[Hit]:
    """A device without a Neural Engine that Core ML uses.

    The A11's is not open to Core ML, and Macs with an Intel processor have none. When only such devices are
    named, no other finding about the Neural Engine is made.
    """
    for device in context.devices:
        if device.chip in NO_NEURAL_ENGINE and not part.path:
            yield Hit(f"{device.name} has no Neural Engine for Core ML")
