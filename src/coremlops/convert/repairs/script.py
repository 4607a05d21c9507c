"""TorchScript graphs: what is not settled in them, and running one node by node so that it can be traced."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import torch

from coremlops.convert.origin import calling, script_place
from coremlops.errors import ConversionError
from coremlops.source.program import last_line

_CONTROL = {"prim::If", "prim::Loop", "prim::RaiseException", "prim::SetAttr"}


def inlined(module: Any) -> Any:
    """A copy of the graph of `forward`, all calls inlined."""
    graph = module.forward.graph.copy()
    torch._C._jit_pass_inline(graph)
    return graph


def walk(block: Any) -> Iterator[Any]:
    """All nodes, those of inner blocks too."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from walk(inner)


def constant(value: Any) -> Any:
    """What a `prim::Constant` holds; None for another value."""
    node = value.node()
    return value.toIValue() if node.kind() == "prim::Constant" else None


def unsettled(module: Any) -> tuple[str, ...]:
    """Places with control flow, or with an attribute that is a number, a flag or a list."""
    found = []
    for node in walk(inlined(module)):
        attribute = node.kind() == "prim::GetAttr" and str(node.output().type()) in ("int", "float", "bool")
        listed = node.kind() == "prim::GetAttr" and isinstance(node.output().type(), torch._C.ListType)
        if node.kind() in _CONTROL or attribute or listed:
            found.append(str(script_place(node)))
    return tuple(dict.fromkeys(found))


def _mirror(plain: Any, module: Any) -> Any:
    """Gives a plain module the tensors and the modules of a TorchScript one, by the same names."""
    for name, tensor in module.named_parameters(recurse=False):
        plain.register_parameter(name, torch.nn.Parameter(tensor.detach(), requires_grad=False))
    for name, tensor in module.named_buffers(recurse=False):
        plain.register_buffer(name, tensor.clone())  # tracing changes it; the source stays as it is
    for name, inner in module.named_children():
        plain.add_module(name, _mirror(torch.nn.Module(), inner))
    return plain


def _attribute(module: Any, mirror: Any, name: str) -> Any:
    value = getattr(module, name)
    if isinstance(value, torch.jit.ScriptModule):
        return value, getattr(mirror, name)
    return getattr(mirror, name) if isinstance(value, torch.Tensor) and hasattr(mirror, name) else value


class Replay(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A TorchScript module whose nodes run one by one from Python: what is decided, `torch.jit.trace` does
    not see; what is computed, it does. Its buffers keep the names that `--state` is given."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.__nodes = _Nodes(module)
        _mirror(self, module)

    def forward(self, *inputs: Any) -> Any:
        return self.__nodes.run(self, inputs)


class _Nodes:
    def __init__(self, module: Any) -> None:
        self._module, self._graph = module, inlined(module)

    def run(self, mirror: Any, inputs: tuple[Any, ...]) -> Any:
        names = list(self._graph.inputs())
        values = dict(zip((name.unique() for name in names), ((self._module, mirror), *inputs), strict=False))
        for name, argument in zip(names[1:], self._module.forward.schema.arguments[1:], strict=True):
            values.setdefault(name.unique(), argument.default_value)
        return self._block(self._graph, values)[0]

    def _block(self, block: Any, values: dict[int, Any]) -> list[Any]:
        for node in block.nodes():
            results = self._node(node, [values.get(value.unique()) for value in node.inputs()], values)
            for value, result in zip(node.outputs(), results, strict=True):
                values[value.unique()] = result
        ends = block.return_node() if hasattr(block, "return_node") else block.returnNode()
        return [values[value.unique()] for value in ends.inputs()]

    def _node(self, node: Any, inputs: list[Any], values: dict[int, Any]) -> list[Any]:
        kind = node.kind()
        if kind == "prim::Constant":
            return [node.output().toIValue()]
        if kind == "prim::GetAttr":
            module, mirror = inputs[0]
            return [_attribute(module, mirror, node.s("name"))]
        if kind == "prim::If":
            first, second = node.blocks()
            return self._block(first if inputs[0] else second, values)
        if kind == "prim::Loop":
            return self._loop(node, inputs, values)
        if kind == "prim::RaiseException":
            raise ConversionError(f"{script_place(node)}: the program raises {inputs[0]!r}")
        if kind in ("prim::TupleUnpack", "prim::ListUnpack"):
            return list(inputs[0])
        if kind == "prim::SetAttr":
            (module, mirror), value = inputs
            if value is _attribute(module, mirror, node.s("name")):
                return []  # `self.total += x` changes the tensor, and then sets it to itself
            raise ConversionError(
                f"{script_place(node)}: the attribute {node.s('name')} is set while the program runs",
                hint="change a buffer in place (self.total += x), or give it as an input and an output",
            )
        if kind in _PLAIN:
            return [_PLAIN[kind](*inputs)]
        return self._call(node, inputs)

    def _loop(self, node: Any, inputs: list[Any], values: dict[int, Any]) -> list[Any]:
        (body,) = node.blocks()
        most, going, *carried = inputs
        turn = 0
        names = [value.unique() for value in body.inputs()]
        while going and turn < most:
            values.update(zip(names, [turn, *carried], strict=True))
            going, *carried = self._block(body, values)
            turn += 1
        return carried

    def _call(self, node: Any, inputs: list[Any]) -> list[Any]:
        schema = torch._C.parse_schema(node.schema())
        # By its overload: by its name alone, torch takes 3 != 2 for something else.
        operation, _, _ = torch._C._get_operation_overload(schema.name, schema.overload_name)
        pairs = list(zip(schema.arguments, inputs, strict=True))
        place = script_place(node)
        try:
            result = calling(place)(
                operation,
                [value for argument, value in pairs if not argument.kwarg_only],
                {argument.name: value for argument, value in pairs if argument.kwarg_only},
            )
        except Exception as error:  # torch raises anything
            raise ConversionError(f"{place}: {node.kind()} fails: {last_line(error)}") from error
        count = node.outputsSize()
        return list(result) if count > 1 else [result] if count else []


_PLAIN: dict[str, Callable[..., Any]] = {
    "prim::ListConstruct": lambda *items: list(items),
    "prim::TupleConstruct": lambda *items: items,
    "prim::TupleIndex": operator.getitem,
    "prim::dtype": lambda value: value.dtype,
    "prim::device": lambda value: value.device,
    "prim::data": lambda value: value,
    "prim::NumToTensor": lambda value: value,
    "prim::unchecked_cast": lambda value: value,
    "prim::unchecked_unwrap_optional": lambda value: value,
    "prim::Uninitialized": lambda: None,
    "prim::min": min,
    "prim::max": max,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__not__": operator.not_,
    "aten::__contains__": operator.contains,
    "aten::__getitem__": operator.getitem,
    "aten::len": len,
    "aten::dim": lambda value: value.dim(),
    "aten::size": lambda value, axis=None: list(value.shape) if axis is None else value.shape[axis],
    "aten::Bool": bool,
    "aten::Int": int,
    "aten::Float": float,
    "aten::format": lambda text, *values: text.format(*values),
    "aten::list": list,
    "aten::append": lambda items, item: items.append(item) or items,
    "aten::warn": lambda *words: None,
    "prim::Print": lambda *words: None,
}
