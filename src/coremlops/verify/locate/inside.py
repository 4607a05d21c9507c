"""What the source computes inside: its values, constants, and where each stands in the user's module."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from coremlops.source.reference import Reference

_DECOMPOSED = re.compile(r"^batch_norm(?=_\d+$|$)")
_FRAME = re.compile(r'(?:File "|# )([^"\s]+\.py)(?:", line |:)(\d+)')  # in a trace, in a TorchScript node


@dataclass(frozen=True, slots=True, eq=False)
class Inner:
    """A value inside the source. `module`, `source`: the user's module path and `file.py:line`, where known.

    `numbers`: plain numbers that its node was given. `kind`: the node's operation.
    """

    name: str
    value: NDArray[Any]
    module: str = ""
    source: str = ""
    numbers: tuple[float, ...] = ()
    kind: str = ""


def key_of(name: str) -> str:
    """A node's name as coremltools makes an op's of it: letters, digits and `_`; never a digit first."""
    key = re.sub(r"\W", "_", name)
    return f"var_{key}" if key[:1].isdigit() else key


def inputs_of(asked: Mapping[str, Any]) -> dict[str, Inner]:
    """What the source is asked with: values of it, too."""
    arrays = {name: np.asarray(value) for name, value in asked.items()}
    return {key_of(name): Inner(name, value) for name, value in arrays.items() if value.dtype.kind == "f"}


def inside(reference: Reference, inputs: Mapping[str, Any]) -> dict[str, Inner]:
    """The source's values in order, by `key_of` their names; empty where it cannot be looked inside."""
    from coremlops.source.reference import CoreMLReference, OnnxReference, TorchReference

    reference, inputs = reference.beneath(inputs)
    values = [np.asarray(value) for value in reference.ordered(inputs)] if reference.kind != "coreml" else []
    match reference:
        case TorchReference(kind="torch.export"):
            found = _exported(reference.call, values)
        case TorchReference(kind="TorchScript"):
            found = _scripted(reference.raw, values)
        case TorchReference():
            found = _module(reference.raw, reference.examples or (), values)
        case OnnxReference():
            found = _onnx(reference, inputs)
        case CoreMLReference():
            found = (Inner(name, value) for name, value in reference.layers(inputs).items())
        case _:
            found = (Inner(name, value) for name, value in reference.layers(inputs).items())
    return {key_of(item.name): item for item in found}


def constants_of(reference: Reference) -> dict[str, NDArray[Any]]:
    """The source's weights by name, as float32; empty where they are not to be had."""
    match reference.kind:
        case "torch.export":
            tensors = {**reference.raw.state_dict, **reference.raw.constants}
        case "TorchScript" | "torch.nn.Module":
            tensors = reference.raw.state_dict()
        case "onnx":
            import onnx

            graph = onnx.load(reference.raw).graph
            return _arrays({item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer})
        case "coreml":
            inner = reference.raw.lowered.inner
            held = {name: item.constant for name, item in inner.items() if item.constant is not None}
            return _arrays(held)
        case _:
            return {}
    kept = {name: value for name, value in tensors.items() if getattr(value, "is_floating_point", bool)()}
    return {name: _array(value) for name, value in kept.items()}


def _arrays(tensors: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    arrays = {name: np.asarray(value) for name, value in tensors.items()}
    return {name: value.astype(np.float32) for name, value in arrays.items() if value.dtype.kind == "f"}


def _exported(graph: Any, values: list[NDArray[Any]]) -> Iterator[Inner]:
    import torch

    class Keeper(torch.fx.Interpreter):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            super().__init__(graph)
            self.seen: list[Inner] = []

        def run_node(self, node: Any) -> Any:
            result = super().run_node(node)
            # A batch norm gives (values, mean, deviation).
            value = result[0] if isinstance(result, tuple | list) and result else result
            if node.op == "call_function" and isinstance(value, torch.Tensor):
                # The decomposed program, which coremltools reads, has another name for this one.
                name = _DECOMPOSED.sub("_native_batch_norm_legit_no_training", node.name)
                numbers = tuple(float(item) for item in node.args if isinstance(item, float | int))
                module = next(reversed((node.meta.get("nn_module_stack") or {"": ("", "")}).values()))[0]
                module = re.sub(r"^L\['self'\]\.?", "", module)
                line = _line(node.meta.get("stack_trace"))
                self.seen.append(Inner(name, _array(value), module, line, numbers, str(node.target)))
            return result

    keeper = Keeper()
    with torch.no_grad():
        keeper.run(*(torch.from_numpy(value.copy()) for value in values))
    return iter(keeper.seen)


def _module(module: Any, examples: tuple[Any, ...], values: list[NDArray[Any]]) -> Iterator[Inner]:
    import torch

    try:
        return _exported(torch.export.export(module, examples).module(), values)
    except Exception:  # a module that torch cannot export is looked at from outside alone
        return iter(())


def _scripted(scripted: Any, values: list[NDArray[Any]]) -> Iterator[Inner]:
    """Run the graph with each of its tensors as a result."""
    import torch

    graph = scripted.graph.copy()
    torch._C._jit_pass_inline(graph)
    places = [(_owner(value.node()), _line(str(value.node()))) for value in _made(graph)]
    graph, weights = torch._C._jit_pass_lower_graph(graph, scripted._c)
    made = _made(graph)  # lowering renames values and keeps their order
    places = places if len(places) == len(made) else [("", "")] * len(made)
    names = [item.debugName() for item in made]
    numbers = [_numbers(item.node()) for item in made]
    kinds = {item.debugName(): item.node().kind() for item in made}
    for _ in list(graph.outputs()):
        graph.eraseOutput(0)
    pack = graph.create("prim::TupleConstruct", made, 1)
    pack.output().setType(torch._C.TupleType([item.type() for item in made]))
    graph.appendNode(pack)
    graph.registerOutput(pack.output())
    run = torch._C._create_function_from_graph("inside", graph)
    with torch.no_grad():
        results = run(*(torch.from_numpy(value.copy()) for value in values), *weights)
    for name, value, place, given in zip(names, results, places, numbers, strict=True):
        yield Inner(name, _array(value), *place, given, kinds[name])


def _owner(node: Any) -> str:
    """The module whose weights a node takes."""
    for value in node.inputs():
        path = []
        while value.node().kind() == "prim::GetAttr":
            path.append(value.node().s("name"))
            value = next(iter(value.node().inputs()))
        if len(path) > 1:
            return ".".join(reversed(path[1:]))
    return ""


def _numbers(node: Any) -> tuple[float, ...]:
    import torch

    held = [value.toIValue() for value in node.inputs() if value.node().kind() == "prim::Constant"]
    held = [item.item() if isinstance(item, torch.Tensor) and item.numel() == 1 else item for item in held]
    return tuple(float(item) for item in held if isinstance(item, float | int))


def _made(graph: Any) -> list[Any]:
    """The tensors that a graph computes, in order; nested blocks stay closed."""
    import torch

    nodes = [node for node in graph.nodes() if node.kind() not in ("prim::Constant", "prim::GetAttr")]
    values = [output for node in nodes for output in node.outputs()]
    return [value for value in values if isinstance(value.type(), torch._C.TensorType)]


def _onnx(reference: Any, inputs: Mapping[str, Any]) -> Iterator[Inner]:
    import onnx
    import onnxruntime

    model = onnx.load(reference.raw)
    known = {item.name for item in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name and name not in known]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    results = session.run(
        names, dict(zip([item.name for item in reference.inputs], reference.ordered(inputs), strict=True))
    )
    kinds = {name: node.op_type for node in model.graph.node for name in node.output}
    return (
        Inner(name, np.asarray(value), kind=kinds[name]) for name, value in zip(names, results, strict=True)
    )


def _array(value: Any) -> NDArray[Any]:
    value = value.detach().cpu()
    return np.asarray((value.float() if value.is_floating_point() else value).contiguous().numpy())


def _line(trace: str | None) -> str:
    """The user's own line: the innermost that is not torch's."""
    own = [frame for frame in _FRAME.findall(trace or "") if "/torch/" not in frame[0].replace("\\", "/")]
    return f"{PurePath(own[-1][0]).name}:{own[-1][1]}" if own else ""
