"""A model in float32 with a switch at each value: round it to fp16 here, or put another in its place.

One session answers what any choice of ops in fp16 gives, with no conversion and no lowering in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.dialects.mil import TensorType
from coremlops.lower import Lowered
from coremlops.lower.onnx_graph import value_info
from coremlops.runtime.session import Session
from coremlops.verify.locate.program import Program, Values

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLOAT, _FLOAT16 = 1, 10  # TensorProto
_ROUND, _PUT, _VALUE, _RAW = "round: ", "put: ", "value: ", "raw: "


class Switched:
    """`rounded`: values that can be rounded; `put`: those that can be replaced. Others are left out: what the
    graph does not hold as a value of its own, constants and inputs."""

    def __init__(self, program: Program, rounded: Iterable[str] = (), put: Iterable[str] = ()) -> None:
        lowered = program.lower(program.function, "float32")
        sources = {
            name: inner.source
            for name, inner in lowered.inner.items()
            if inner.constant is None and inner.type.dtype in ("fp16", "fp32")
        }
        made = {output for node in lowered.model.graph.node for output in node.output}
        self._rounded = {name: sources[name] for name in rounded if sources.get(name) in made}
        self._put = {name: sources[name] for name in put if sources.get(name) in made}
        model = _with_switches(lowered.model, set(self._rounded.values()), set(self._put.values()))
        self._lowered = replace(lowered, model=model)
        self._session = Session(self._lowered, locate=program.asset.locate)

    @property
    def rounded(self) -> tuple[str, ...]:
        """The values that have a switch, in the order asked for; some share one."""
        return tuple(self._rounded)

    @property
    def is_classifier(self) -> bool:
        return self._lowered.classifier is not None

    def run(
        self,
        feeds: Values,
        rounded: Collection[str] = (),
        put: Mapping[str, NDArray[Any]] | None = None,
        spare: Mapping[str, NDArray[Any]] | None = None,
    ) -> Values:
        """The outputs when these values are rounded, and those replaced.

        `spare`: a value of the right shape for each that could be replaced and is not.
        """
        put = put or {}
        on = {self._rounded[name] for name in rounded if name in self._rounded}
        given = dict(feeds)
        given |= {_ROUND + source: np.array(source in on) for source in self._rounded.values()}
        for name, source in self._put.items():
            value = put.get(name)
            given[_PUT + source] = np.array(value is not None)
            given[_VALUE + source] = (spare or {})[name] if value is None else value
        return outputs_of(self._lowered, self._session.run(given))


def outputs_of(lowered: Lowered, results: Values) -> Values:
    """What a program gives as tensors, the probabilities of a classifier among them."""
    found = {entry.name: results[lowered.renamed.get(entry.name, entry.name)] for entry in lowered.outputs}
    if lowered.classifier is not None:
        found[lowered.classifier.source] = results[lowered.classifier.source]
    return found


def _with_switches(model: Any, rounded: set[str], put: set[str]) -> Any:
    from onnx import NodeProto
    from onnx.helper import make_node

    copy = type(model)()
    copy.CopyFrom(model)
    graph = copy.graph
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            value = name
            if name in rounded or name in put:
                value = node.output[index] = _RAW + name
            if name in rounded:
                target = f"{_RAW}{name} rounded" if name in put else name
                nodes += [
                    make_node("Cast", [value], [f"{name}: half"], to=_FLOAT16),
                    make_node("Cast", [f"{name}: half"], [f"{name}: back"], to=_FLOAT),
                    make_node("Where", [_ROUND + name, f"{name}: back", value], [target]),
                ]
                value = target
            if name in put:
                nodes.append(make_node("Where", [_PUT + name, _VALUE + name, value], [name]))
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    graph.input.extend(value_info(_ROUND + name, TensorType("bool")) for name in sorted(rounded))
    graph.input.extend(value_info(_PUT + name, TensorType("bool")) for name in sorted(put))
    graph.input.extend(value_info(_VALUE + name, TensorType("fp32", None)) for name in sorted(put))
    return copy
