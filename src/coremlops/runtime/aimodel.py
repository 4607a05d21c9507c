"""Core AI's `.aimodel` (iOS 27), through Apple's `coreai-core`, an extra.

It brings a runtime that executes such a model on this machine's CPU. What a device specializes it to is
another matter: nothing here says how a GPU or the Neural Engine answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coremlops.errors import InputError, MissingExtraError, ModelFormatError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AIModel:
    """An `.aimodel` in `coreai-core`'s runtime on the CPU. Raises MissingExtraError, ModelFormatError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        authoring = extra_module("coreai.authoring")
        if not authoring.AIModelAsset.is_valid(path):
            raise ModelFormatError(f"{path}: an .aimodel expected")
        self._asset = authoring.AIModelAsset.load(path)

    def describe(self) -> dict[str, Any]:
        """Its functions, the types that it computes in, its ops and what made it, as Apple's library says."""
        summary, about = self._asset.summary(), self._asset.metadata
        if summary is None:
            raise ModelFormatError(f"{self.path}: it holds no program, only what it was compiled to")
        names = list(summary.function_names)
        return {
            "path": str(self.path),
            "kind": "aimodel",
            "functions": {name: self._signature(summary, name) for name in names},
            "compute_types": [str(item) for item in summary.compute_types],
            "ops": {str(name): int(count) for name, count in summary.operation_distribution},
            "author": about.author or "",
            "license": about.license or "",
            "about": about.model_description or "",
        }

    def _signature(self, summary: Any, function: str) -> dict[str, list[str]]:
        return {
            "inputs": [str(item) for item in summary.function_inputs(function)],
            "outputs": [str(item) for item in summary.function_outputs(function)],
        }

    def predict(self, inputs: Mapping[str, Any], function: str = "main") -> dict[str, NDArray[Any]]:
        """Outputs by name. Raises InputError for what the runtime refuses."""
        try:
            return asyncio.run(self._predict(inputs, function))
        except Exception as error:  # the runtime raises RuntimeError, TypeError and KeyError
            raise InputError(
                f"{self.path}: Core AI's runtime refuses: {str(error).splitlines()[0]}"
            ) from error

    async def _predict(self, inputs: Mapping[str, Any], function: str) -> dict[str, NDArray[Any]]:
        import numpy as np

        wrap = extra_module("coreai.runtime").NDArray
        async with self._asset.executable() as model:
            called = model.load_function(function)
            given = {name: wrap(np.ascontiguousarray(value)) for name, value in inputs.items()}
            found = await called(given)
            return {name: np.array(value.numpy()) for name, value in found.items()}


def extra_module(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtraError(module.split(".")[0].replace("_", "-"), "coreai") from None
