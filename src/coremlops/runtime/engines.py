"""Which engine runs a lowered model.

auto, onnxruntime   ONNX Runtime on the CPU: what every proof here rests on
cuda                ONNX Runtime on an NVIDIA GPU, where onnxruntime-gpu is installed
openvino            OpenVINO on the CPU (the extra `openvino`); not faithful in fp16
coreml              Apple's own framework, on a Mac alone; runs the file itself, see `runtime.framework`
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from coremlops.errors import UsageError
from coremlops.lower import Lowered
from coremlops.runtime.cache import Cached

if TYPE_CHECKING:
    from coremlops.runtime.initializers import Locate

ENGINES = ("auto", "onnxruntime", "cuda", "openvino", "coreml")
_FLOAT16 = 10  # TensorProto.FLOAT16


class Engine(Protocol):
    """A loaded model: tensors in, tensors out, both by name. Safe to use from several threads at once."""

    def run(self, inputs: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]:
        """Run once. Raises ModelError when the engine fails."""
        ...


def open_session(
    lowered: Lowered | Cached,
    *,
    engine: str = "auto",
    threads: int | None = None,
    time_limit_s: float | None = None,
    locate: Locate | None = None,
) -> Engine:
    """Load `lowered` into an engine. `threads` in an op; None leaves it to the engine. `locate`: see Session.

    `time_limit_s`: a run that takes longer is stopped.

    Raises UsageError for an engine that is not here or that cannot do what the model asks for, ModelError
    when the engine refuses the graph.
    """
    if engine == "openvino":
        if time_limit_s is not None:
            raise UsageError("OpenVINO cannot stop a run", hint="use engine onnxruntime with a time limit")
        if rounds_to_fp16(lowered.model):
            # Measured: its CPU plugin removes pairs of conversions, so nothing is rounded or overflows.
            raise UsageError(
                "OpenVINO does not round fp16 values as the model declares them; this precision asks for it",
                hint="use precision float32 with openvino, or engine onnxruntime",
            )
        from coremlops.runtime.openvino_session import OpenVinoSession

        whole = lowered.whole if isinstance(lowered, Cached) else lowered
        return OpenVinoSession(whole, threads=threads)
    from coremlops.runtime.initializers import nowhere
    from coremlops.runtime.session import Session

    if isinstance(lowered, Cached):
        return Session.reopen(lowered.graph_file, threads=threads, time_limit_s=time_limit_s)
    provider = "CUDA" if engine == "cuda" else "CPU"
    return Session(
        lowered,
        threads=threads,
        provider=provider,
        time_limit_s=time_limit_s,
        locate=locate or nowhere,
    )


def rounds_to_fp16(model: Any) -> bool:
    """Whether a graph, nested ones included, rounds any value to fp16."""
    graphs = [model.graph]
    while graphs:
        for node in graphs.pop().node:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to" and attribute.i == _FLOAT16:
                    return True
                if attribute.HasField("g"):
                    graphs.append(attribute.g)
    return False
