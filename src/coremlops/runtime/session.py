"""The engine ONNX Runtime. Takes a lowered model, runs tensors."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from coremlops.errors import ModelError, UsageError
from coremlops.lower import Lowered
from coremlops.lower.onnx_file import weight_bytes
from coremlops.runtime import memory
from coremlops.runtime.initializers import Locate, give_weights, nowhere

_QUIET = 4  # what fails becomes an error of ours; ONNX Runtime need not print it, too
# On a GPU fp32 is fp32: TF32 keeps 10 bits of a factor.
_PROVIDERS: dict[str, list[Any]] = {
    "CPU": ["CPUExecutionProvider"],
    "CUDA": [("CUDAExecutionProvider", {"use_tf32": "0"}), "CPUExecutionProvider"],
}
_FOLDER = "session.model_external_initializers_file_folder_path"
_FOLDED = "optimization.constant_folding_max_output_size_in_bytes"
_SAVED = "session.optimized_model_external_initializers_"


class Session:
    """A loaded model. Safe to use from several threads at once."""

    def __init__(
        self,
        lowered: Lowered,
        *,
        threads: int | None = None,
        provider: str = "CPU",
        locate: Locate = nowhere,
        optimised: Path | None = None,
        time_limit_s: float | None = None,
    ) -> None:
        """Load `lowered` with all optimisations. `threads` in an op; None leaves it to the engine.

        `locate`: where a weight lies in a file; see `initializers`. `optimised`: where to write the graph
        that the engine makes of the model, with `weights.bin` beside it; see `reopen`.

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
        # A dequantization, an op and a quantization would become one op on integers, which rounds otherwise.
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        if threads is not None:
            options.intra_op_num_threads = threads
        if optimised is not None:
            options.optimized_model_filepath = str(optimised)
            options.add_session_config_entry(f"{_SAVED}file_name", "weights.bin")
            options.add_session_config_entry(f"{_SAVED}min_size_in_bytes", "1024")
        given = give_weights(lowered, locate)
        if given.folder is not None:
            options.add_session_config_entry(_FOLDER, str(given.folder))
        # The engine uses these arrays where they are, so they must live as long as the session.
        self._weights = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in given.arrays.items()
        }
        if self._weights:
            options.add_external_initializers(list(self._weights), list(self._weights.values()))
        options.add_session_config_entry(_FOLDED, str(given.folded_bytes))
        # A GPU's memory ends by itself.
        bounded = memory.bounded(options, weight_bytes(lowered)) if provider == "CPU" else nullcontext()
        with _opening("the engine refuses the model"), bounded:
            self._session = onnxruntime.InferenceSession(
                given.model.SerializeToString(), options, providers=_PROVIDERS[provider]
            )
        self._time_limit_s = time_limit_s
        self._outputs = [entry.name for entry in self._session.get_outputs()]

    @classmethod
    def reopen(cls, graph: Path, *, threads: int | None = None, time_limit_s: float | None = None) -> Session:
        """The session whose graph was written as `optimised`, on this machine. Raises ModelError."""
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _QUIET
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        if threads is not None:
            options.intra_op_num_threads = threads
        made = cls.__new__(cls)
        made._weights = {}
        made._time_limit_s = time_limit_s
        with _opening("the engine refuses its own graph"):
            size = sum(file.stat().st_size for file in graph.parent.iterdir())
            with memory.bounded(options, size):
                made._session = onnxruntime.InferenceSession(str(graph), options, providers=_PROVIDERS["CPU"])
        made._outputs = [entry.name for entry in made._session.get_outputs()]
        return made

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Run once. Raises ModelError when the engine fails, for want of time or memory, too."""
        feeds = inputs if type(inputs) is dict else dict(inputs)
        # Small nets run in 40 us: what is here is a part of that.
        try:
            if self._time_limit_s is None:
                values = self._session.run(self._outputs, feeds, _SILENT)
            else:
                values = self._run_within(self._time_limit_s, feeds)
        except ModelError:
            raise
        except Exception as error:
            raise _failure("the engine failed", error) from error
        return dict(zip(self._outputs, values, strict=True))

    def _run_within(self, limit_s: float, feeds: dict[str, np.ndarray[Any, Any]]) -> list[Any]:
        options = _silent()
        try:
            with _stopping(options, limit_s):
                values: list[Any] = self._session.run(self._outputs, feeds, options)
        except Exception as error:
            if options.terminate:
                raise ModelError(
                    f"the run was stopped: it took longer than the time limit of {limit_s} s"
                ) from error
            raise
        return values


@contextmanager
def _opening(what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise _failure(what, error) from error


def _failure(what: str, error: Exception) -> ModelError:
    if memory.is_refusal(error):
        limit = memory.limit_bytes()
        reason = f"it may ask for {limit} bytes beyond its weights" if limit else "there is no more"
        return ModelError(f"{what}: it needs more memory: {reason}: {error}", hint=memory.HINT)
    return ModelError(f"{what}: {error}")


def _silent() -> Any:
    options = onnxruntime.RunOptions()
    options.log_severity_level = _QUIET
    return options


_SILENT = _silent()  # a run reads it alone, so all may share it


@contextmanager
def _stopping(options: Any, limit_s: float) -> Iterator[None]:
    """Tell the run with these options to stop when the limit is over; it looks between two nodes."""

    def stop() -> None:
        options.terminate = True

    timer = threading.Timer(limit_s, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
