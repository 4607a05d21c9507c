"""The values inside a model: what each named operation gives, for proofs that look beyond the outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from coremlops.errors import InputError, ModelError
from coremlops.model import ImageFeature
from coremlops.runtime.inputs import check_names, image_tensor
from coremlops.runtime.model import Model

_QUIET = 4  # what fails becomes an error of ours; ONNX Runtime need not print it, too


class InnerValues:
    """A model of images whose inner values can be read. It runs beside `model`, and slower.

    `names` are operations of the Core ML file. An operation's value is the last one that its lowering gives:
    in typed mode that may be before or after its rounding, whichever the graph keeps.
    """

    def __init__(self, model: Model) -> None:
        self._images = tuple(item for item in model.description.inputs if isinstance(item, ImageFeature))
        if len(self._images) != len(model.description.inputs):
            raise InputError("inner values: a model of images alone expected")
        self._graph = model.to_onnx()
        # One operation's values are called x, x.2, x.3, ... in the order in which they were made.
        latest: dict[str, tuple[int, str]] = {}
        for node in self._graph.graph.node:
            for value in node.output:
                name, _, number = value.partition(".")
                rank = int(number) if number.isdecimal() else 1
                if name and rank >= latest.get(name, (0, ""))[0]:
                    latest[name] = (rank, value)
        outputs = {value.name for value in self._graph.graph.output}
        self._values = {name: value for name, (_, value) in latest.items() if value not in outputs}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._values)

    def reader(self, names: Iterable[str]) -> Callable[[Mapping[str, Any]], dict[str, np.ndarray[Any, Any]]]:
        """A function from inputs (pictures of the exact size, by name) to the values of `names`.

        Raises ModelError when the engine fails; KeyError for a name that is not in `names`.
        """
        import onnx
        import onnxruntime

        wanted = {name: self._values[name] for name in sorted(set(names))}
        graph = onnx.ModelProto()
        graph.CopyFrom(self._graph)
        graph.graph.output.extend(onnx.ValueInfoProto(name=value) for value in wanted.values())
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _QUIET
        try:
            session = onnxruntime.InferenceSession(
                graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
            raise ModelError(f"the engine refuses the model: {error}") from error

        def read(inputs: Mapping[str, Any]) -> dict[str, np.ndarray[Any, Any]]:
            check_names(self._images, inputs)
            feeds = {item.name: image_tensor(item, inputs[item.name]) for item in self._images}
            try:
                values = session.run(list(wanted.values()), feeds)
            except Exception as error:
                raise ModelError(f"the engine failed: {error}") from error
            return dict(zip(wanted, values, strict=True))

        return read
