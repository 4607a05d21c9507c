"""Classic Core ML models made by hand from protobuf messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import coremlops
from coremlops.model.proto import message_class
from coremlops.runtime import Model

DTYPES = {"float32": 65568, "float64": 65600, "int32": 131104, "float16": 65552}


def spec(
    inputs: Mapping[str, Any], outputs: Mapping[str, Any], label: str = "", probabilities: str = ""
) -> Any:
    """A model without a kind. A feature is `double`, `int64`, `string`, `dict:string`, `dict:int64`,
    `list:string`, `list:int64`, or a shape: doubles, or ("float32", 2, 3).
    """
    model = message_class("Model")(specificationVersion=4)
    for name, kind in inputs.items():
        feature(model.description.input.add(name=name), kind)
    for name, kind in outputs.items():
        feature(model.description.output.add(name=name), kind)
    model.description.predictedFeatureName = label
    model.description.predictedProbabilitiesName = probabilities
    return model


def feature(message: Any, kind: Any) -> None:
    """Fill in a feature's type."""
    if not isinstance(kind, str):
        dtype, *shape = kind if kind and isinstance(kind[0], str) else ("float64", *kind)
        message.type.multiArrayType.dataType = DTYPES[dtype]
        message.type.multiArrayType.shape.extend(shape)
    elif kind.startswith("dict:"):
        getattr(message.type.dictionaryType, f"{kind[5:]}KeyType").SetInParent()
    elif kind.startswith("list:"):
        getattr(message.type.sequenceType, f"{kind[5:]}Type").SetInParent()
    else:
        getattr(message.type, f"{kind}Type").SetInParent()


def regressor(inputs: Mapping[str, Any], output: Any = "double") -> Any:
    """A model that predicts `y`."""
    return spec(inputs, {"y": output}, "y")


def classifier(
    inputs: Mapping[str, Any], labels: Sequence[Any], message: str, *, probable: bool = True
) -> Any:
    """A model that predicts `label` and, when `probable`, `p` by label."""
    kind = "string" if isinstance(labels[0], str) else "int64"
    outputs = {"label": kind, **({"p": f"dict:{kind}"} if probable else {})}
    model = spec(inputs, outputs, "label", "p" if probable else "")
    getattr(getattr(model, message), f"{kind}ClassLabels").vector.extend(labels)
    return model


def save(model: Any, folder: Path, name: str = "model.mlmodel") -> Path:
    """Write a model to a file."""
    path = folder / name
    path.write_bytes(model.SerializeToString())
    return path


def load(model: Any, folder: Path) -> Model:
    """Write a model to a file and load it."""
    return coremlops.load(save(model, folder))


def predict(model: Any, folder: Path, rows: np.ndarray[Any, Any], name: str = "x") -> list[dict[str, Any]]:
    """What a model of one array input gives for each row."""
    loaded = load(model, folder)
    return [loaded.predict({name: row}) for row in rows]
