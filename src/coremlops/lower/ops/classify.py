"""The op that makes a model a classifier. Source: coremltools, `ops/defs/iOS15/classify.py`."""

from __future__ import annotations

import math

from coremlops.errors import ModelFormatError
from coremlops.lower.context import Classifier, Lowering
from coremlops.lower.registry import Labels, Unsupported, Value, lowers


@lowers("classify")
def classify(ctx: Lowering, probabilities: Value, classes: Labels) -> None:
    """The best label, and the probability of each. Done on the host: ONNX has no strings worth the name.

    probabilities: [*], fp32, as many as there are classes.
    """
    outputs = ctx.operation.outputs if ctx.operation else ()
    if ctx.classifier is not None or ctx.is_nested or len(outputs) != 2:
        raise Unsupported("a second classify op, or one without two results")
    shape = probabilities.shape
    if None not in shape and math.prod(axis or 0 for axis in shape) != len(classes):
        raise Unsupported(f"{len(classes)} classes for probabilities of shape {shape}")
    if len(set(classes)) != len(classes):
        raise ModelFormatError(f"classify: {len(classes)} labels, and one of them twice")
    label, source = outputs[0].name, outputs[1].name
    ctx.graph.node("Identity", [ctx.use(probabilities)], [source], {})
    ctx.classifier = Classifier(label, source, source, shape, classes)
