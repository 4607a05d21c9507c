"""`meta-...`: what people and tools need to know, and the file does not say."""

from __future__ import annotations

import re
from collections.abc import Iterator

from coremlops.lint.context import Context
from coremlops.lint.rule import Hit, rule
from coremlops.lint.subject import Part
from coremlops.model import ArrayFeature, ImageFeature

PREPARATION = "com.coremlops.preparation"
FIELDS = ("author", "license", "version", "about")
# What converters call a value that nobody named.
_GENERIC = re.compile(r"(var|op|input|output|x|tensor|node|cast|Identity|const)_?\d+(_cast_fp(16|32))?|\d+")


@rule(
    "meta-missing",
    "note",
    "H",
    source="Core ML's metadata, as Xcode shows it",
    fix="say it when converting (`--author`, `--description`), or set it with coremltools before saving",
    triggers="""
        program("iOS16")
        metadata(author="Ada", version="1.0", about="Finds faces")
        x: fp16[1, 8] = input()
        y: fp16[1, 8] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        metadata(author="Ada", version="1.0", about="Finds faces", license="MIT")
        x: fp16[1, 8] = input()
        y: fp16[1, 8] = relu(x=x)
        output(y)
    """,
)
def missing(part: Part, context: Context) -> Iterator[Hit]:
    """Author, license, version or description is missing.

    Xcode shows them to whoever adds the model to an app; the license says whether that is allowed.
    """
    if not part.path:
        for field in FIELDS:
            if not part.description.metadata[field].strip():
                yield Hit(f"no {'description' if field == 'about' else field}", field)


@rule(
    "meta-feature-text",
    "note",
    "H",
    source="Core ML's metadata, as Xcode shows it",
    fix="describe each input and output: range, layout, unit",
    triggers="""
        program("iOS16")
        x: fp16[1, 8] = input()
        y: fp16[1, 8] = relu(x=x)
        output(y, about="activations, 0 or more")
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8] = input(about="features, scaled to -1..1")
        y: fp16[1, 8] = relu(x=x)
        output(y, about="activations, 0 or more")
    """,
)
def feature_text(part: Part, context: Context) -> Iterator[Hit]:
    """An input or output without a description.

    The text becomes the documentation of the class that Xcode generates.
    """
    if not part.path:
        for feature in part.features:
            if not feature.about.strip():
                yield Hit("no description", feature.name)


@rule(
    "meta-generic-name",
    "note",
    "M",
    source="names that converters make up",
    fix="name inputs and outputs when converting: the app's code will be full of them",
    triggers="""
        program("iOS16")
        x_1: fp16[1, 8] = input()
        var_12: fp16[1, 8] = relu(x=x_1)
        output(var_12)
    """,
    quiet="""
        program("iOS16")
        samples: fp16[1, 8] = input()
        levels: fp16[1, 8] = relu(x=samples)
        output(levels)
    """,
)
def generic_name(part: Part, context: Context) -> Iterator[Hit]:
    """An input or output whose name says nothing.

    Such names change with the next conversion, and the app's code with them.
    """
    if not part.path:
        for feature in part.features:
            if _GENERIC.fullmatch(feature.name):
                yield Hit("a name that a converter made up", feature.name)


@rule(
    "meta-preparation",
    "note",
    "H",
    source="coremlops: how pictures are prepared travels with the model",
    fix=f"convert with `coremlops convert`, which writes {PREPARATION}",
    triggers="""
        program("iOS16")
        x: fp16[1, 3, 32, 32] = image("RGB")
        y: fp16[1, 3, 32, 32] = relu(x=x)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 3, 32, 32] = image("RGB")
        metadata(preparation='{"image_option": "scaleFit"}')
        y: fp16[1, 3, 32, 32] = relu(x=x)
        output(y)
    """,
)
def preparation(part: Part, context: Context) -> Iterator[Hit]:
    """A picture goes in, and nothing says how it is cropped and scaled.

    When the app prepares pictures in another way than training did, the model is worse there and nobody
    sees why.
    """
    if not part.path and PREPARATION not in part.description.user_defined:
        for feature in part.description.inputs:
            if isinstance(feature, ImageFeature):
                yield Hit(f"no {PREPARATION} in the metadata", feature.name)


@rule(
    "meta-labels",
    "note",
    "M",
    source="the graph: an output is a softmax",
    fix="convert with `--labels`, so that the app gets names instead of numbers",
    triggers="""
        program("iOS16")
        x: fp16[1, 8] = input()
        y: fp16[1, 8] = softmax(x=x, axis=-1)
        output(y)
    """,
    quiet="""
        program("iOS16")
        x: fp16[1, 8] = input()
        y: fp16[1, 8] = sigmoid(x=x)
        output(y)
    """,
)
def labels(part: Part, context: Context) -> Iterator[Hit]:
    """Probabilities go out, and there are no labels.

    A softmax over the last axis of a vector is a classifier; without labels each app keeps a list of its own.
    """
    if part.path or part.description.labels:
        return
    outputs = {feature.name for feature in part.description.outputs if isinstance(feature, ArrayFeature)}
    for body in part.bodies:
        for name in outputs:
            op = body.scope.made.get(name)
            if op is not None and op.type == "cast":
                op = op.before(("cast",))
            if op is not None and op.type == "softmax" and (op.output.rank or 0) <= 2:
                yield Hit("a softmax without labels", name)
