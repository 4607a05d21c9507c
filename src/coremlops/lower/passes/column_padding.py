"""The padding of a tall convolution over a column becomes a concatenation with zeros."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from coremlops.dialects.mil.graph import (
    NUMPY_DTYPES,
    Constant,
    Function,
    Immediate,
    NamedType,
    Operation,
    Ref,
    TensorType,
)

LEAST_HEIGHT = 8  # of a kernel: below, the copy costs what it saves
MAX_ZEROS = 1 << 20


def split_column_padding(function: Function) -> tuple[Function, bool]:
    """Give convolutions over [n, C, H, 1] with a kernel [K, 1] their padding as an op of its own.

    Before: any function. After: the same values for every name that was there; each such convolution takes a
    new value, x between zeros. Signals of one axis are written so in networks of sound. ONNX Runtime takes
    four times as long for such a convolution when it pads itself (CREPE: 882 against 180 us), and merges an
    ONNX Pad into it, so the zeros are concatenated.
    """
    block = function.block
    constants = {
        operation.outputs[0].name: operation.attributes["val"]
        for operation in block.operations
        if operation.type == "const" and operation.outputs and "val" in operation.attributes
    }
    types = {
        entry.name: entry.type
        for source in (function.inputs, *(operation.outputs for operation in block.operations))
        for entry in source
    }
    operations: list[Operation] = []
    for operation in block.operations:
        parts = _split(operation, types, constants) if operation.type == "conv" else None
        operations += parts or (operation,)
    if len(operations) == len(block.operations):
        return function, False
    return replace(function, block=replace(block, operations=tuple(operations))), True


def _split(
    conv: Operation, types: Mapping[str, Any], constants: Mapping[str, Constant]
) -> tuple[Operation, Operation] | None:
    def known(name: str) -> Any:
        bindings = conv.inputs.get(name, ())
        entry = bindings[0] if len(bindings) == 1 else None
        return constants.get(entry.name) if isinstance(entry, Ref) else entry

    x = conv.inputs.get("x", ())
    source = x[0] if len(x) == 1 else None
    weight, kind, pad = known("weight"), known("pad_type"), known("pad")
    if not isinstance(source, Ref) or weight is None or not conv.outputs:
        return None
    type_ = types.get(source.name)
    if not isinstance(type_, TensorType) or not isinstance(weight.type, TensorType):
        return None
    shape, kernel = type_.shape, weight.type.shape
    if shape is None or kernel is None or len(shape) != 4 or len(kernel) != 4 or None in (*shape, *kernel):
        return None
    if shape[3] != 1 or kernel[3] != 1 or (kernel[2] or 0) < LEAST_HEIGHT:
        return None
    if not isinstance(kind, Immediate) or kind.value != "custom" or not isinstance(pad, Immediate):
        return None
    amounts = np.asarray(pad.value)
    if amounts.dtype.kind not in "iu" or amounts.shape != (4,) or not amounts[:2].any():
        return None
    if (amounts < 0).any() or amounts[2:].any() or type_.dtype not in ("fp16", "fp32"):
        return None
    batch, channels, height = (int(size or 0) for size in shape[:3])
    before, after = (int(amount) for amount in amounts[:2])
    name = f"{conv.outputs[0].name}.padded"
    if name in types or batch * channels * (before + after) > MAX_ZEROS:
        return None
    values: tuple[Ref | Constant, ...] = (
        *([_zeros(type_.dtype, (batch, channels, before, 1))] if before else []),
        source,
        *([_zeros(type_.dtype, (batch, channels, after, 1))] if after else []),
    )
    padded = NamedType(name, TensorType(type_.dtype, (batch, channels, before + height + after, 1)))
    axis = Immediate(TensorType("int32"), np.array(2, np.int32))
    concat = Operation("concat", name, {"values": values, "axis": (axis,)}, (padded,), (), {})
    valid = Immediate(TensorType("string"), "valid")
    inputs = {**conv.inputs, "x": (Ref(name),), "pad_type": (valid,)}
    inputs.pop("pad")
    return concat, replace(conv, inputs=MappingProxyType(inputs))


def _zeros(dtype: str, shape: tuple[int, ...]) -> Immediate:
    return Immediate(TensorType(dtype, shape), np.zeros(shape, NUMPY_DTYPES[dtype]))
