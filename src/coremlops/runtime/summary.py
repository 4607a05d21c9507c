"""What a model is, as one JSON-able dictionary."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from coremlops.dialects.mil import BlobRef, Program, read_program
from coremlops.model import Feature, ImageFeature, ModelAsset


def describe(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Inputs, outputs, labels, targets, size, digest, ops and weights of a model; nothing is executed.

    Keys: `path`, `format`, `kind`, `digest`, `bytes`, `specification_version`, `minimum_targets`, `inputs`,
    `outputs`, `states`, `labels`, `classifier` (names of its two outputs, or None), `metadata`,
    `functions`, `ops` ({op: count} of the default function; empty for what is no ML Program) and `weights`
    ({"bytes", "dtypes": {dtype: bytes}}). Raises ModelFormatError and WeightsError.
    """
    asset = ModelAsset.open(path)
    description = asset.description
    program = read_program(asset.spec.mlProgram, where=str(asset.path)) if asset.kind == "mlProgram" else None
    function = program.functions.get(description.default_function or "main") if program else None
    label, probabilities = description.predicted_label, description.predicted_probabilities
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
        "metadata": {
            "author": description.author,
            "license": description.license,
            "version": description.version,
            "about": description.about,
            "user_defined": dict(description.user_defined),
        },
        "functions": sorted(program.functions) if program else [],
        "ops": function.histogram() if function else {},
        "weights": _weights(asset, program),
    }


def _feature(feature: Feature) -> dict[str, Any]:
    """One feature; `type` names its kind, and what says nothing is left out."""
    kinds = {"ImageFeature": "image", "ArrayFeature": "array", "ScalarFeature": "scalar"}
    name = type(feature).__name__
    entry = {"name": feature.name, "type": kinds.get(name, name.removesuffix("Feature").lower())}
    always = {"dtype", "shape", "key", "element"}
    if isinstance(feature, ImageFeature):
        always = {"width", "height", "color"}
    for field, value in asdict(feature).items():
        key = "color" if field == "colour" else field  # as `model.json`, golden sets and the options say
        if key != "name" and (key in always or value not in ("", (), None, False)):
            entry[key] = value
    return entry


def _weights(asset: ModelAsset, program: Program | None) -> dict[str, Any]:
    """Bytes of the blobs that the program refers to, by dtype; a blob that functions share counts once."""
    records = {}
    for function in program.functions.values() if program else ():
        for operation in function.block.walk():
            inputs = (entry for bindings in operation.inputs.values() for entry in bindings)
            for constant in (*operation.attributes.values(), *inputs):
                if isinstance(constant, BlobRef):
                    key = (constant.file, constant.offset)
                    records[key] = asset.blobs(constant.file).record(constant.offset)
    dtypes: dict[str, int] = {}
    for record in records.values():
        dtypes[record.dtype] = dtypes.get(record.dtype, 0) + record.bytes
    return {"bytes": sum(dtypes.values()), "dtypes": dict(sorted(dtypes.items()))}
