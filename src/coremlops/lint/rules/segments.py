"""`ane-...`: the model as a whole, and where it changes hands."""

from __future__ import annotations

import math
from collections.abc import Iterator

from coremlops.lint.context import Context
from coremlops.lint.graph import Segments, segments_of, segments_of_layers
from coremlops.lint.rule import RULES, Hit, rule
from coremlops.lint.rules.neural_engine import APPLE
from coremlops.lint.subject import Op, Part, count

MANY = 5  # two pieces outside, and three between and around them
TINY = 1_000_000  # multiplications; a guess for "a tiny graph"
LARGE_SPATIAL = 4096


@rule(
    "ane-segments",
    "warning",
    "M",
    source=f"{APPLE}; hollance. The count is our estimate",
    fix="mend what the other findings name, those in the middle of the model first",
    triggers="""
        program("iOS16")
        x: fp16[1, 64] = input()
        a: fp16[1, 64] = cosh(x=x)
        b: fp16[1, 64] = linear(x=a, weight=fp16[64, 64])
        c: fp16[1, 64] = cosh(x=b)
        d: fp16[1, 64] = linear(x=c, weight=fp16[64, 64])
        y: fp16[1, 64] = cosh(x=d)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 64] = input()
        a: fp16[1, 64] = cosh(x=x)
        b: fp16[1, 64] = linear(x=a, weight=fp16[64, 64])
        c: fp16[1, 64] = relu(x=b)
        d: fp16[1, 64] = linear(x=c, weight=fp16[64, 64])
        y: fp16[1, 64] = relu(x=d)
        output(y)
    """,
    after=True,
)
def segments(part: Part, context: Context) -> Iterator[Hit]:
    """The work may change hands often.

    Each change copies values and waits. Counted are the pieces of a good order of the ops, cut where an op
    with a finding about the Neural Engine meets one without; from five on it is said. Apple's compiler may
    cut elsewhere.
    """
    for where, cut in estimates(part, context):
        if cut.segments >= MANY:
            yield Hit(
                f"an estimate of {cut.segments} pieces: {cut.outside} of {cut.ops} ops have a finding",
                where,
            )


def estimates(part: Part, context: Context) -> Iterator[tuple[str, Segments]]:
    """The cut of each function, or of the network, by the findings so far."""
    outside = {
        (finding.part, finding.op)
        for finding in context.found
        if RULES[finding.rule].leaves_engine and finding.level != "error" and finding.op
    }
    for body in part.bodies:
        named = {op for where, op in outside if where == body.part}
        yield body.function.name if len(part.bodies) > 1 else "", segments_of(body, named)
    if part.network is not None:
        named = {op for where, op in outside if where == part.label()}
        yield "", segments_of_layers(part.network.layers, named)


@rule(
    "ane-tiny",
    "note",
    "M",
    source="measured on an M4: the CPU was preferred. The limit is our guess",
    fix="nothing: a tiny model is fast on the CPU; ask for `cpuOnly` and spare the load",
    triggers="""
        program("iOS16")
        x: fp16[1, 64] = input()
        y: fp16[1, 8] = linear(x=x, weight=fp16[8, 64])
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 64, 64, 64] = input()
        y: fp16[1, 64, 64, 64] = conv(x=x, weight=fp16[64, 64, 3, 3], pad_type="same")
        output(y)
    """,
)
def tiny(part: Part, context: Context) -> Iterator[Hit]:
    """A tiny model.

    Handing little work to the Neural Engine costs more than the work; Core ML then prefers the CPU.
    """
    for body in part.bodies:
        products = [multiplications(op) for op in body.ops]
        total = sum(value for value in products if value is not None)
        if None not in products and 0 < total < TINY:
            yield Hit(f"{total:,} multiplications in all", "")


def multiplications(op: Op) -> int | None:
    """Those of a convolution or a product of matrices; 0 of another op, None when a size is open."""
    if op.type in ("conv", "linear", "conv_transpose"):
        weight, x, made = op.type_of("weight"), op.type_of("x"), count(op.output)
        if weight is None or x is None or made is None or count(weight) is None:
            return None
        if op.type == "conv_transpose":  # each input element meets the kernel of each output channel
            given = count(x)
            return (
                None if given is None else given * math.prod(axis or 1 for axis in (weight.shape or ())[1:])
            )
        return made * math.prod(axis or 1 for axis in (weight.shape or ())[1:])
    if op.type == "matmul":
        x, made = op.type_of("x"), count(op.output)
        inner = (
            (x.shape or (None,))[-2 if op.value("transpose_x") else -1] if x is not None and x.rank else None
        )
        return None if made is None or inner is None else made * inner
    return 0


@rule(
    "ane-softmax-spatial",
    "note",
    "H",
    source=f"{APPLE}. From {LARGE_SPATIAL} elements on is our guess",
    fix="attend in blocks, or downsample before",
    triggers="""
        program("iOS16")
        x: fp16[1, 8, 64, 8192] = input()
        y: fp16[1, 8, 64, 8192] = softmax(x=x, axis=-1)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 64, 256] = input()
        y: fp16[1, 8, 64, 256] = softmax(x=x, axis=-1)
        output(y)
    """,
)
def softmax_spatial(part: Part, context: Context) -> Iterator[Hit]:
    """Softmax over a long axis.

    The channels of a picture are meant; over a long row or column it is slow or does not fit.
    """
    for body in part.bodies:
        for op in body.ops:
            shape = op.output.shape or ()
            axis = op.value("axis")
            if op.type == "softmax" and shape:
                axis = -1 if not isinstance(axis, int) else axis
                if -len(shape) <= axis < len(shape) and axis % len(shape) >= max(1, len(shape) - 2):
                    size = shape[axis]
                    if size is not None and size >= LARGE_SPATIAL:
                        yield Hit(f"softmax over {size} elements", op)
