"""What a rule of a classic model is given: its inputs as numbers, and a place for its results.

Classic models compute in double in every numeric mode: the format stores doubles, and no feature of theirs is
half-precision by nature.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from coremlops.dialects.mil.graph import NamedType, TensorType
from coremlops.errors import ModelFormatError
from coremlops.lower.context import Classifier, Lowering
from coremlops.lower.function import Lowered
from coremlops.lower.onnx_graph import OnnxGraph
from coremlops.lower.registry import Labels, Unsupported, Value
from coremlops.model.description import (
    ArrayFeature,
    DictionaryFeature,
    Feature,
    ModelDescription,
    ScalarFeature,
)

MAX_ELEMENTS = 1 << 24  # doubles that a small file may ask for at once: 128 MiB
_MAX_HELD = 1 << 27
_ARRAYS = {"float16": "fp16", "float32": "fp32", "float64": "fp64", "int32": "int32", "int8": "int8"}
_HALF, _FLOAT, _DOUBLE, _INT64 = 10, 1, 11, 7


class ClassicLowering:
    """One classic model on its way to ONNX; `ctx` adds nodes and constants.

    A scalar travels as a double of rank 0, integers too, so that NaN can say that it is missing.
    """

    def __init__(self, description: ModelDescription, *, opset: int, where: str) -> None:
        self.where = where
        self.ctx = Lowering(OnnxGraph("classic"), precision="float32", opset=opset)
        self.description = description
        self._outputs: dict[str, NamedType] = {}
        self._classifier: Classifier | None = None
        self._renamed: dict[str, str] = {}
        self._inputs = {feature.name: self._declare(feature) for feature in description.inputs}

    def _declare(self, feature: Feature) -> NamedType:
        type_ = TensorType("fp64", ())
        if isinstance(feature, ArrayFeature):
            if any(size < 0 for size in feature.shape) or math.prod(feature.shape) > MAX_ELEMENTS:
                raise ModelFormatError(f"{self.where}: input {feature.name!r} has the shape {feature.shape}")
            type_ = TensorType(_ARRAYS[feature.dtype], _axes(feature))
        elif not isinstance(feature, ScalarFeature) or feature.dtype == "string":
            raise Unsupported(f"the input {feature.name!r}, which is no number or array")
        self.ctx.graph.reserve(feature.name)
        self.ctx.graph.input(feature.name, type_)
        return NamedType(feature.name, type_)

    def input(self, name: str) -> Value:
        """An input as double, in the shape that it was given. Raises ModelFormatError when there is none."""
        if name not in self._inputs:
            raise ModelFormatError(f"{self.where}: the model uses the input {name!r}, and declares none")
        return self.double(Value(name, TensorType("fp64", None)))

    def size(self, name: str) -> int:
        """The number of elements of an input. Raises ModelFormatError when its shape is not declared."""
        feature = self.description.input(name)
        if not isinstance(feature, ArrayFeature):
            return 1
        if not feature.shape:
            raise ModelFormatError(f"{self.where}: the input {name!r} has no shape")
        return math.prod(feature.shape)

    def only_input(self) -> tuple[str, int]:
        """The name and size of the one input. Raises ModelFormatError when there are more or none."""
        if len(self._inputs) != 1:
            raise ModelFormatError(f"{self.where}: {len(self._inputs)} inputs; expected one")
        name = next(iter(self._inputs))
        return name, self.size(name)

    def vector(self, names: list[str] | None = None) -> tuple[Value, int]:
        """The inputs (all of them, or those named) one after another as a row [1, n], and n."""
        chosen = list(self._inputs) if names is None else names
        sizes = [self.size(name) for name in chosen]
        # A fixed size, so that no input of another one can make the engine look past its end.
        rows = [self.reshape(self.input(name), [1, size]) for name, size in zip(chosen, sizes, strict=True)]
        if not rows or sum(sizes) > MAX_ELEMENTS:
            raise ModelFormatError(f"{self.where}: {sum(sizes)} numbers in {len(rows)} inputs")
        row = rows[0] if len(rows) == 1 else self.ctx.node("Concat", *rows, axis=1)
        return row, sum(sizes)

    def double(self, value: Value) -> Value:
        """As doubles."""
        return self.ctx.node("Cast", value, to=_DOUBLE)

    def product(self, a: Value, b: Value) -> Value:
        """The product of two matrices: no MatMul, into which ONNX Runtime takes scalar factors as float32."""
        return self.ctx.node("Gemm", a, b)

    def reshape(self, value: Value, shape: list[int]) -> Value:
        """In another shape of as many elements."""
        return self.ctx.node("Reshape", value, self.ctx.ints(shape))

    def constant(self, array: Any) -> Value:
        """A constant of doubles."""
        return self.ctx.constant(array, np.float64)

    def give(self, name: str, value: Value, size: int | None) -> None:
        """Make `value` (doubles, or integers) the output of that name.

        `size`: its number of elements; None when it is a matrix whose shape is known at run time alone.
        Raises ModelFormatError for an output of another size.
        """
        feature = next((entry for entry in self.description.outputs if entry.name == name), None)
        if isinstance(feature, ArrayFeature):
            if size is not None:
                shape = feature.shape or (size,)
                if math.prod(shape) != size:
                    raise ModelFormatError(
                        f"{self.where}: the output {name!r} has the shape {list(shape)}; expected {size} "
                        f"elements"
                    )
                value = self.reshape(value, list(shape))
            self._output(
                name, value, TensorType(_ARRAYS[feature.dtype], (None, None) if size is None else shape)
            )
        elif isinstance(feature, ScalarFeature) and feature.dtype != "string" and size == 1:
            type_ = "int64" if feature.dtype == "int64" else "fp64"
            self._output(name, self.reshape(value, []), TensorType(type_, ()))
        else:
            raise ModelFormatError(f"{self.where}: no output {name!r} for {size} number(s)")

    def _output(self, name: str, value: Value, type_: TensorType) -> None:
        graph = self.ctx.graph
        target = graph.reserve(name)  # an output may be called as an input is; a graph's names are unique
        if type_.dtype == "fp16":
            value = self.ctx.node("Cast", value, to=_HALF)
        graph.node("Cast", [self.ctx.use(value)], [target], {"to": _to(type_.dtype)})
        graph.output(target, type_)
        self._outputs[name] = NamedType(name, type_)
        if target != name:
            self._renamed[name] = target

    def only_output(self) -> str:
        """The name of a regressor's or transform's output. Raises ModelFormatError when it is not clear."""
        outputs = self.description.outputs
        if self.description.predicted_label:
            return self.description.predicted_label
        if len(outputs) != 1:
            raise ModelFormatError(f"{self.where}: {len(outputs)} outputs; expected one")
        return outputs[0].name

    def classify(self, labels: Labels, probabilities: Value | None, chosen: Value | None = None) -> None:
        """Make this model's outputs a label and, when there are any, probabilities.

        `probabilities`: doubles, one a label in their order. `chosen`: the place of the label, an int64; None
        means the place of the (first) largest probability.
        """
        outputs = self.description.outputs
        scalars = [entry.name for entry in outputs if isinstance(entry, ScalarFeature)]
        others = [entry.name for entry in outputs if isinstance(entry, DictionaryFeature | ArrayFeature)]
        label = self.description.predicted_label or next(iter(scalars), "")
        by_label = self.description.predicted_probabilities or next(iter(others), "")
        if not label or label not in scalars:
            raise ModelFormatError(f"{self.where}: the classifier has no output for its label")
        if by_label and probabilities is None:
            raise ModelFormatError(f"{self.where}: an output {by_label!r}, and a model without probabilities")
        source = place = ""
        if probabilities is not None:
            source = self._tensor("probabilities", self.reshape(probabilities, [len(labels)]), len(labels))
        if chosen is not None:
            place = self._place(chosen)
        self._classifier = Classifier(label, by_label, source, (len(labels),), labels, place)

    def _tensor(self, name: str, value: Value, size: int) -> str:
        target = self.ctx.graph.reserve(name)
        self.ctx.graph.node("Identity", [self.ctx.use(value)], [target], {})
        self.ctx.graph.output(target, TensorType("fp64", (size,)))
        return target

    def _place(self, chosen: Value) -> str:
        target = self.ctx.graph.reserve("chosen")
        self.ctx.graph.node("Cast", [self.reshape(chosen, []).name], [target], {"to": _INT64})
        self.ctx.graph.output(target, TensorType("int64", ()))
        return target

    def lowered(self) -> Lowered:
        """What was made."""
        return Lowered(
            self.ctx.graph.build(self.ctx.opset),
            self.ctx.graph.weights,
            tuple(self._inputs.values()),
            tuple(self._outputs.values()),
            self._classifier,
            renamed=self._renamed,
        )


def room(held: int) -> int:
    """How many doubles a table may have that a file holds `held` numbers of, the others being zero."""
    return max(MAX_ELEMENTS, min(1024 * held, _MAX_HELD))


def _axes(feature: ArrayFeature) -> tuple[int | None, ...]:
    """The shape of an input, as far as it is fixed; only matrices may leave theirs open."""
    if feature.ranges or feature.shapes:
        return (None,) * len(feature.ranges or feature.shapes[0])
    return feature.shape or (None, None)


def _to(dtype: str) -> int:
    return {"fp16": _FLOAT, "fp32": _FLOAT, "fp64": _DOUBLE, "int64": _INT64, "int32": 6, "int8": 3}[dtype]
