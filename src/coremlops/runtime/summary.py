"""What a model is, as one JSON-able dictionary."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

from coremlops.dialects.mil import BlobRef, Program, read_program
from coremlops.dialects.neuralnetwork import Network, read_network
from coremlops.model import Feature, ImageFeature, ModelAsset
from coremlops.model.labels import pipeline_members


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Inputs, outputs, labels, targets, size, digest, ops and weights of a model; nothing is executed.

    Keys: `path`, `format`, `kind`, `digest`, `bytes`, `specification_version`, `minimum_targets`, `inputs`,
    `outputs`, `states`, `labels`, `classifier` (names of its two outputs, or None), `metadata`,
    `functions`, `ops` ({op or layer: count} of the default function or the neural network; empty for other
    models), `weights` ({"bytes", "dtypes": {dtype: bytes}} of the same) and `members` (of a pipeline, one
    dictionary each: `kind`, `inputs`, `outputs`, `labels`, `ops`, `weights`, `members`). Raises
    ModelFormatError and WeightsError.
    """
    asset = ModelAsset.open(path)
    description = asset.description
    label, probabilities = description.predicted_label, description.predicted_probabilities
    program = _program(asset)
    return {
        "path": str(asset.path),
        "format": asset.package.kind,
        "kind": asset.kind,
        "digest": asset.digest,
        "bytes": asset.package.bytes,
        "specification_version": description.specification_version,
        "minimum_targets": description.minimum_targets,
        "inputs": [_feature(feature) for feature in description.inputs],
        "outputs": [_feature(feature) for feature in description.outputs],
        "states": [_feature(feature) for feature in description.states],
        "labels": list(description.labels),
        "classifier": {"label": label, "probabilities": probabilities} if description.labels else None,
        "metadata": description.metadata,
        "functions": sorted(program.functions) if program else [],
        **_inside(asset, program),
    }


def _program(asset: ModelAsset) -> Program | None:
    if asset.kind != "mlProgram":
        return None
    return read_program(asset.spec.mlProgram, where=str(asset.path))


def _inside(asset: ModelAsset, program: Program | None) -> dict[str, Any]:
    """What a model is made of: `ops`, `weights`, `members`."""
    ops, weights = {}, {}
    if program is not None:
        function = program.functions.get(asset.description.default_function or "main")
        ops, weights = function.histogram() if function else {}, _of_program(asset, program)
    elif (asset.kind or "").startswith("neuralNetwork"):
        network = read_network(getattr(asset.spec, asset.kind), where=str(asset.path))
        ops, weights = network.histogram(), _of_network(network)
    return {
        "ops": ops,
        "weights": {"bytes": sum(weights.values()), "dtypes": dict(sorted(weights.items()))},
        "members": [_member(replace(asset, spec=spec)) for spec in pipeline_members(asset.spec)],
    }


def _member(asset: ModelAsset) -> dict[str, Any]:
    description = asset.description
    return {
        "kind": asset.kind,
        "inputs": [_feature(feature) for feature in description.inputs],
        "outputs": [_feature(feature) for feature in description.outputs],
        "labels": list(description.labels),
        **_inside(asset, _program(asset)),
    }


def _feature(feature: Feature) -> dict[str, Any]:
    """One feature; `type` names its kind, and what says nothing is left out."""
    entry: dict[str, Any] = {"name": feature.name, "type": feature.type}
    always = {"dtype", "shape", "key", "element"}
    if isinstance(feature, ImageFeature):
        always = {"width", "height", "color"}
    for field, value in asdict(feature).items():
        key = "color" if field == "colour" else field  # as `model.json`, golden sets and the options say
        if key != "name" and (key in always or value not in ("", (), None, False)):
            entry[key] = value
    return entry


def _of_program(asset: ModelAsset, program: Program) -> dict[str, int]:
    """Bytes of the blobs that the program refers to, by dtype; a blob that functions share counts once."""
    records = {}
    for function in program.functions.values():
        for operation in function.block.walk():
            inputs = (entry for bindings in operation.inputs.values() for entry in bindings)
            for constant in (*operation.attributes.values(), *inputs):
                if isinstance(constant, BlobRef):
                    key = (constant.file, constant.offset)
                    records[key] = asset.blobs(constant.file).record(constant.offset)
    dtypes: Counter[str] = Counter()
    for record in records.values():
        dtypes[record.dtype] += record.bytes
    return dict(dtypes)


def _of_network(network: Network) -> dict[str, int]:
    """Bytes of a network's weights, by what is stored: quantized ones are unsigned integers."""
    dtypes: Counter[str] = Counter()
    for weights in network.weights():
        bits = int(weights.message.quantization.numberOfBits)
        names = {"float32": "fp32", "float16": "fp16", "linear": f"uint{bits}", "lookup": f"uint{bits}"}
        dtypes[names.get(weights.encoding, weights.encoding)] += len(weights.bytes)
    return {dtype: size for dtype, size in dtypes.items() if size}
