"""The weights of a Core ML program that can be compressed, as the file holds them."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np

from coremlops.errors import ModelError, ModelFormatError, WeightsError
from coremlops.model import ModelAsset

Array: TypeAlias = np.ndarray[Any, Any]

DTYPES = {10: "fp16", 11: "fp32"}  # MIL's codes
MAX_DEPTH = 32  # of nested blocks


@dataclass(frozen=True, slots=True)
class Weight:
    """One constant tensor of fp16 or fp32 in a weight file.

    `name`: of the value that it makes; in a model of several functions, `function/name`. `bytes`: as it is
    stored. `op_type`, `input`: the first operation that takes it, and as what. `output_axis`, `input_axis`:
    the axes of output and input channels, None where the operations that take it do not agree.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bytes: int
    op_type: str
    input: str
    output_axis: int | None = 0
    input_axis: int | None = 1

    @property
    def size(self) -> int:
        """How many values it has."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Found:
    """A weight and where it is: its function, its value's name there, and the const operation's message."""

    weight: Weight
    function: str
    value: str
    operation: Any = field(repr=False)

    @property
    def place(self) -> tuple[str, int]:
        """Its file and the offset of its record there: equal for constants that share their values."""
        value = self.operation.attributes["val"].blobFileValue
        return value.fileName, value.offset


def weights_of(model: str | os.PathLike[str] | ModelAsset) -> tuple[Weight, ...]:
    """The weights that `compress` can compress, in the program's order.

    Constants of one axis (biases, norms) are none: the system does not take them compressed. Raises
    ModelFormatError, WeightsError, and ModelError for a model that is no ML Program.
    """
    asset = model if isinstance(model, ModelAsset) else ModelAsset.open(model)
    return tuple(found.weight for found in find_weights(asset))


def already_compressed(asset: ModelAsset) -> dict[str, str]:
    """Weights that the model holds compressed, each with the op that makes it: they stay as they are.

    Raises ModelFormatError, and ModelError for a model that is no ML Program.
    """
    found: dict[str, str] = {}
    for _, prefix, blocks in _functions(asset):
        for block in blocks:
            for operation in block.operations:
                if operation.type.startswith("constexpr_"):
                    found |= {prefix + output.name: operation.type for output in operation.outputs}
    return found


def read_weight(asset: ModelAsset, weight: Weight) -> Array:
    """The values of a weight, in its shape. Raises WeightsError."""
    for found in find_weights(asset):
        if found.weight.name == weight.name:
            return values_of(asset, found)
    raise ModelError(f"{asset.path}: no weight is called {weight.name!r}")


def values_of(asset: ModelAsset, found: Found) -> Array:
    """The values of a weight that was found. Raises WeightsError."""
    file, offset = found.place
    flat = asset.blobs(file).read(offset)
    if flat.size != found.weight.size:
        raise WeightsError(
            f"{asset.path}: {found.weight.name} has the shape {list(found.weight.shape)}, and {flat.size} "
            f"values are stored"
        )
    return flat.reshape(found.weight.shape)


def find_weights(asset: ModelAsset) -> tuple[Found, ...]:
    """What `weights_of` lists, with the messages to edit."""
    found: list[Found] = []
    for name, prefix, blocks in _functions(asset):
        uses = _uses(blocks)
        for block in blocks:
            for operation in block.operations:
                weight = _weight(asset, operation, prefix, uses)
                if weight is not None:
                    found.append(Found(weight, name, operation.outputs[0].name, operation))
    return tuple(found)


def _functions(asset: ModelAsset) -> Iterator[tuple[str, str, list[Any]]]:
    """Each function's name, what stands before the names of its values, and its blocks."""
    if asset.kind != "mlProgram":
        raise ModelError(
            f"{asset.path}: an ML Program expected, got a model of the kind {asset.kind}",
            hint="convert its source as an .mlpackage; coremltools' quantize_weights takes the old format"
            if asset.kind.startswith("neuralNetwork")
            else "models of that kind hold no weights that can be compressed here",
        )
    functions = asset.spec.mlProgram.functions
    for name in sorted(functions):
        function = functions[name]
        if function.opset not in function.block_specializations:
            raise ModelFormatError(f"{asset.path}: function {name!r} has no block for {function.opset!r}")
        prefix = f"{name}/" if len(functions) > 1 else ""
        yield name, prefix, list(_blocks(function.block_specializations[function.opset], 0))


def _blocks(block: Any, depth: int) -> Iterator[Any]:
    if depth > MAX_DEPTH:
        raise ModelFormatError(f"blocks are nested deeper than {MAX_DEPTH}")
    yield block
    for operation in block.operations:
        for inner in operation.blocks:
            yield from _blocks(inner, depth + 1)


@dataclass(slots=True)
class _Uses:
    """Who takes which value, as (operation, input's name); what blocks give back; constants of one bool."""

    takers: dict[str, list[tuple[Any, str]]]
    returned: set[str]
    flags: dict[str, bool]


def _uses(blocks: list[Any]) -> _Uses:
    uses = _Uses({}, set(), {})
    for block in blocks:
        uses.returned.update(block.outputs)
        for operation in block.operations:
            for name in operation.inputs:
                for argument in operation.inputs[name].arguments:
                    if argument.WhichOneof("binding") == "name":
                        uses.takers.setdefault(argument.name, []).append((operation, name))
            if operation.type == "const" and operation.outputs:
                value = operation.attributes["val"].immediateValue.tensor.bools.values
                if len(value) == 1:
                    uses.flags[operation.outputs[0].name] = value[0]
    return uses


def _weight(asset: ModelAsset, operation: Any, prefix: str, uses: _Uses) -> Weight | None:
    """The weight that an operation is, or None."""
    if operation.type != "const" or len(operation.outputs) != 1 or "val" not in operation.attributes:
        return None
    value = operation.attributes["val"]
    tensor = value.type.tensorType
    if value.WhichOneof("value") != "blobFileValue" or tensor.dataType not in DTYPES or tensor.rank < 2:
        return None
    name = operation.outputs[0].name
    takers = uses.takers.get(name, [])
    # What a block gives back or another compressed weight is made of must stay a constant.
    if name in uses.returned or not takers or any(taker.type.startswith("constexpr_") for taker, _ in takers):
        return None
    shape = tuple(axis.constant.size for axis in tensor.dimensions)
    if not math.prod(shape):
        return None
    axes = [_axes(taker, name_, len(shape), uses) for taker, name_ in takers]
    outputs, inputs = {axis for axis, _ in axes}, {axis for _, axis in axes}
    record = asset.blobs(value.blobFileValue.fileName).record(value.blobFileValue.offset)
    return Weight(
        name=prefix + name,
        shape=shape,
        dtype=DTYPES[tensor.dataType],
        bytes=record.bytes,
        op_type=takers[0][0].type,
        input=takers[0][1],
        output_axis=outputs.pop() if len(outputs) == 1 else None,
        input_axis=inputs.pop() if len(inputs) == 1 else None,
    )


def _axes(taker: Any, name: str, rank: int, uses: _Uses) -> tuple[int, int]:
    """The axes of output and input channels that an operation sees in a weight."""
    if taker.type == "conv_transpose":
        return 1, 0
    if taker.type == "matmul" and name in ("x", "y"):
        turned = _flag(taker, f"transpose_{name}", uses)
        last_is_output = turned if name == "x" else not turned
        return (rank - 1, rank - 2) if last_is_output else (rank - 2, rank - 1)
    return 0, 1


def _flag(operation: Any, name: str, uses: _Uses) -> bool:
    if name not in operation.inputs or not operation.inputs[name].arguments:
        return False
    argument = operation.inputs[name].arguments[0]
    if argument.WhichOneof("binding") == "name":
        return uses.flags.get(argument.name, False)
    values = argument.value.immediateValue.tensor.bools.values
    return bool(values and values[0])
