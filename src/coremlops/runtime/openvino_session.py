"""The engine OpenVINO, on the CPU, in fp32. It reads the same ONNX model."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.errors import MissingExtraError, ModelError
from coremlops.lower import Lowered, embed_weights
from coremlops.lower.onnx_file import MAX_EMBEDDED_BYTES, weight_bytes, write_onnx


class OpenVinoSession:
    """A loaded model. Safe to use from several threads at once: each has a request of its own."""

    def __init__(self, lowered: Lowered, *, threads: int | None = None) -> None:
        """Load `lowered`. `threads` in an op; None leaves it to the engine.

        Raises MissingExtraError without OpenVINO, ModelError when it refuses the graph.
        """
        try:
            import openvino
        except ImportError:
            raise MissingExtraError("openvino", "openvino") from None
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        try:
            self._model = core.compile_model(_read(core, lowered), "CPU", settings)
        except Exception as error:  # its errors are RuntimeError and what its front ends let out
            raise ModelError(f"OpenVINO refuses the model: {_first_line(error)}") from error
        self._outputs = [entry.name for entry in lowered.model.graph.output]
        self._requests = threading.local()

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Run once. Raises ModelError when the engine fails."""
        try:
            request = getattr(self._requests, "own", None)
            if request is None:
                request = self._requests.own = self._model.create_infer_request()
            request.infer(dict(inputs))
            return {name: request.get_tensor(name).data.copy() for name in self._outputs}
        except Exception as error:
            raise ModelError(f"OpenVINO failed: {_first_line(error)}") from error


def _read(core: Any, lowered: Lowered) -> Any:
    if weight_bytes(lowered) < MAX_EMBEDDED_BYTES:
        return core.read_model(embed_weights(lowered.model, lowered.weights).SerializeToString())
    with tempfile.TemporaryDirectory() as folder:  # what is too big for one protobuf goes through files
        path = Path(folder) / "model.onnx"
        write_onnx(lowered.model, lowered.weights, path, external=True)
        return core.read_model(str(path))


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
