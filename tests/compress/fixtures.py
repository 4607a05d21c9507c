"""A small network that has one weight of each sort, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from coremlops.model.proto import message_class
from tests.handmade import (
    add_blob_const,
    add_operation,
    array_feature,
    blob_bytes,
    tensor_type,
    write_package,
)

Array = np.ndarray[Any, Any]
OPSETS = {6: "CoreML5", 7: "CoreML6", 8: "CoreML7", 9: "CoreML8"}


def weights(seed: int = 0) -> dict[str, Array]:
    """`first` [64, 48], `second` [32, 64] and a bias [64], fp16 numbers as float16."""
    random = np.random.default_rng(seed)
    return {
        "first": random.laplace(0, 0.05, (64, 48)).astype(np.float16),
        "bias": random.normal(0, 0.1, 64).astype(np.float16),
        "second": random.normal(0, 0.05, (48, 64)).astype(np.float16),
    }


def network(
    path: Path, *, version: int = 9, values: dict[str, Array] | None = None, functions: int = 1
) -> Path:
    """y = second @ relu(first @ x + bias), x [1, 48] and y [1, 48] in fp16."""
    held = values or weights()
    data, offsets = blob_bytes(list(held.values()))
    spec = message_class("Model")(specificationVersion=version)
    array_feature(spec.description.input.add(), "x", (1, 48))
    array_feature(spec.description.output.add(), "y", (1, 48))
    spec.mlProgram.version = 1
    spec.description.metadata.author = "somebody"
    spec.description.metadata.userDefined["com.coremlops.data"] = "{}"
    for name in ["main", "other", "third"][:functions]:
        function = spec.mlProgram.functions[name]
        function.opset = OPSETS[version]
        tensor_type(function.inputs.add(name="x").type, "fp32", (1, 48))
        block = function.block_specializations[OPSETS[version]]
        block.outputs.append("y")
        for (key, array), offset in zip(held.items(), offsets, strict=True):
            add_blob_const(block, key, array.shape, offset, dtype="fp16")
        _cast(block, "x16", "fp16", (1, 48), "x")
        add_operation(
            block, "linear", "hidden", (1, 64), {"x": "x16", "weight": "first", "bias": "bias"}, "fp16"
        )
        add_operation(block, "relu", "positive", (1, 64), {"x": "hidden"}, "fp16")
        add_operation(block, "linear", "y16", (1, 48), {"x": "positive", "weight": "second"}, "fp16")
        _cast(block, "y", "fp32", (1, 48), "y16")
    if functions > 1:
        spec.description.defaultFunctionName = "main"
        for name in ["main", "other", "third"][:functions]:
            described = spec.description.functions.add(name=name)
            described.input.add().CopyFrom(spec.description.input[0])
            described.output.add().CopyFrom(spec.description.output[0])
        del spec.description.input[:], spec.description.output[:]
    return write_package(path, spec, data)


def _cast(block: Any, output: str, dtype: str, shape: tuple[int, ...], source: str) -> None:
    operation = add_operation(block, "cast", output, shape, {"x": source}, dtype)
    value = operation.inputs["dtype"].arguments.add().value
    tensor_type(value.type, "string", ())
    value.immediateValue.tensor.strings.values.append(dtype)
