"""Several ONNX models one after another as one: what a pipeline is exported as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from coremlops.dialects.mil.graph import NamedType, TensorType
from coremlops.lower.context import Classifier
from coremlops.lower.function import Lowered
from coremlops.lower.onnx_graph import ONNX_DTYPES, OnnxGraph
from coremlops.lower.registry import Unsupported


def compose(stages: Sequence[Lowered], wanted: Sequence[str]) -> Lowered:
    """One graph that gives the features `wanted`; each stage takes what an earlier one, or the caller, gives.

    A stage's own names get its number before them. Raises Unsupported when a stage needs what another one's
    classifier gives, which is no tensor, and for two classifiers.
    """
    return _Composition(stages[0].model.opset_import[0].version).run(stages, wanted)


class _Composition:
    def __init__(self, opset: int) -> None:
        self.opset = opset
        self.graph = OnnxGraph("pipeline")
        self.inputs: list[NamedType] = []
        # feature -> its ONNX name and type; what a classifier gives has none
        self.features: dict[str, tuple[str, TensorType]] = {}
        self.classified: dict[str, Classifier] = {}

    def run(self, stages: Sequence[Lowered], wanted: Sequence[str]) -> Lowered:
        own = {entry.name for stage in stages for entry in (*stage.inputs, *stage.outputs)}
        for name in sorted(own):
            self.graph.reserve(name)
        for number, stage in enumerate(stages):
            if stage.model.opset_import[0].version != self.opset:
                raise Unsupported(
                    f"members of the opsets {self.opset} and {stage.model.opset_import[0].version}"
                )
            self._stage(f"{number}/", stage)
        outputs, renamed = [], {}
        for name in wanted:
            if name in self.classified:
                continue
            source, type_ = self.features[name]
            target = self.graph.reserve(name) if any(entry.name == name for entry in self.inputs) else name
            self.graph.node("Identity", [source], [target], {})
            self.graph.output(target, type_)
            outputs.append(NamedType(name, type_))
            if target != name:
                renamed[name] = target
        classifier = self._classifier(wanted)
        model = self.graph.build(self.opset)
        return Lowered(model, self.graph.weights, tuple(self.inputs), tuple(outputs), classifier, renamed)

    def _stage(self, prefix: str, stage: Lowered) -> None:
        for entry in stage.inputs:
            self._feed(prefix + entry.name, entry)
        for tensor in stage.model.graph.initializer:
            self.graph.adopt_constant(_renamed_tensor(tensor, prefix), stage.weights.get(tensor.name))
        for node in stage.model.graph.node:
            copy = type(node)()
            copy.CopyFrom(node)
            _rename(copy, prefix)
            self.graph.adopt(copy)
        for entry in stage.outputs:
            assert isinstance(entry.type, TensorType)  # noqa: S101  graphs give tensors alone
            self.features[entry.name] = (prefix + stage.renamed.get(entry.name, entry.name), entry.type)
            self.classified.pop(entry.name, None)
        found = stage.classifier
        if found is not None:
            source, chosen = (prefix + name if name else "" for name in (found.source, found.chosen))
            given = replace(found, source=source, chosen=chosen)
            self.classified.update({name: given for name in (found.label, found.probabilities) if name})

    def _feed(self, target: str, entry: NamedType) -> None:
        """Make the input of a stage from what is there, or from the caller."""
        assert isinstance(entry.type, TensorType)  # noqa: S101  graphs take tensors alone
        if entry.name in self.classified:
            raise Unsupported(
                f"a member that takes {entry.name!r}, which a classifier gives and is no tensor"
            )
        if entry.name not in self.features:
            self.graph.input(entry.name, entry.type)
            self.inputs.append(entry)
            self.features[entry.name] = (entry.name, entry.type)
        source, type_ = self.features[entry.name]
        shape = entry.type.shape
        if shape != type_.shape and shape is not None and None not in shape:
            self.graph.constant(f"{target}.shape", np.array(shape, np.int64))
            self.graph.node("Reshape", [source, f"{target}.shape"], [f"{target}.flat"], {})
            source = f"{target}.flat"
        self.graph.node("Cast", [source], [target], {"to": ONNX_DTYPES[entry.type.dtype]})

    def _classifier(self, wanted: Sequence[str]) -> Classifier | None:
        found = {
            id(self.classified[name]): self.classified[name] for name in wanted if name in self.classified
        }
        if len(found) > 1:
            raise Unsupported("two classifiers")
        for classifier in found.values():
            return replace(
                classifier,
                source=self._result(classifier.source, "probabilities", TensorType("fp64", classifier.shape)),
                chosen=self._result(classifier.chosen, "chosen", TensorType("int64")),
            )
        return None

    def _result(self, source: str, name: str, type_: TensorType) -> str:
        """Make a value an output of the graph, and return what it is called there."""
        if not source:
            return ""
        target = self.graph.reserve(name)
        self.graph.node("Cast", [source], [target], {"to": ONNX_DTYPES[type_.dtype]})
        self.graph.output(target, type_)
        return target


def _renamed_tensor(tensor: Any, prefix: str) -> Any:
    copy = type(tensor)()
    copy.CopyFrom(tensor)
    copy.name = prefix + tensor.name
    return copy


def _rename(node: Any, prefix: str) -> None:
    """Put `prefix` before every name of a node, those of graphs inside it too; in place."""
    node.name = prefix + node.name
    node.input[:] = [prefix + name if name else "" for name in node.input]
    node.output[:] = [prefix + name if name else "" for name in node.output]
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
            for entry in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
                entry.name = prefix + entry.name
            for inner in graph.node:
                _rename(inner, prefix)
