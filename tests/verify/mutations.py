"""Faults put into a Core ML package on purpose, in a copy: what a proof must catch."""

from __future__ import annotations

import shutil
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.model import ModelAsset

_SPEC = Path("Data", "com.apple.CoreML", "model.mlmodel")
_WEIGHTS = Path("Data", "com.apple.CoreML", "weights", "weight.bin")
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f2"), 2: np.dtype("<f4")}


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution with its weight and bias in weight.bin: record offsets, and output channels."""

    name: str
    channels: int
    weight: int
    bias: int | None


def convolutions(package: Path) -> list[Convolution]:
    """All convolutions, in the program's order."""
    operations = _operations(ModelAsset.open(package).spec)
    constants = {item.outputs[0].name: item for item in operations if item.type == "const"}
    found = []
    for item in operations:
        if item.type != "conv":
            continue
        weight = constants[item.inputs["weight"].arguments[0].name].attributes["val"]
        bias = item.inputs["bias"].arguments[0].name if "bias" in item.inputs else ""
        found.append(
            Convolution(
                name=item.outputs[0].name,
                channels=weight.type.tensorType.dimensions[0].constant.size,
                weight=weight.blobFileValue.offset,
                bias=constants[bias].attributes["val"].blobFileValue.offset if bias else None,
            )
        )
    return found


def zero_channel(package: Path, out: Path, convolution: Convolution, channel: int) -> Path:
    """Zero one output channel: its weights and its bias, in place in weight.bin."""
    shutil.copytree(package, out)
    path = out / _WEIGHTS
    data = bytearray(path.read_bytes())
    for record in (convolution.weight, convolution.bias):
        if record is None:
            continue
        mark, code, size, start, _ = struct.unpack_from("<IIQQQ", data, record)
        assert mark == 0xDEADBEEF
        values = np.frombuffer(data, _DTYPES[code], size // _DTYPES[code].itemsize, start)
        rows = values.reshape(convolution.channels, -1)
        assert np.any(rows[channel]), "the channel is zero already"
        rows[channel] = 0
    path.write_bytes(data)
    return out


def drop_scale(package: Path, out: Path) -> Path:
    """Set the factor that the image's pixels are multiplied with to 1."""

    def edit(spec: Any) -> None:
        operations = _operations(spec)
        image = spec.description.input[0].name
        scaled = next(
            item for item in operations if item.type == "mul" and item.inputs["x"].arguments[0].name == image
        )
        name = scaled.inputs["y"].arguments[0].name
        constant = next(item for item in operations if item.outputs[0].name == name)
        values = constant.attributes["val"].immediateValue.tensor.floats.values
        assert values[0] != 1
        values[0] = 1.0

    return _edited(package, out, edit)


def swap_labels(package: Path, out: Path) -> Path:
    """Exchange the first two labels of the classifier."""

    def edit(spec: Any) -> None:
        last = _operations(spec)[-1]
        assert last.type == "classify"
        entries = last.inputs["classes"].arguments[0].value.immediateValue.list.values
        first, second = (entry.immediateValue.tensor.strings for entry in entries[:2])
        first.values[0], second.values[0] = second.values[0], first.values[0]

    return _edited(package, out, edit)


def without_preparation(package: Path, out: Path) -> Path:
    """Remove the metadata that says how pictures are prepared."""

    def edit(spec: Any) -> None:
        del spec.description.metadata.userDefined["com.coremlops.preparation"]

    return _edited(package, out, edit)


def _edited(package: Path, out: Path, edit: Any) -> Path:
    shutil.copytree(package, out)
    spec = ModelAsset.open(package).spec
    edit(spec)
    (out / _SPEC).write_bytes(spec.SerializeToString(deterministic=True))
    return out


def _operations(spec: Any) -> Any:
    function = spec.mlProgram.functions["main"]
    return function.block_specializations[function.opset].operations
