"""An ONNX graph without what costs an engine time and gives nothing.

ONNX Runtime runs nodes whose values nobody takes, and copies a value that is a result under another name and
used beside that: a microsecond each, of the 50 that a small net takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def tidied(model: Any) -> Any:
    """A copy of a model: the same results under the same names.

    Left out: nodes and constants that no result needs, and each Identity that gives a node's value the name
    of a result, which the node then gives itself.
    """
    copy = type(model)()
    copy.CopyFrom(model)
    graph = copy.graph
    _name_results(graph)
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):  # whoever uses a value stands after the node that makes it
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed |= used_names(node)
    _keep(graph.node, kept[::-1])
    _keep(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed])
    return copy


def used_names(node: Any) -> set[str]:
    """The names that a node uses, those inside its subgraphs among them."""
    names = set(node.input)
    for graph in _subgraphs(node):
        names.update(value.name for value in graph.output)
        for inner in graph.node:
            names |= used_names(inner)
    return names


def _name_results(graph: Any) -> None:
    results = {value.name for value in graph.output}
    made = {name for node in graph.node for name in node.output} - results
    names: dict[str, str] = {}
    kept = []
    for node in graph.node:
        copies = node.op_type == "Identity" and not node.domain and node.output[0] in results
        if copies and node.input[0] in made and node.input[0] not in names:
            names[node.input[0]] = node.output[0]
        else:
            kept.append(node)
    _keep(graph.node, kept)
    if names:
        for node in graph.node:
            _rename(node, names)


def _keep(entries: Any, kept: list[Any]) -> None:
    if len(kept) < len(entries):
        del entries[:]
        entries.extend(kept)


def _rename(node: Any, names: dict[str, str]) -> None:
    for side in (node.input, node.output):
        for index, name in enumerate(side):
            if name in names:
                side[index] = names[name]
    for graph in _subgraphs(node):
        for value in graph.output:  # what a body gives may come from outside
            value.name = names.get(value.name, value.name)
        for inner in graph.node:
            _rename(inner, names)


def _subgraphs(node: Any) -> Iterator[Any]:
    return (attribute.g for attribute in node.attribute if attribute.HasField("g"))
