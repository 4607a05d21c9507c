"""A real, tiny ML Program, written by hand: which of red, green and blue a picture is. 1 ms to run."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from PIL import Image

from coremlops.model.proto import message_class

SIDE = 8
LABELS = ("red", "green", "blue")
COLOURS = {"red": (230, 30, 20), "green": (20, 220, 40), "blue": (10, 20, 240)}
_FLOAT32, _INT32, _STRING, _BOOL = 11, 23, 2, 1


def write_model(
    path: Path, *, gain: float = 0.02, extra_bytes: int = 200_000, labels: tuple[str, ...] = LABELS
) -> Path:
    """Write an `.mlpackage`. Another `gain` or `labels` is another model; `extra_bytes`: of weights."""
    model = message_class("Model")()
    model.specificationVersion = 7
    about = model.description
    image = about.input.add(name="image").type.imageType
    image.width = image.height = SIDE
    image.colorSpace = 20
    about.output.add(name="classLabel").type.stringType.SetInParent()
    about.output.add(name="classLabel_probs").type.dictionaryType.stringKeyType.SetInParent()
    about.predictedFeatureName, about.predictedProbabilitiesName = "classLabel", "classLabel_probs"
    preparation = {
        "name": "image",
        "width": SIDE,
        "height": SIDE,
        "color": "RGB",
        "scale": gain,
        "bias": [0.0, 0.0, 0.0],
        "image_option": "scaleFill",
    }
    about.metadata.userDefined["com.coremlops.preparation"] = json.dumps(preparation)
    model.mlProgram.version = 1
    function = model.mlProgram.functions["main"]
    entry = function.inputs.add(name="image")
    _tensor(entry.type, _FLOAT32, [1, 3, SIDE, SIDE])
    function.opset = "CoreML6"
    block = function.block_specializations["CoreML6"]
    block.outputs.extend(["classLabel", "classLabel_probs"])
    _const(block, "gain", _FLOAT32, [], "floats", [gain])
    _const(block, "axes", _INT32, [2], "ints", [2, 3])
    _const(block, "keep", _BOOL, [], "bools", [False])
    _const(block, "last", _INT32, [], "ints", [-1])
    _op(block, "mul", {"x": "image", "y": "gain"}, "scaled", [1, 3, SIDE, SIDE])
    _op(block, "reduce_mean", {"x": "scaled", "axes": "axes", "keep_dims": "keep"}, "mean", [1, 3])
    _op(block, "softmax", {"x": "mean", "axis": "last"}, "probabilities", [1, 3])
    _classify(block, labels)
    data = path / "Data" / "com.apple.CoreML"
    (data / "weights").mkdir(parents=True)
    (data / "model.mlmodel").write_bytes(model.SerializeToString())
    (data / "weights" / "weight.bin").write_bytes(random.Random(gain).randbytes(extra_bytes))
    items = {"a": {"path": "com.apple.CoreML/model.mlmodel"}, "b": {"path": "com.apple.CoreML/weights"}}
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": items, "rootModelIdentifier": "a"}
    (path / "Manifest.json").write_text(json.dumps(manifest))
    return path


def write_pictures(folder: Path) -> Path:
    """One picture of each colour, of another size than the model's input."""
    folder.mkdir(parents=True)
    for name, colour in COLOURS.items():
        Image.new("RGB", (20, 12), colour).save(folder / f"{name}.png")
    return folder


def _tensor(type_: Any, dtype: int, shape: list[int]) -> None:
    type_.tensorType.dataType = dtype
    type_.tensorType.rank = len(shape)
    for size in shape:
        type_.tensorType.dimensions.add().constant.size = size


def _named(operation: Any, name: str) -> None:
    attribute = operation.attributes["name"]
    _tensor(attribute.type, _STRING, [])
    attribute.immediateValue.tensor.strings.values.append(name)


def _const(block: Any, name: str, dtype: int, shape: list[int], field: str, values: list[Any]) -> None:
    operation = block.operations.add(type="const")
    _tensor(operation.outputs.add(name=name).type, dtype, shape)
    value = operation.attributes["val"]
    _tensor(value.type, dtype, shape)
    getattr(value.immediateValue.tensor, field).values.extend(values)
    _named(operation, name)


def _op(block: Any, type_: str, inputs: dict[str, str], output: str, shape: list[int]) -> None:
    operation = block.operations.add(type=type_)
    for key, name in inputs.items():
        operation.inputs[key].arguments.add(name=name)
    _tensor(operation.outputs.add(name=output).type, _FLOAT32, shape)
    _named(operation, output)


def _classify(block: Any, labels: tuple[str, ...]) -> None:
    operation = block.operations.add(type="classify")
    operation.inputs["probabilities"].arguments.add(name="probabilities")
    value = operation.inputs["classes"].arguments.add().value
    _tensor(value.type.listType.type, _STRING, [])
    value.type.listType.length.constant.size = len(labels)
    for label in labels:
        item = value.immediateValue.list.values.add()
        _tensor(item.type, _STRING, [])
        item.immediateValue.tensor.strings.values.append(label)
    _tensor(operation.outputs.add(name="classLabel").type, _STRING, [])
    probabilities = operation.outputs.add(name="classLabel_probs").type.dictionaryType
    _tensor(probabilities.keyType, _STRING, [])
    _tensor(probabilities.valueType, _FLOAT32, [])
    _named(operation, "classify")
