"""The engine ONNX Runtime. Takes a lowered model, runs tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime

from coremlops.errors import ModelError, UsageError
from coremlops.lower import Lowered

_QUIET = 4  # what fails becomes an error of ours; ONNX Runtime need not print it, too
# On a GPU fp32 is fp32: TF32 keeps 10 bits of a factor.
_PROVIDERS: dict[str, list[Any]] = {
    "CPU": ["CPUExecutionProvider"],
    "CUDA": [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"],
}


class Session:
    """A loaded model. Safe to use from several threads at once."""

    def __init__(self, lowered: Lowered, *, threads: int | None = None, provider: str = "CPU") -> None:
        """Load `lowered` with all optimisations. `threads` in an op; None leaves it to the engine.

        Raises UsageError when this ONNX Runtime lacks the provider (`CPU` or `CUDA`), ModelError when the
        engine refuses the graph.
        """
        if f"{provider}ExecutionProvider" not in onnxruntime.get_available_providers():
            raise UsageError(
                f"this ONNX Runtime has no {provider} provider",
                hint="replace the package onnxruntime by onnxruntime-gpu",
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _QUIET
        if threads is not None:
            options.intra_op_num_threads = threads
        # The engine reads the big constants where they lie, so the arrays must live as long as the session.
        self._weights = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in lowered.weights.items()
        }
        if self._weights:
            options.add_external_initializers(list(self._weights), list(self._weights.values()))
        try:
            self._session = onnxruntime.InferenceSession(
                lowered.model.SerializeToString(), options, providers=_PROVIDERS[provider]
            )
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise ModelError(f"the engine refuses the model: {error}") from error
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Run once. Raises ModelError when the engine fails."""
        try:
            values = self._session.run(self._outputs, dict(inputs))
        except Exception as error:
            raise ModelError(f"the engine failed: {error}") from error
        return dict(zip(self._outputs, values, strict=True))
