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
    """A convolution: its output channels, and the names of the constants that hold its weight and bias."""

    name: str
    channels: int
    weight: str
    bias: str | None


def convolutions(package: Path) -> list[Convolution]:
    """All convolutions, in the program's order."""
    operations = _operations(ModelAsset.open(package).spec)
    constants = {item.outputs[0].name: item for item in operations if item.type == "const"}
    found = []
    for item in operations:
        if item.type != "conv":
            continue
        weight = item.inputs["weight"].arguments[0].name
        value = constants[weight].attributes["val"]
        found.append(
            Convolution(
                name=item.outputs[0].name,
                channels=value.type.tensorType.dimensions[0].constant.size,
                weight=weight,
                bias=item.inputs["bias"].arguments[0].name if "bias" in item.inputs else None,
            )
        )
    return found


def zero_channel(package: Path, out: Path, convolution: Convolution, channel: int) -> Path:
    """Zero one output channel: its weights, in place in weight.bin, and its bias, there or in the program."""

    def edit(spec: Any) -> None:
        constants = {item.outputs[0].name: item for item in _operations(spec) if item.type == "const"}
        for name in filter(None, (convolution.weight, convolution.bias)):
            value = constants[name].attributes["val"]
            if value.WhichOneof("value") == "blobFileValue":
                _zero_row(out / _WEIGHTS, value.blobFileValue.offset, convolution.channels, channel)
                continue
            tensor = value.immediateValue.tensor
            if tensor.WhichOneof("value") == "floats":
                tensor.floats.values[channel] = 0.0
            else:
                half = bytearray(tensor.bytes.values)
                half[2 * channel : 2 * channel + 2] = b"\0\0"
                tensor.bytes.values = bytes(half)

    return _edited(package, out, edit)


def weight_data(package: Path, convolution: Convolution) -> int:
    """Where the convolution's first weight lies in weight.bin, in bytes."""
    constants = {item.outputs[0].name: item for item in _operations(ModelAsset.open(package).spec)}
    record = constants[convolution.weight].attributes["val"].blobFileValue.offset
    return _record((package / _WEIGHTS).read_bytes(), record)[2]


def _record(data: bytes | bytearray, offset: int) -> tuple[int, int, int]:
    """(dtype code, bytes, start) of one blob."""
    mark, code, size, start, _ = struct.unpack_from("<IIQQQ", data, offset)
    assert mark == 0xDEADBEEF
    return code, size, start


def _zero_row(path: Path, record: int, channels: int, channel: int) -> None:
    data = bytearray(path.read_bytes())
    code, size, start = _record(data, record)
    values = np.frombuffer(data, _DTYPES[code], size // _DTYPES[code].itemsize, start)
    rows = values.reshape(channels, -1)
    assert np.any(rows[channel]), "the channel is zero already"
    rows[channel] = 0
    path.write_bytes(data)


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
