"""`fp16-...`: constants and ops that lose their meaning in float16, seen without executing anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from coremlops.dialects.mil import BlobRef, Immediate
from coremlops.lint.context import Context
from coremlops.lint.needs import constant_number
from coremlops.lint.rule import Hit, rule
from coremlops.lint.subject import Body, Op, Part, size_bytes

MASKING = ("add", "sub", "mul", "select", "maximum", "minimum")
NORMS = ("layer_norm", "batch_norm", "instance_norm", "l2_norm")
MAX_MASK_BYTES = 1 << 16  # of a mask in the weight file that is read
SMALLEST = 2.0**-24  # of fp16 above zero
HALF = 2.0**-25  # what is not above it rounds to zero
# Where exp, or a sum of its values, passes 65504 in float16, and what the papers of coremltools' issues saw.
CLIFFS = {
    "softplus": "about 10.4 (coremltools #2687)",
    "reduce_log_sum_exp": "about 7.6 for long axes (#2690)",
    "exp": "11.09: e to that is 65504",
    "exp2": "16: 2 to that is 65536",
    "cosh": "11.78: it is past 65504 there",
    "sinh": "11.78: it is past 65504 there",
}
APPLE_MASKS = "Apple's rules for models on the Neural Engine (coreai-models)"


@rule(
    "fp16-infinite-constant",
    "warning",
    "H",
    source=f"{APPLE_MASKS}; coremltools PR #2669",
    fix="mask with -40000 (or -1e4) instead of -inf and torch.finfo(...).min",
    triggers="""
        program("iOS16")
        x: fp16[1, 4, 8, 8] = input()
        m: fp16[1, 4, 8, 8] = add(x=x, y=fp16(-inf))
        y: fp16[1, 4, 8, 8] = softmax(x=m, axis=-1)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 4, 8, 8] = input()
        m: fp16[1, 4, 8, 8] = add(x=x, y=fp16(-40000.0))
        y: fp16[1, 4, 8, 8] = softmax(x=m, axis=-1)
        output(y)
    """,
)
def infinite_constant(part: Part, context: Context) -> Iterator[Hit]:
    """An infinite or not-a-number constant in a mask.

    A row that is masked whole gives inf - inf, which is NaN; and -1e9 or finfo.min becomes -inf in float16,
    also where a float32 op holds it and a cast follows. Scalars and masks of at most 64 kB are looked at.
    """
    for body in part.bodies:
        for op in body.ops:
            if op.type in MASKING and op.output.dtype in ("fp16", "fp32"):
                for name, entry in op.bound():
                    values = _mask(part, op, entry)
                    if values is not None and not np.isfinite(values).all():
                        odd = values[~np.isfinite(values)].ravel()[0]
                        yield Hit(f"{name} holds {odd} in {odd.dtype}", op)
                        break


def _mask(part: Part, op: Op, entry: Any) -> Any:
    """The numbers of a small constant of floats, as float16 would hold them; None for others."""
    found = op.scope.constant(entry)
    type_ = op.scope.tensor(entry)
    if found is None or type_ is None or type_.dtype not in ("fp16", "fp32"):
        return None
    if isinstance(found, Immediate):
        values = np.asarray(found.value)
    elif isinstance(found, BlobRef) and size_bytes(type_) <= MAX_MASK_BYTES:
        values = part.asset.blobs(found.file).read(found.offset)
    else:
        return None
    half = op.output.dtype == "fp16" or any(user.output.dtype == "fp16" for user in op.users())
    with np.errstate(over="ignore"):
        return values.astype(np.float16) if half else values


@rule(
    "fp16-epsilon",
    "warning",
    "H",
    source="IEEE 754: fp16's smallest number above zero is 6e-8; coremltools raises smaller ones to it",
    fix="use an epsilon of 1e-5 or more, or keep the op in float32",
    triggers="""
        program("iOS16")
        x: fp16[1, 8, 64] = input()
        y: fp16[1, 8, 64] = layer_norm(x=x, axes=[-1], epsilon=fp16(1e-12))
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 64] = input()
        y: fp16[1, 8, 64] = layer_norm(x=x, axes=[-1], epsilon=fp16(1e-05))
        output(y)
    """,
)
def epsilon(part: Part, context: Context) -> Iterator[Hit]:
    """An epsilon that is zero in float16, or the smallest number that it has.

    It is there to keep a division from zero; rounded to zero it does nothing, and a constant input gives
    infinity. Next to a variance fp16's smallest number is lost too, and chips may take it for zero. Looked
    at are normalisations, and small numbers that are added before a root or a division.
    """
    for body in part.bodies:
        for op in _half(body):
            value = _epsilon(op)
            if value is None or not 0 <= value <= SMALLEST:
                continue
            yield Hit(
                "epsilon is 0 in the file"
                if value == 0
                else f"epsilon {value:g} is fp16's smallest number, or less",
                op,
                level="warning" if value <= HALF else "note",
            )


def _epsilon(op: Op) -> float | None:
    """The small number that an op keeps a division from zero with; None for an op that has none."""
    if op.type in NORMS:
        return constant_number(op, "epsilon")
    if op.type != "add" or not {user.type for user in op.users()} & {"rsqrt", "sqrt", "real_div", "inverse"}:
        return None
    numbers = [number for name in ("x", "y") if (number := constant_number(op, name)) is not None]
    return min(numbers, default=None)


@rule(
    "fp16-cliff",
    "note",
    "M",
    source="coremltools #2687, #2690, #2728, #2729",
    fix="look at the range of its input (--data), or keep the op in float32",
    triggers="""
        program("iOS16")
        x: fp16[1, 64] = input()
        y: fp16[1, 64] = softplus(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp32[1, 64] = input()
        y: fp32[1, 64] = softplus(x=x)
        output(y)
    """,
)
def cliff(part: Part, context: Context) -> Iterator[Hit]:
    """An op that overflows in float16 for inputs that are not large.

    They compute an exponential, which passes 65504 early; the result may be infinite where it should be a
    modest number.
    """
    for body in part.bodies:
        for op in _half(body):
            if op.type in CLIFFS:
                yield Hit(f"inputs from {CLIFFS[op.type]} overflow", op)
            maker = op.maker("x")
            if op.type == "log" and maker is not None and maker.type in ("softmax", "sigmoid"):
                yield Hit(f"the logarithm of {maker.type} is -inf where that rounds to 0 (#2728)", op)


def _half(body: Body) -> Iterator[Op]:
    """The ops that give fp16."""
    for op in body.ops:
        if op.output.dtype == "fp16":
            yield op
