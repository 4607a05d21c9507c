"""Inputs and outputs in coremltools' words."""

from __future__ import annotations

from typing import Any

import numpy as np

from coremlops.convert.interface import Input, Output
from coremlops.convert.plan import Plan


def input_types(plan: Plan) -> list[Any]:
    """One `ct.TensorType` or `ct.ImageType` for each input of the source, in its order."""
    return [_input(item, shape) for item, shape in zip(plan.inputs, plan.defaults, strict=True)]


def output_types(outputs: tuple[Output, ...]) -> list[Any]:
    import coremltools as ct

    return [
        ct.ImageType(name=item.name, color_layout=ct.colorlayout[item.color])
        if item.type == "image"
        else ct.TensorType(name=item.name, dtype=getattr(np, item.dtype) if item.dtype else None)
        for item in outputs
    ]


def _input(item: Input, default: tuple[int, ...]) -> Any:
    import coremltools as ct

    shape = _shape(item, default)
    if item.type == "tensor":
        return ct.TensorType(name=item.name, shape=shape, dtype=getattr(np, item.dtype))
    bias = list(item.bias) or [0.0]
    return ct.ImageType(
        name=item.name,
        shape=shape,
        scale=item.scale,
        bias=bias[0] if default[1] == 1 else bias * (1 if len(bias) > 1 else default[1]),
        color_layout=ct.colorlayout[item.color],
    )


def _shape(item: Input, default: tuple[int, ...]) -> Any:
    import coremltools as ct

    if len(item.shapes) > 1:
        return ct.EnumeratedShapes(shapes=list(item.shapes), default=item.shapes[0])
    if not item.flexible:
        return default
    return ct.Shape(
        tuple(
            ct.RangeDim(lower_bound=axis[0], upper_bound=axis[1], default=size)
            if isinstance(axis, tuple)
            else axis
            for axis, size in zip(item.shapes[0], default, strict=True)
        )
    )
