"""A Core ML model as an ONNX file for other engines: names, metadata and dynamic axes stay."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.errors import ModelError, UsageError
from coremlops.lower.onnx_file import MAX_EMBEDDED_BYTES, weight_bytes, write_onnx
from coremlops.model import ImageFeature
from coremlops.model.writing import check_writable

if TYPE_CHECKING:
    from coremlops.runtime.model import Model

_PREFIX = "com.coremlops."


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: `files` (the model first, then its weights, if they lie beside it) and its interface.

    `inputs`, `outputs`: name -> `[dtype, axis, ...]` in ONNX's words, a name for an axis of any size.
    """

    files: tuple[Path, ...]
    bytes: int
    opset: int
    inputs: dict[str, list[str | int]]
    outputs: dict[str, list[str | int]]


def export_onnx(model: Model, path: str | os.PathLike[str], *, external_data: bool = False) -> Exported:
    """Write the ONNX model that `model` runs as to `path`; an older file there is replaced.

    The weights go inside, or to `<path>.data` beside it when there are 2 GB of them or `external_data` says
    so. What is written has passed ONNX's checker with full shape inference. Metadata: the model's own keys,
    `author`, `license`, `version`, and under `com.coremlops.` what ONNX has no place for: `digest`,
    `precision`, `classifier` (labels, in the order of the probabilities), `images` (colours of each picture).

    Raises UnsupportedOpsError for a model that is no single ONNX graph, UsageError for a path that cannot be
    written, ModelError when the checker refuses the result.
    """
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise UsageError(f"{target}: expected a file to write, in a folder that is there")
    check_writable(target)
    lowered = model.lowered
    annotated = annotate(lowered.model, model)
    external = external_data or weight_bytes(lowered) >= MAX_EMBEDDED_BYTES
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as folder:
        made = write_onnx(annotated, lowered.weights, Path(folder) / target.name, external=external)
        _check(made[0])
        files = tuple(target.with_name(file.name) for file in made)
        for file, final in reversed(
            list(zip(made, files, strict=True))
        ):  # the model when its weights are there
            os.replace(file, final)  # noqa: PTH105
    return Exported(
        files,
        sum(file.stat().st_size for file in files),
        annotated.opset_import[0].version,
        {entry.name: _type_of(entry) for entry in annotated.graph.input},
        {entry.name: _type_of(entry) for entry in annotated.graph.output},
    )


def annotate(bare: Any, model: Model) -> Any:
    """A copy of an ONNX model with the Core ML model's metadata, and a name for each axis of any size."""
    description = model.description
    whole = type(bare)()
    whole.CopyFrom(bare)
    whole.doc_string = description.about
    props = {"author": description.author, "license": description.license, "version": description.version}
    props = {name: text for name, text in props.items() if text} | dict(description.user_defined)
    props |= {_PREFIX + name: text for name, text in _ours(model)}
    for key, value in sorted(props.items()):
        whole.metadata_props.add(key=key, value=value)
    about = {feature.name: feature.about for feature in (*description.inputs, *description.outputs)}
    for entry in (*whole.graph.input, *whole.graph.output):
        entry.doc_string = about.get(entry.name, "")
        for number, axis in enumerate(entry.type.tensor_type.shape.dim):
            if axis.WhichOneof("value") is None:
                axis.dim_param = f"{entry.name}_{number}"
    return whole


def _ours(model: Model) -> Iterator[tuple[str, str]]:
    yield "digest", model.digest
    yield "precision", model.precision
    yield "function", model.function_name
    classifier = model.lowered.classifier
    if classifier is not None:
        found = {
            "label": classifier.label,
            "probabilities": classifier.probabilities,
            "tensor": classifier.source,
            "labels": list(classifier.labels),
        }
        yield "classifier", json.dumps(found, ensure_ascii=False)
    images = {
        feature.name: {"color": feature.colour, "width": feature.width, "height": feature.height}
        for feature in (*model.description.inputs, *model.description.outputs)
        if isinstance(feature, ImageFeature)
    }
    if images:  # tensors of pixels 0 to 255, [1, channels, height, width]
        yield "images", json.dumps(images, sort_keys=True)


def _type_of(entry: Any) -> list[str | int]:
    import onnx

    tensor = entry.type.tensor_type
    dtype = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return [dtype, *(axis.dim_param or axis.dim_value for axis in tensor.shape.dim)]


def _check(path: Path) -> None:
    import onnx

    try:
        onnx.checker.check_model(str(path), full_check=True)
    except Exception as error:  # ValidationError, InferenceError, and what its C++ lets out
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"ONNX's checker refuses what this model became: {line}", hint="please report this model"
        ) from error
