"""A zero `pad` before a `conv` becomes the convolution's own padding."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from coremlops.dialects.mil.graph import (
    Block,
    Constant,
    Function,
    Immediate,
    Operation,
    Ref,
    TensorType,
)


def merge_pad_into_conv(function: Function) -> tuple[Function, bool]:
    """Merge each constant zero padding of spatial axes into the one convolution that uses it.

    Before: any function. After: the same values for every name that remains; the merged `pad` ops are gone.
    Converters write such pairs for PyTorch's asymmetric `same` padding, and each costs a copy of the whole
    tensor.
    """
    block, changed = _merge(function.block)
    return (replace(function, block=block), True) if changed else (function, False)


def _merge(block: Block) -> tuple[Block, bool]:
    constants = {
        operation.outputs[0].name: operation.attributes["val"]
        for operation in block.operations
        if operation.type == "const" and operation.outputs and "val" in operation.attributes
    }
    uses = block.uses()
    pads = {
        operation.outputs[0].name: operation
        for operation in block.operations
        if operation.type == "pad" and operation.outputs and uses[operation.outputs[0].name] == 1
    }
    merged: set[str] = set()
    operations: list[Operation] = []
    for operation in block.operations:
        pad = pads.get(_name(operation.inputs.get("x"))) if operation.type == "conv" else None
        padded = _padded(operation, pad, constants) if pad else None
        if pad and padded:
            merged.add(pad.outputs[0].name)
        operations.append(padded or operation)
    if not merged:
        return block, False
    kept = (entry for entry in operations if not (entry.outputs and entry.outputs[0].name in merged))
    return replace(block, operations=tuple(kept)), True


def _padded(conv: Operation, pad: Operation, constants: Mapping[str, Constant]) -> Operation | None:
    """`conv` with the padding of `pad` added to its own; None when they cannot be merged."""

    def known(operation: Operation, name: str, default: Any) -> Any:
        bindings = operation.inputs.get(name)
        if not bindings:
            return default
        entry = bindings[0]
        constant = constants.get(entry.name) if isinstance(entry, Ref) else entry
        return constant.value if isinstance(constant, Immediate) else None

    type_ = conv.outputs[0].type if conv.outputs else None
    amounts = known(pad, "pad", None)
    fill = known(pad, "constant_val", np.float32(0))
    kind = known(conv, "pad_type", "valid")
    mode = known(pad, "mode", "constant")
    # A program that makes no sense is left as it is: the rule of `pad` says what is wrong with it.
    if not isinstance(type_, TensorType) or type_.rank is None or "x" not in pad.inputs:
        return None
    if not isinstance(amounts, np.ndarray) or amounts.ndim != 1 or amounts.dtype.kind not in "iu":
        return None
    if not isinstance(mode, str) or mode != "constant" or fill is None or np.any(fill != 0):
        return None
    spatial = 2 * (type_.rank - 2)
    leading, own = amounts[:-spatial], amounts[-spatial:]
    if len(own) != spatial or np.any(leading != 0):
        return None
    if not isinstance(kind, str) or kind not in ("valid", "custom"):
        return None
    before = (
        known(conv, "pad", np.zeros(spatial, np.int32)) if kind == "custom" else np.zeros(spatial, np.int32)
    )
    if not isinstance(before, np.ndarray) or before.shape != own.shape:
        return None
    total = Immediate(TensorType("int32", (spatial,)), (own + before).astype(np.int32))
    inputs = {
        **conv.inputs,
        "x": pad.inputs["x"],
        "pad": (total,),
        "pad_type": (Immediate(TensorType("string"), "custom"),),
    }
    return replace(conv, inputs=MappingProxyType(inputs))


def _name(bindings: tuple[Ref | Constant, ...] | None) -> str:
    return bindings[0].name if bindings and isinstance(bindings[0], Ref) else ""
