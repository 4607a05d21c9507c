"""A lowered model as an ONNX file: one file, or one beside another that holds the weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.lower.onnx_graph import embed_weights, widened, widened_bytes

if TYPE_CHECKING:
    from coremlops.lower.function import Lowered

# A protobuf holds less than 2 GiB; what is left is for the graph.
MAX_EMBEDDED_BYTES = (2 << 30) - (64 << 20)
_PAGE = 4096  # so that an engine can map each tensor


def weight_bytes(lowered: Lowered) -> int:
    """How much the weights take in an ONNX file."""
    return sum(widened_bytes(array) for array in lowered.weights.values())


def write_onnx(
    model: Any, weights: Mapping[str, np.ndarray[Any, Any]], path: Path, *, external: bool
) -> list[Path]:
    """Write `model` to `path`; `external`: its big constants to `<name>.data` beside it, by relative name.

    Returns the files. Raises OSError.
    """
    if not external:
        path.write_bytes(embed_weights(model, weights).SerializeToString(deterministic=True))
        return [path]
    data = path.with_name(f"{path.name}.data")
    whole = type(model)()
    whole.CopyFrom(model)
    with data.open("wb") as file:
        for tensor in whole.graph.initializer:
            if tensor.name not in weights:
                continue
            file.seek(-file.tell() % _PAGE, os.SEEK_CUR)
            place = (
                ("location", data.name),
                ("offset", file.tell()),
                ("length", widened_bytes(weights[tensor.name])),
            )
            tensor.ClearField("external_data")
            for key, value in place:
                tensor.external_data.add(key=key, value=str(value))
            file.write(np.ascontiguousarray(widened(weights[tensor.name])).data.cast("B"))
    path.write_bytes(whole.SerializeToString(deterministic=True))
    return [path, data]
