"""`shape-...`: what flexible inputs cost."""

from __future__ import annotations

import math
from collections.abc import Iterator

from coremlops.lint.context import Context
from coremlops.lint.rule import Hit, rule
from coremlops.lint.subject import Part
from coremlops.model import ArrayFeature, Feature, ImageFeature

MOST_ENUMERATED = 128
GROWTH = 4
GUIDE = "coremltools' guide, flexible input shapes"


@rule(
    "shape-ranged",
    "warning",
    "H",
    source=f"{GUIDE}; coremltools #2370",
    fix="enumerate the shapes you use; or from iOS 17.4 on hint at infrequent reshapes, and measure",
    triggers="""
        program("iOS16")
        x: fp16[1, 128] = input(range=[[1, 1], [1, 512]])
        y: fp16[1, None] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 128] = input(shapes=[[1, 128], [1, 512]])
        y: fp16[1, None] = relu(x=x)
        output(y)
    """,
)
def ranged(part: Part, context: Context) -> Iterator[Hit]:
    """An input of any size in a range.

    The Neural Engine is used for it only from iOS 17.4 on, and only where the app says that reshapes are
    rare; each new shape is compiled.
    """
    for feature in part.description.inputs:
        if _ranges(feature):
            yield Hit(f"sizes {_text(feature)}", feature.name)


@rule(
    "shape-unbounded",
    "warning",
    "H",
    source=GUIDE,
    fix="give the range an upper bound",
    triggers="""
        program("iOS16")
        x: fp16[1, 128] = input(range=[[1, 1], [1, -1]])
        y: fp16[1, None] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 128] = input(range=[[1, 1], [1, 512]])
        y: fp16[1, None] = relu(x=x)
        output(y)
    """,
)
def unbounded(part: Part, context: Context) -> Iterator[Hit]:
    """A range without an end.

    Memory cannot be planned, and coremltools refuses to write it into an ML Program.
    """
    for feature in part.description.inputs:
        if any(most is None for _, most in _ranges(feature)):
            yield Hit(f"sizes {_text(feature)}", feature.name)


@rule(
    "shape-many",
    "warning",
    "H",
    source=GUIDE,
    fix="keep at most 128, and pad to the next of them",
    triggers="""
        program("iOS16")
        x: fp16[1, 8] = input(shapes=[[1, 8 + i] for i in range(130)])
        y: fp16[1, None] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8] = input(shapes=[[1, 8], [1, 16], [1, 32]])
        y: fp16[1, None] = relu(x=x)
        output(y)
    """,
)
def many(part: Part, context: Context) -> Iterator[Hit]:
    """More than 128 enumerated shapes.

    Core ML takes at most 128.
    """
    for feature in part.description.inputs:
        found = len(_enumerated(feature))
        if found > MOST_ENUMERATED:
            yield Hit(f"{found} shapes", feature.name)


@rule(
    "shape-several-inputs",
    "warning",
    "H",
    source=f"{GUIDE}; coremltools #2271",
    fix="for iOS 17 and older, enumerate the shapes of one input alone; from iOS 18 on give each as many",
    triggers="""
        program("iOS16")
        a: fp16[1, 8] = input(shapes=[[1, 8], [1, 16]])
        b: fp16[1, 8] = input(shapes=[[1, 8], [1, 16]])
        y: fp16[1, None] = add(x=a, y=b)
        output(y)
    """,
    quiet="""
        program("iOS18")
        a: fp16[1, 8] = input(shapes=[[1, 8], [1, 16]])
        b: fp16[1, 8] = input(shapes=[[1, 8], [1, 16]])
        y: fp16[1, None] = add(x=a, y=b)
        output(y)
    """,
)
def several_inputs(part: Part, context: Context) -> Iterator[Hit]:
    """Several inputs with enumerated shapes.

    Before iOS 18 one input may have them; from then on several may, with equally many shapes each, taken
    together.
    """
    counts = {f.name: len(_enumerated(f)) for f in part.description.inputs if _enumerated(f)}
    if len(counts) < 2:
        return
    if context.specification < 9:
        yield Hit(f"{', '.join(counts)} have enumerated shapes, and the oldest system is before iOS 18")
    elif len(set(counts.values())) > 1:
        yield Hit(
            "the numbers of shapes differ: " + ", ".join(f"{name} {count}" for name, count in counts.items())
        )


@rule(
    "shape-layer-norm",
    "note",
    "M",
    source="coremltools #1909",
    fix="try the enumerated model on a device first; write the normalisation with reduce_mean, if it fails",
    triggers="""
        program("iOS16")
        x: fp16[1, 8, 64] = input(shapes=[[1, 8, 64], [1, 16, 64]])
        y: fp16[1, None, 64] = layer_norm(x=x, axes=[-1], epsilon=fp16(1e-05))
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8, 64] = input()
        y: fp16[1, 8, 64] = layer_norm(x=x, axes=[-1], epsilon=fp16(1e-05))
        output(y)
    """,
    leaves_engine=True,
)
def layer_norm(part: Part, context: Context) -> Iterator[Hit]:
    """Layer normalisation in a model with enumerated shapes.

    It was reported to keep such models from the Neural Engine.
    """
    if any(_enumerated(feature) for feature in part.description.inputs):
        for body in part.bodies:
            for op in body.ops:
                if op.type == "layer_norm":
                    yield Hit("layer_norm, and the shapes of an input are enumerated", op)


@rule(
    "shape-growth",
    "note",
    "H",
    source="the declared shapes",
    fix="narrow the range to what the app sends, or tile large inputs",
    triggers="""
        program("iOS16")
        x: fp16[1, 3, 256, 256] = input(range=[[1, 1], [3, 3], [64, 2048], [64, 2048]])
        y: fp16[1, 3, None, None] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 3, 256, 256] = input(range=[[1, 1], [3, 3], [64, 320], [64, 320]])
        y: fp16[1, 3, None, None] = relu(x=x)
        output(y)
    """,
)
def growth(part: Part, context: Context) -> Iterator[Hit]:
    """The largest allowed input is much larger than the default one.

    Memory and time grow at least as much as the input, those of attention with its square; proofs and
    budgets are usually made for the default. Said from four times on.
    """
    for feature in part.description.inputs:
        largest, default = _largest(feature), math.prod(feature.shape)
        if default and largest >= GROWTH * default:
            yield Hit(
                f"the largest has {largest / default:.0f} times the {default:,} elements of the default",
                feature.name,
            )


def _ranges(feature: Feature) -> tuple[tuple[int, int | None], ...]:
    """The ranges of an input's axes, where one of them has more than one size."""
    if isinstance(feature, ArrayFeature):
        found = feature.ranges
    elif isinstance(feature, ImageFeature):
        found = tuple(entry for entry in (feature.height_range, feature.width_range) if entry is not None)
    else:
        return ()
    return found if any(least != most for least, most in found) else ()


def _enumerated(feature: Feature) -> tuple[tuple[int, ...], ...]:
    """The shapes of an input that are enumerated, where there are several."""
    if isinstance(feature, ArrayFeature):
        shapes = tuple(dict.fromkeys((feature.shape, *feature.shapes))) if feature.shapes else ()
    elif isinstance(feature, ImageFeature) and feature.sizes:
        shapes = tuple(dict.fromkeys(((feature.width, feature.height), *feature.sizes)))
    else:
        return ()
    return shapes if len(shapes) > 1 else ()


def _largest(feature: Feature) -> int:
    """The most elements that an input may have; 0 when there is no limit or it is not flexible."""
    channels = feature.shape[2:] if isinstance(feature, ImageFeature) else ()
    shapes = [math.prod((*shape, *channels)) for shape in _enumerated(feature)]
    ranges = _ranges(feature)
    if ranges and all(most is not None for _, most in ranges):
        shapes.append(math.prod((*(most or 0 for _, most in ranges), *channels)))
    return max(shapes, default=0)


def _text(feature: Feature) -> str:
    return (
        "["
        + ", ".join(
            str(least) if least == most else f"{least}..{'' if most is None else most}"
            for least, most in _ranges(feature)
        )
        + "]"
    )
