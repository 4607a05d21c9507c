"""Repairs of a PyTorch program before coremltools reads it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from coremlops.convert.origin import Place, node_place, script_place
from coremlops.errors import ConversionError

_INT32 = 2**31
# Of these, an integer past 32 bits means "to the end".
_ENDS = ("slice", "narrow", "arange", "repeat_interleave")


def dialect(raw: Any, examples: tuple[Any, ...] | None) -> tuple[Any, tuple[str, ...]]:
    """`run_decompositions({})`, which coremltools asks of every exported program.

    Of a program that was decomposed, saved and loaded, it drops what nobody takes and coremltools cannot bind
    (the batch norm's mean and deviation).
    """
    if not hasattr(raw, "run_decompositions"):
        return raw, ()
    was = str(raw.dialect)
    return raw.run_decompositions({}), (f"dialect {was}",)


def decompose(raw: Any, examples: tuple[Any, ...] | None) -> tuple[Any, tuple[str, ...]]:
    """Ops that coremltools has no word for, each as the ops that torch itself decomposes it into."""
    import torch
    from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    if not hasattr(raw, "run_decompositions"):
        return raw, ()
    table, done = None, []
    for _ in range(4):  # what a decomposition gives may be unknown, too
        missing: dict[Any, list[str]] = {}
        for node in raw.graph.nodes:
            if node.op != "call_function" or not isinstance(node.target, torch._ops.OpOverload):
                continue
            kind = sanitize_op_kind(node.target.name())
            if kind not in _TORCH_OPS_REGISTRY.name_to_func_mapping:
                missing.setdefault(node.target, []).append(node.name)
        if missing and table is None:
            table = torch.export.default_decompositions()
        known = {target: table[target] for target in missing if table is not None and target in table}
        if not known:
            break
        done += [name for target in known for name in missing[target]]
        raw = raw.run_decompositions(known)
    return raw, tuple(done)


def replay(raw: Any, examples: tuple[Any, ...] | None) -> tuple[Any, tuple[str, ...]]:
    """A TorchScript program with control flow or with numbers in attributes, traced anew on an example.

    Where the program asks for the shape of an input, the example's shape answers.
    """
    import torch

    if examples is None or not isinstance(raw, torch.jit.ScriptModule):
        return raw, ()
    from coremlops.convert.repairs.script import Replay, unsettled

    found = unsettled(raw)
    if not found:
        return raw, ()
    with torch.no_grad():
        traced = torch.jit.trace(Replay(raw), examples, check_trace=False)
    return traced, found


def training_mode(raw: Any, examples: tuple[Any, ...] | None) -> tuple[Any, tuple[str, ...]]:
    """Refuses a dropout that drops, and a batch norm that takes the batch's own statistics."""
    for kind, arguments, place in _calls(raw):
        position = {"dropout": 2, "feature_dropout": 2, "alpha_dropout": 2, "batch_norm": 5}.get(kind)
        if position is not None and len(arguments) > position and arguments[position] is True:
            raise ConversionError(
                f"{place}: {kind} is in training mode",
                hint="call model.eval() before the model is exported, traced or saved",
            )
    return raw, ()


def wide_integers(raw: Any, examples: tuple[Any, ...] | None) -> tuple[Any, tuple[str, ...]]:
    """Refuses integers past 32 bits, the widest that Core ML has; coremltools would cut them off."""
    for kind, arguments, place in _calls(raw):
        if kind.startswith(_ENDS) or kind in ("clamp", "clamp_max", "clamp_min"):
            continue
        for value in arguments:
            if type(value) is int and not -_INT32 <= value < _INT32:
                raise _wide(place, kind, value)
    for name, tensor in _constants(raw):
        if str(tensor.dtype) == "torch.int64" and tensor.numel():
            least, most = int(tensor.min()), int(tensor.max())
            if least < -_INT32 or most >= _INT32:
                raise _wide(Place(module=name), "constant", most if most >= _INT32 else least)
    return raw, ()


def _wide(place: Place, kind: str, value: int) -> ConversionError:
    return ConversionError(
        f"{place}: {kind} with {value}, an integer of more than 32 bits; Core ML has none",
        hint="keep what needs 64 bits (hashes, times in ns) outside of the model",
    )


def _calls(raw: Any) -> Iterator[tuple[str, list[Any], Place]]:
    """(op, arguments where known, place) of each call of a program; the op without namespace and overload."""
    import torch

    if hasattr(raw, "graph_signature"):
        for node in raw.graph.nodes:
            if node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
                name = node.target._schema.name.partition("::")[2].rstrip("_")
                yield name, list(node.args), node_place(node)
    elif isinstance(raw, torch.jit.ScriptModule):
        from coremlops.convert.repairs.script import constant, inlined, walk

        for node in walk(inlined(raw)):
            if node.kind().startswith("aten::"):
                name = node.kind().partition("::")[2].rstrip("_")
                yield name, [constant(value) for value in node.inputs()], script_place(node)


def _constants(raw: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(raw, "graph_signature"):
        yield from raw.state_dict.items()
        yield from ((name, value) for name, value in raw.constants.items() if hasattr(value, "dtype"))
    elif hasattr(raw, "named_buffers"):
        yield from raw.named_buffers()
