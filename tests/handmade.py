"""Core ML models made by hand from protobuf messages: quick, and free to be wrong."""

from __future__ import annotations

import json
import struct
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.model.proto import message_class

BLOB_CODES = {
    "float16": 1,
    "float32": 2,
    "uint8": 3,
    "int8": 4,
    "int16": 6,
    "uint16": 7,
    "int32": 14,
    "uint32": 15,
}
MIL_CODES = {"fp16": 10, "fp32": 11, "int32": 23, "bool": 1, "string": 2}


def blob_bytes(arrays: Sequence[np.ndarray[Any, Any]]) -> tuple[bytes, list[int]]:
    """A weight file with these arrays, and the offset of each one's record."""
    data = bytearray(struct.pack("<II", len(arrays), 2).ljust(64, b"\0"))
    offsets = []
    for array in arrays:
        offsets.append(len(data))
        record = struct.pack(
            "<IIQQQ", 0xDEADBEEF, BLOB_CODES[str(array.dtype)], array.nbytes, len(data) + 64, 0
        )
        data += record.ljust(64, b"\0") + array.tobytes()
        data += bytes(-len(data) % 64)
    return bytes(data), offsets


def write_package(path: Path, spec: Any, weights: bytes | None = None) -> Path:
    """An `.mlpackage` with random item identifiers, as coremltools writes it."""
    data = path / "Data" / "com.apple.CoreML"
    data.mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(spec.SerializeToString())
    root = str(uuid.uuid4())
    items = {
        root: {
            "author": "com.apple.CoreML",
            "description": "",
            "name": "model.mlmodel",
            "path": "com.apple.CoreML/model.mlmodel",
        }
    }
    if weights is not None:
        (data / "weights").mkdir()
        (data / "weights" / "weight.bin").write_bytes(weights)
        items[str(uuid.uuid4())] = {
            "author": "com.apple.CoreML",
            "description": "",
            "name": "weights",
            "path": "com.apple.CoreML/weights",
        }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": root}
    (path / "Manifest.json").write_text(json.dumps(manifest, indent=4))
    return path


def array_feature(message: Any, name: str, shape: Sequence[int], dtype: int = 65568) -> None:
    """Fill one FeatureDescription with a float32 (65568) array."""
    message.name = name
    message.type.multiArrayType.shape.extend(shape)
    message.type.multiArrayType.dataType = dtype


def tensor_type(message: Any, dtype: str, shape: Sequence[int]) -> None:
    """Fill one MIL ValueType."""
    message.tensorType.dataType = MIL_CODES[dtype]
    message.tensorType.rank = len(shape)
    for size in shape:
        message.tensorType.dimensions.add().constant.size = size


def add_operation(
    block: Any, kind: str, output: str, shape: Sequence[int], inputs: dict[str, str], dtype: str = "fp32"
) -> Any:
    """Append an operation with one result whose inputs are names."""
    operation = block.operations.add(type=kind)
    for name, value in inputs.items():
        operation.inputs[name].arguments.add().name = value
    result = operation.outputs.add(name=output)
    tensor_type(result.type, dtype, shape)
    return operation


def add_blob_const(block: Any, name: str, shape: Sequence[int], offset: int, dtype: str = "fp32") -> None:
    """Append a const operation whose value lies in the weight file."""
    operation = add_operation(block, "const", name, shape, {}, dtype)
    value = operation.attributes["val"]
    tensor_type(value.type, dtype, shape)
    value.blobFileValue.fileName = "@model_path/weights/weight.bin"
    value.blobFileValue.offset = offset


def program_spec(version: int = 7) -> tuple[Any, Any]:
    """A model with a float32 input `x` [2, 3], an output `y` [2, 3] and an empty block: (spec, block)."""
    spec = message_class("Model")(specificationVersion=version)
    array_feature(spec.description.input.add(), "x", (2, 3))
    array_feature(spec.description.output.add(), "y", (2, 3))
    function = spec.mlProgram.functions["main"]
    function.opset = "CoreML6"
    entry = function.inputs.add(name="x")
    tensor_type(entry.type, "fp32", (2, 3))
    block = function.block_specializations["CoreML6"]
    block.outputs.append("y")
    return spec, block


def adder(path: Path) -> Path:
    """A package that adds weights to its input: y = x + [[0, 1, 2], [3, 4, 5]]."""
    weights, offsets = blob_bytes([np.arange(6, dtype=np.float32)])
    spec, block = program_spec()
    add_blob_const(block, "w", (2, 3), offsets[0])
    add_operation(block, "add", "y", (2, 3), {"x": "x", "y": "w"})
    return write_package(path, spec, weights)
