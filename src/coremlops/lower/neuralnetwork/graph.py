"""An ONNX graph that holds subgraphs, and that drops what nobody uses."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coremlops.dialects.mil.graph import TensorType
from coremlops.lower.onnx_graph import OnnxGraph
from coremlops.lower.tidy import used_names


class NetworkGraph(OnnxGraph):
    """Nodes go to the innermost subgraph that is open; constants always to the whole graph, which it sees."""

    def __init__(self, name: str, names: dict[str, int] | None = None) -> None:
        """`names`: taken already, shared with the other parts of one model."""
        super().__init__(name)
        self.received: set[str] = set()  # what other stages give
        self._handed: set[str] = set()
        if names is not None:
            self._names = names

    @property
    def names(self) -> dict[str, int]:
        """The names that are taken; see `OnnxGraph.reserve`."""
        return self._names

    @property
    def last(self) -> Any:
        """The node that was appended last."""
        return self._nodes[-1]

    @contextmanager
    def subgraph(self) -> Iterator[list[Any]]:
        """Collect the nodes that are appended meanwhile, for the body of an If or a Loop."""
        outer, self._nodes = self._nodes, []
        try:
            yield self._nodes
        finally:
            self._nodes = outer

    def receive(self, name: str, type_: TensorType) -> None:
        """Declare what an earlier stage gives."""
        self.received.add(name)
        self.input(name, type_)

    def hand_over(self, name: str, type_: TensorType) -> None:
        """Give a value to a later stage."""
        if name not in self._handed:
            self._handed.add(name)
            self.output(name, type_)

    @property
    def held(self) -> set[str]:
        """The names of what goes in and of what its nodes give."""
        given = (name for node in self._nodes for name in node.output)
        return {*(value.name for value in self._inputs), *given}

    def prune(self) -> None:
        """Drop nodes and constants that no output needs; views of a value are made in advance."""
        needed = {value.name for value in self._outputs}
        kept = []
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(used_names(node))
        self._nodes = kept[::-1]
        self._initializers = [tensor for tensor in self._initializers if tensor.name in needed]
        self.weights = {name: array for name, array in self.weights.items() if name in needed}
