"""An ONNX file as a Core ML model: its graph becomes a torch module of ours, which goes PyTorch's way."""

from __future__ import annotations

from typing import Any

import torch

from coremlops.convert import pytorch
from coremlops.convert.made import Made
from coremlops.convert.onnx.graph import Graph, read
from coremlops.convert.onnx.registry import RULES
from coremlops.convert.options import ConvertOptions
from coremlops.convert.plan import corners
from coremlops.convert.plan import plan as planned
from coremlops.errors import ConversionError
from coremlops.source import Reference
from coremlops.source.reference import TorchReference


def to_coreml(reference: Reference, options: ConvertOptions) -> Made:
    """Inputs and outputs keep the file's names, with _ for what Core ML has no name for.

    Raises ConversionError for ops and attributes that are not covered, all of them at once, InputError for a
    file that cannot be right.
    """
    own = [item.name for item in reference.inputs]
    odd = [f"{item.name} ({item.dtype})" for item in reference.inputs if not hasattr(torch, item.dtype)]
    if odd:
        raise ConversionError(
            f"{reference.name}: tensors of numbers as inputs expected, got {', '.join(odd)}"
        )
    plan = planned(reference, options)
    examples = tuple(
        torch.zeros(shape, dtype=getattr(torch, tensor.dtype))
        for tensor, shape in zip(plan.tensors, plan.defaults, strict=True)
    )
    net = Graph(read(reference.raw), own, examples)
    if net.told and any(shapes != plan.defaults for shapes in corners(plan)):
        raise ConversionError(
            f"{reference.name}: one shape an input expected: {net.told[0]} asks for the shape of its input",
            hint="convert it once for each shape that the app needs",
        )
    return pytorch.to_coreml(_torch(reference, net.eval()), options)


def _torch(reference: Reference, net: Any) -> TorchReference:
    return TorchReference(
        "torch.nn.Module", reference.name, reference.digest, reference.inputs, net, reference.card, call=net
    )


__all__ = ["RULES", "to_coreml"]
