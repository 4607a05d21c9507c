"""`range-...`: what the model's inner values were when it was executed, with float16 in mind.

These rules need `--data` or `--ranges`. What random inputs do says little about real ones, and is of low
confidence.
"""

from __future__ import annotations

from collections.abc import Iterator

from coremlops.dialects.neuralnetwork import Layer
from coremlops.lint.activations import FP16_MAX, Observed, Range, narrow
from coremlops.lint.context import Context
from coremlops.lint.finding import Confidence
from coremlops.lint.rule import Hit, rule
from coremlops.lint.rules.float16 import MASKING
from coremlops.lint.subject import Op, Part

HEADROOM = 8  # room for inputs that were not seen
VANISHED = 0.5
SOURCE = "executed here (emulated)"


@rule(
    "range-overflow",
    "error",
    "M",
    source=SOURCE,
    fix="keep the op in float32, or scale its input down (`coremlops verify --fix` looks for a small change)",
    triggers="""
        lint(ranges=True)
        program("iOS16")
        x: fp16[1, 64] = input()
        a: fp16[1, 64] = mul(x=x, y=fp16(60000.0))
        y: fp16[1, 64] = mul(x=a, y=fp16(0.0001))
        output(y)
    """,
    quiet="""
        lint(ranges=True)
        program("iOS16")
        x: fp16[1, 64] = input()
        a: fp16[1, 64] = mul(x=x, y=fp16(60.0))
        y: fp16[1, 64] = mul(x=a, y=fp16(0.1))
        output(y)
    """,
)
def overflow(part: Part, context: Context) -> Iterator[Hit]:
    """A value past 65504 where the model computes in float16.

    It becomes infinite there, and often NaN one op later. The model was executed in float32 to see what it
    wanted to be. A neural network declares no types; the Neural Engine and the GPU compute it in float16.
    """
    for at, found, observed in _narrow(part, context):
        if found.largest > FP16_MAX:
            yield Hit(
                f"{found.largest:.4g} is past 65504, on {observed.about}",
                at,
                level="warning" if observed.random else None,
                confidence=_sure(observed),
            )


@rule(
    "range-headroom",
    "note",
    "M",
    source=SOURCE,
    fix="prove the model on more data, the brightest and loudest first; scale down where it is cheap",
    triggers="""
        lint(ranges=True)
        program("iOS16")
        x: fp16[1, 64] = input()
        a: fp16[1, 64] = clip(x=x, alpha=fp16(1.0), beta=fp16(2.0))
        b: fp16[1, 64] = mul(x=a, y=fp16(20000.0))
        y: fp16[1, 64] = mul(x=b, y=fp16(0.0001))
        output(y)
    """,
    quiet="""
        lint(ranges=True)
        program("iOS16")
        x: fp16[1, 64] = input()
        a: fp16[1, 64] = clip(x=x, alpha=fp16(1.0), beta=fp16(2.0))
        b: fp16[1, 64] = mul(x=a, y=fp16(200.0))
        y: fp16[1, 64] = mul(x=b, y=fp16(0.01))
        output(y)
    """,
)
def headroom(part: Part, context: Context) -> Iterator[Hit]:
    """A value that comes near 65504.

    Within a factor of eight: an input that was not among the samples may go past it. What masks a softmax
    is large on purpose, and no finding.
    """
    for at, found, observed in _narrow(part, context):
        if FP16_MAX / HEADROOM < found.largest <= FP16_MAX and not _is_mask(at):
            room = FP16_MAX / found.largest
            yield Hit(
                f"up to {found.largest:.4g}, {room:.1f} times below 65504, on {observed.about}",
                at,
                confidence=_sure(observed),
            )


@rule(
    "range-underflow",
    "warning",
    "M",
    source=SOURCE,
    fix="scale up before, and down after; or keep the op in float32",
    triggers="""
        lint(ranges=True)
        program("iOS16")
        x: fp16[1, 64] = input()
        a: fp16[1, 64] = mul(x=x, y=fp16(0.0001))
        b: fp16[1, 64] = mul(x=a, y=fp16(0.0001))
        y: fp16[1, 64] = mul(x=b, y=fp16(60000.0))
        output(y)
    """,
    quiet="""
        lint(ranges=True)
        program("iOS16")
        x: fp16[1, 64] = input()
        a: fp16[1, 64] = mul(x=x, y=fp16(0.01))
        y: fp16[1, 64] = mul(x=a, y=fp16(100.0))
        output(y)
    """,
)
def underflow(part: Part, context: Context) -> Iterator[Hit]:
    """Most values are too small for float16.

    At least half of those that are not 0 are at most 3e-8, and become 0.
    """
    for at, found, observed in _narrow(part, context):
        if found.vanished >= VANISHED and not _is_probability(at):
            yield Hit(
                f"{found.vanished:.0%} of its values that are not 0 become 0, on {observed.about}",
                at,
                confidence=_sure(observed),
            )


def _is_mask(at: Op | Layer | str) -> bool:
    """Whether a value goes into softmax ops alone, added to or chosen among others at most."""
    if not isinstance(at, Op):
        return False
    seen: set[str] = set()
    waiting, ends = [at], 0
    while waiting:
        for user in waiting.pop().users():
            if user.type == "softmax":
                ends += 1
            elif user.type not in MASKING:
                return False
            elif user.name not in seen:
                seen.add(user.name)
                waiting.append(user)
    return ends > 0


def _is_probability(at: Op | Layer | str) -> bool:
    """A softmax, a sigmoid or a rectifier's tail is small by design: what vanishes there is meant to."""
    kind = at.type if isinstance(at, Op) else "" if isinstance(at, str) else at.kind
    return kind in ("softmax", "sigmoid", "exp", "exp2", "gelu", "silu", "classify")


@rule(
    "range-not-finite",
    "error",
    "M",
    source=SOURCE,
    fix="look for a division by zero, a logarithm of zero, or a mask that hides a whole row",
    triggers="""
        lint(ranges=True)
        program("iOS16")
        x: fp32[1, 64] = input()
        n: fp32[1, 64] = relu(x=x)
        z: fp32[1, 64] = mul(x=n, y=fp32(0.0))
        y: fp32[1, 64] = real_div(x=n, y=z)
        output(y)
    """,
    quiet="""
        lint(ranges=True)
        program("iOS16")
        x: fp32[1, 64] = input()
        n: fp32[1, 64] = relu(x=x)
        z: fp32[1, 64] = add(x=n, y=fp32(1.0))
        y: fp32[1, 64] = real_div(x=n, y=z)
        output(y)
    """,
)
def not_finite(part: Part, context: Context) -> Iterator[Hit]:
    """NaN or infinity, in float32 too.

    It is no matter of precision: the model itself, or the data, does it. Only the first values are named,
    not what follows from them; infinity alone is a warning, for masks hold it on purpose.
    """
    observed = context.observed
    if observed is None or part.path:
        return
    spoilt: set[str] = set()
    for at in _all(part):
        made = _made(at)
        used = at.refs() if isinstance(at, Op) else () if isinstance(at, str) else at.inputs
        bad = [name for name in made if _is_bad(observed.ranges.get(name))]
        if bad and not spoilt.intersection(used):
            nan = any(observed.ranges[name].nan for name in bad)
            yield Hit(
                f"{'NaN' if nan else 'infinity'} in float32, on {observed.about}",
                at,
                level=None if nan and not observed.random else "warning",
                confidence=_sure(observed),
            )
        spoilt.update(bad)


def _is_bad(found: Range | None) -> bool:
    return found is not None and (found.nan or found.infinite)


def _sure(observed: Observed) -> Confidence:
    return "L" if observed.random else "M"


def _all(part: Part) -> Iterator[Op | Layer | str]:
    """Ops and layers in order; of a pipeline the names between its members."""
    for body in part.bodies:
        if not body.part:
            yield from body.ops
    yield from part.layers


def _made(at: Op | Layer | str) -> tuple[str, ...]:
    if isinstance(at, Op):
        return tuple(entry.name for entry in at.operation.outputs)
    return (at,) if isinstance(at, str) else at.outputs


def _narrow(part: Part, context: Context) -> Iterator[tuple[Op | Layer | str, Range, Observed]]:
    """What was observed of values that are computed in float16: an op's or layer's widest result."""
    observed = context.observed
    if observed is None or part.path:
        return
    halves = narrow(part.bodies)
    for at in _all(part):
        names = [name for name in _made(at) if name in observed.ranges]
        if isinstance(at, Op):
            names = [name for name in names if name in halves]
        ranges = [observed.ranges[name] for name in names]
        if ranges:
            joined = ranges[0]
            for other in ranges[1:]:
                joined = joined.joined(other)
            yield at, joined, observed
