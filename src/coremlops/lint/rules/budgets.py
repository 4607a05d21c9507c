"""`size-...`: bytes on disk and in memory, against budgets and against what is known to be too much."""

from __future__ import annotations

from collections.abc import Iterator

from coremlops.lint.context import Context
from coremlops.lint.graph import peak_activations
from coremlops.lint.rule import Hit, rule
from coremlops.lint.subject import Part, weight_bytes

GIGABYTE = 10**9
SLOW_TO_COMPILE = 500 * 10**6
FEW_BYTES = 1 << 20


@rule(
    "size-over-budget",
    "error",
    "H",
    source="your own budget",
    fix="compress the weights (`coremlops compress`), or raise the budget",
    triggers="""
        lint(max_bytes=10_000)
        program("iOS16")
        x: fp16[1, 100] = input()
        y: fp16[1, 100] = linear(x=x, weight=fp16[100, 100])
        output(y)
    """,
    quiet="""
        lint(max_bytes=100_000)
        program("iOS16")
        x: fp16[1, 100] = input()
        y: fp16[1, 100] = linear(x=x, weight=fp16[100, 100])
        output(y)
    """,
)
def over_budget(part: Part, context: Context) -> Iterator[Hit]:
    """The model is larger than its budget.

    All files of the package count, as `--max-size` says.
    """
    limit, size = context.options.max_bytes, part.asset.package.bytes
    if not part.path and limit is not None and size > limit:
        yield Hit(f"{size:,} bytes on disk; the budget is {limit:,}")


@rule(
    "size-activations-over-budget",
    "error",
    "M",
    source="your own budget; the size is our estimate",
    fix="work on a smaller input, in tiles, or with fewer channels where the estimate peaks",
    triggers="""
        lint(max_activation_bytes=100_000)
        program("iOS16")
        x: fp16[1, 64, 64, 64] = input()
        y: fp16[1, 64, 64, 64] = relu(x=x)
        output(y)
    """,
    quiet="""
        lint(max_activation_bytes=2_000_000)
        program("iOS16")
        x: fp16[1, 64, 64, 64] = input()
        y: fp16[1, 64, 64, 64] = relu(x=x)
        output(y)
    """,
)
def activations_over_budget(part: Part, context: Context) -> Iterator[Hit]:
    """The values between the ops need more memory than the budget.

    An estimate from the declared sizes: each op makes a new value, which goes after its last use. Weights
    do not count; an open axis counts as one.
    """
    limit = context.options.max_activation_bytes
    for body in part.bodies:
        peak = peak_activations(body)
        if limit is not None and peak.bytes > limit:
            least = "" if peak.exact else "at least "
            yield Hit(f"{least}{peak.bytes:,} bytes live at once; the budget is {limit:,}", peak.op)


@rule(
    "size-gigabyte",
    "warning",
    "H",
    source="coremltools' guide: larger models are bisected for iPhones",
    fix="compress the weights, or cut the model in two (`coremltools.models.utils.bisect_model`)",
    triggers="""
        program("iOS16")
        x: fp16[1, 30000] = input()
        y: fp16[1, 20000] = linear(x=x, weight=fp16[20000, 30000])
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 3000] = input()
        y: fp16[1, 2000] = linear(x=x, weight=fp16[2000, 3000])
        output(y)
    """,
)
def gigabyte(part: Part, context: Context) -> Iterator[Hit]:
    """A model of more than 1 GB.

    An iPhone may not load it in one piece.
    """
    size = part.asset.package.bytes
    if not part.path and size > GIGABYTE:
        yield Hit(f"{size / GIGABYTE:.2f} GB")


@rule(
    "size-first-load",
    "note",
    "M",
    source="reports of 25 to 521 s on iPhones for large models. From 500 MB on is our guess",
    fix="load it once in the background after an update, from a path that stays: it is the key of the cache",
    triggers="""
        program("iOS16")
        x: fp16[1, 20000] = input()
        y: fp16[1, 20000] = linear(x=x, weight=fp16[20000, 20000])
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 3000] = input()
        y: fp16[1, 2000] = linear(x=x, weight=fp16[2000, 3000])
        output(y)
    """,
)
def first_load(part: Part, context: Context) -> Iterator[Hit]:
    """The first load may take minutes.

    The Neural Engine's compiler works on the device when a model is loaded for the first time; later loads
    take a second.
    """
    size = part.asset.package.bytes
    if not part.path and size >= SLOW_TO_COMPILE:
        yield Hit(f"{size / 10**6:.0f} MB")


@rule(
    "size-float32-weights",
    "note",
    "H",
    source="the dtypes of the weights in the file",
    fix="convert with precision float16: half the size, seldom another answer (`coremlops verify` says)",
    triggers="""
        program("iOS16")
        x: fp32[1, 1000] = input()
        y: fp32[1, 1000] = linear(x=x, weight=fp32[1000, 1000])
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 1000] = input()
        y: fp16[1, 1000] = linear(x=x, weight=fp16[1000, 1000])
        output(y)
    """,
)
def float32_weights(part: Part, context: Context) -> Iterator[Hit]:
    """Weights in float32.

    Said from 1 MB of them on.
    """
    wide = weight_bytes(part)["fp32"]
    if wide >= FEW_BYTES:
        yield Hit(f"{wide:,} bytes of weights are float32; float16 would spare {wide // 2:,}")
