"""An ONNX graph as a torch module: each node a module of its own, what no data decides folded."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import external_data_helper, numpy_helper

from coremlops.convert.onnx import elementwise, layers, shapes  # noqa: F401  (they register their ops)
from coremlops.convert.onnx.registry import RULES, Node, Rule
from coremlops.errors import ConversionError, CoremlopsError, InputError
from coremlops.source.program import last_line

NODES = 100_000
FILE_BYTES = (1 << 31) - 1  # protobuf's own
WEIGHTS = 2 << 30
OLDEST = 7


def read(path: Path) -> onnx.ModelProto:
    """The file with its weights, which lie in it or in files of its folder. Raises InputError."""
    if path.stat().st_size > FILE_BYTES:
        raise InputError(f"{path}: at most {FILE_BYTES} bytes expected, got {path.stat().st_size}")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf's own, which onnx does not name
        raise InputError(f"{path}: an ONNX model expected: {last_line(error)}") from error
    home, total = path.parent.resolve(), 0
    for tensor in external_data_helper._get_all_tensors(model):
        if external_data_helper.uses_external_data(tensor):
            location = external_data_helper.ExternalDataInfo(tensor).location
            file = (home / location).resolve()
            if not file.is_relative_to(home) or not file.is_file():
                raise InputError(f"{path}: weights in a file of its own folder expected, got {location!r}")
            count = int(np.prod([max(size, 0) for size in tensor.dims], dtype=np.float64))
            total += count
            if total > WEIGHTS:
                raise InputError(f"{path}: weights of at most {WEIGHTS} elements expected")
    try:
        external_data_helper.load_external_data_for_model(model, str(home))
    except Exception as error:  # onnx lets ValueError, OSError and its own checker's out
        raise InputError(f"{path}: weights cannot be read: {last_line(error)}") from error
    return model


class Step(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """One node. Its constants are its own; what is left is given to `forward`."""

    def __init__(self, node: Node, rule: Rule, count: int) -> None:
        super().__init__()
        self.node, self.rule, self.count = node, rule, count
        self.fixed: dict[int, Any] = {}
        for i, value in node.known.items():
            if i in rule.static:
                self.fixed[i] = value.tolist()
            else:
                self.register_parameter(f"input_{i}", torch.nn.Parameter(value, requires_grad=False))

    def forward(self, *values: Any) -> Any:
        given = iter(values)
        args = [
            self.fixed[i]
            if i in self.fixed
            else getattr(self, f"input_{i}")
            if i in self.node.known
            else next(given)
            for i in range(self.count)
        ]
        with warnings.catch_warnings():  # a trace says that sizes are fixed, which `told` is for
            warnings.simplefilter("ignore", torch.jit.TracerWarning)
            return self.rule.call(self.node, *args)


class Graph(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """The inputs one by one -> outputs by their names. `told`: the nodes that asked for the shape of data.

    Made for the shapes of `examples`. Raises ConversionError with all that is not covered.
    """

    def __init__(
        self, model: onnx.ModelProto, names: Sequence[str], examples: Sequence[torch.Tensor]
    ) -> None:
        super().__init__()
        opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 1)
        _check(model, opset)
        self.names, self.told = list(names), list[str]()
        self.ends = [item.name for item in model.graph.output]
        self.calls: list[tuple[str, list[str], list[str]]] = []
        self.known = {item.name: _tensor(item) for item in model.graph.initializer}
        self.values = dict(zip(names, examples, strict=True))
        with torch.no_grad():
            self._nodes(model.graph, opset)
        missing = [name for name in self.ends if name not in self.values and name not in self.known]
        if missing:
            raise InputError(f"outputs without a node: {', '.join(missing)}")
        for name in set(self.ends) & set(self.known):
            self.register_parameter(
                f"end_{self.ends.index(name)}", torch.nn.Parameter(self.known[name], requires_grad=False)
            )
        del self.known, self.values

    def _nodes(self, graph: onnx.GraphProto, opset: int) -> None:
        for i, proto in enumerate(graph.node):
            if proto.op_type == "If":
                self._branch(proto, opset)
            else:
                self._node(proto, opset, f"{_word(proto.name or proto.op_type)}_{len(self.calls)}_{i}")

    def _branch(self, proto: onnx.NodeProto, opset: int) -> None:
        """The branch that is taken, where no data decides it."""
        if proto.input[0] not in self.known:
            raise ConversionError(
                f"ONNX node {_called(proto)} (If): the data decides its branch; not covered"
            )
        taken = "then_branch" if bool(self.known[proto.input[0]]) else "else_branch"
        branch = next(item.g for item in proto.attribute if item.name == taken)
        self.known |= {item.name: _tensor(item) for item in branch.initializer}
        self._nodes(branch, opset)
        for name, end in zip(proto.output, branch.output, strict=True):
            if end.name in self.known:
                self.known[name] = self.known[end.name]
            else:
                self._node(
                    onnx.helper.make_node("Identity", [end.name], [name]), opset, f"{_word(name)}_taken"
                )

    def _node(self, proto: onnx.NodeProto, opset: int, word: str) -> None:
        rule, inputs = RULES[proto.op_type], list(proto.input)
        known = {i: self.known[name] for i, name in enumerate(inputs) if name in self.known}
        attributes = {item.name: _attribute(item) for item in proto.attribute}
        node = Node(_called(proto), proto.op_type, opset, attributes, len(proto.output), known)
        for i, name in enumerate(inputs):
            if name and i in rule.static and i not in known:
                raise node.refused(f"the data decides its input {name}; a constant expected")
            if name and name not in known and name not in self.known and name not in self.values:
                raise InputError(f"ONNX node {node.name}: its input {name} is nowhere")
        step = Step(node, rule, len(inputs))
        given = [name for i, name in enumerate(inputs) if i not in known]
        try:
            made = step(*(self.values[name] if name else None for name in given))
        except CoremlopsError:
            raise
        except Exception as error:  # torch raises anything from RuntimeError to AssertionError
            raise node.refused(last_line(error)) from error
        results = [made] if isinstance(made, torch.Tensor) else list(made)
        asks = proto.op_type in ("Shape", "Size")
        if not given or asks:
            self.known |= dict(zip(proto.output, results, strict=False))
            self.told += [node.name] if given else []
            return
        self.told += [node.name] if node.asked else []
        self.values |= dict(zip(proto.output, results, strict=False))
        self.add_module(word, step)
        self.calls.append((word, given, list(proto.output)))

    def forward(self, *values: Any) -> dict[str, Any]:
        found: dict[str, Any] = dict(zip(self.names, values, strict=True))
        for word, given, outputs in self.calls:
            made = getattr(self, word)(*(found[name] if name else None for name in given))
            found |= zip(outputs, [made] if isinstance(made, torch.Tensor) else made, strict=False)
        return {
            re.sub(r"\W", "_", name): found[name] if name in found else getattr(self, f"end_{i}")
            for i, name in enumerate(self.ends)
        }


def _check(model: onnx.ModelProto, opset: int) -> None:
    """All that is not covered, in one error."""
    wrong: dict[str, list[str]] = {}
    nodes = list(_all(model.graph))
    if len(nodes) > NODES or opset < OLDEST:
        raise ConversionError(
            f"at most {NODES} nodes of opset {OLDEST} or newer expected, got {len(nodes)} of {opset}"
        )
    for node in nodes:
        own = node.domain in ("", "ai.onnx")
        rule = RULES.get(node.op_type) if own else None
        if rule is None and not (own and node.op_type == "If"):
            wrong.setdefault(f"{'' if own else node.domain + '.'}{node.op_type}", []).append(_called(node))
        takes = rule.attributes if rule is not None else {}
        for item in node.attribute if rule is not None else ():
            value = _attribute(item)
            if item.name not in takes or (takes[item.name] and value not in takes[item.name]):
                wrong.setdefault(f"{node.op_type} with {item.name}={value}", []).append(_called(node))
    if wrong:
        each = (
            f"{what} ({', '.join(names[:3])}{f' and {len(names) - 3} more' if names[3:] else ''})"
            for what, names in wrong.items()
        )
        raise ConversionError(
            f"ONNX ops that are not covered: {'; '.join(each)}",
            hint="docs/sources.md has the list of those that are",
        )


def _all(graph: onnx.GraphProto, depth: int = 0) -> Iterator[onnx.NodeProto]:
    if depth > 16:
        raise ConversionError("graphs in graphs: at most 16 expected")
    for node in graph.node:
        yield node
        for item in node.attribute:
            if item.type == onnx.AttributeProto.GRAPH:
                yield from _all(item.g, depth + 1)


def _tensor(proto: onnx.TensorProto) -> torch.Tensor:
    try:
        return torch.from_numpy(np.array(numpy_helper.to_array(proto)))
    except (TypeError, ValueError) as error:
        raise ConversionError(f"ONNX tensor {proto.name}: {last_line(error)}") from error


def _attribute(proto: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(proto)
    if isinstance(value, bytes):
        return str(value, "utf-8", "replace")
    if isinstance(value, onnx.TensorProto):
        return _tensor(value)
    return list(value) if proto.type in (onnx.AttributeProto.INTS, onnx.AttributeProto.FLOATS) else value


def _called(proto: onnx.NodeProto) -> str:
    return str(proto.name or (proto.output[0] if proto.output else proto.op_type))


def _word(name: str) -> str:
    return re.sub(r"\W", "_", name).strip("_") or "node"
