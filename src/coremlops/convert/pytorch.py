"""A program of PyTorch as a coremltools model: exported, TorchScript, or a module with example inputs."""

from __future__ import annotations

import contextlib
import inspect
import re
import warnings
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree

from coremlops.convert.folding import finish, folded, picked, whole_outputs
from coremlops.convert.interface import Output
from coremlops.convert.made import Made
from coremlops.convert.options import ConvertOptions
from coremlops.convert.origin import Trail, document, following
from coremlops.convert.plan import Plan, corners
from coremlops.convert.plan import plan as planned
from coremlops.convert.precision import Precision
from coremlops.convert.repairs import mending
from coremlops.convert.types import input_types, output_types
from coremlops.convert.words import near
from coremlops.errors import ConversionError, CoremlopsError, InputError, UsageError
from coremlops.source import Reference
from coremlops.source.program import last_line

_HINT = "rewriting the module without the named op is the usual way"
_TOO_OLD = re.compile(r"No available version for (\w+) in .*?(iOS\d+) opset.*?at least .*?(iOS\d+)", re.S)


def to_coreml(reference: Reference, options: ConvertOptions) -> Made:
    """Raises ConversionError with the module and the line of the op that does not convert; UsageError and
    InputError for what the source cannot take."""
    import coremltools as ct

    plan = planned(reference, options)
    net = _net(reference)
    examples = _examples(reference, plan)
    with _kept(net):
        result, names = _tried(net, examples, reference, plan, options)
    outputs = whole_outputs(plan, names)
    places = picked(outputs, names)
    if plan.labels:
        _check_classes(finish(outputs[0], _pytree.tree_leaves(result)[places[0]]), plan.labels, options)
    folds = any(item.folds for item in plan.inputs) or any(item.folds for item in outputs)
    if folds or places != list(range(len(names))) or not _plain(result):
        net = folded(net, plan.inputs, outputs, places)
    elif reference.kind != "torch.nn.Module":
        net = None  # the program that was saved, as it is
    with _kept(net if net is not None else _net(reference)):
        raw = reference.raw if net is None else _captured(net, examples, plan, options, reference)
    precision = Precision(
        options.precision, [name.removesuffix("_cast_fp16") for name in options.keep_float32]
    )
    named = {} if plan.labels and not options.outputs else {"outputs": output_types(outputs)}
    with (
        mending(
            raw, skip=options.without_repairs, float16=options.precision == "float16", examples=examples
        ) as mend,
        following() as trail,
    ):
        try:
            made = ct.convert(
                mend.raw,
                convert_to="mlprogram",
                inputs=input_types(plan),
                **named,
                **_classifier(plan, options, outputs),
                **_states(net if net is not None else _net(reference), options),
                minimum_deployment_target=getattr(ct.target, options.target),
                compute_precision=precision.for_coremltools(ct),
                pass_pipeline=mend.pipeline(),
                skip_model_load=True,
            )
        except CoremlopsError:
            raise
        except Exception as error:  # coremltools lets anything out: ValueError, KeyError, AssertionError, ...
            raise _failure(error, reference, trail) from error
        precision.check()
        if net is not None and hasattr(net, "net"):
            _own_names(made)
        return Made(
            made,
            tuple(item.name for item in plan.inputs),
            plan.labels,
            plan.picture,
            mend.repairs,
            document(trail.origins(made)),
        )


def _net(reference: Reference) -> Any:
    """What takes the inputs one by one, in the source's order."""
    if reference.kind != "torch.export":
        return reference.raw
    spec = reference.raw.call_spec.in_spec
    call = reference.call  # type: ignore[attr-defined]
    return _Named(call, spec) if spec.children()[1].num_leaves else call


class _Named(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """An exported program that takes some inputs by name."""

    def __init__(self, net: Any, spec: Any) -> None:
        super().__init__()
        self.net, self.spec = net, spec

    def forward(self, *values: Any) -> Any:
        args, named = _pytree.tree_unflatten(list(values), self.spec)
        return self.net(*args, **named)


def _examples(reference: Reference, plan: Plan) -> tuple[Any, ...]:
    """Inputs of the default shapes: those that came with the source, or seeded ones; whole numbers are 0."""
    made = []
    generator = torch.Generator().manual_seed(0)
    for i, (tensor, shape) in enumerate(zip(plan.tensors, plan.defaults, strict=True)):
        given = reference.examples[i] if reference.examples is not None else None
        if given is not None and tuple(given.shape) == shape:
            made.append(given)
        else:
            dtype = getattr(torch, tensor.dtype)
            value = torch.randn(shape, generator=generator) if dtype.is_floating_point else torch.zeros(shape)
            made.append(value.to(dtype))
    return tuple(made)


@contextlib.contextmanager
def _kept(net: Any) -> Iterator[None]:
    """Buffers are after the block what they were before."""
    before = {name: value.clone() for name, value in net.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in net.named_buffers():
                if name in before:
                    value.copy_(before[name])


def _tried(
    net: Any, examples: tuple[Any, ...], reference: Reference, plan: Plan, options: ConvertOptions
) -> tuple[Any, list[str]]:
    """What the source answers, and the names of its outputs.

    It must be a function, give numbers, and take every shape that is asked for.
    """
    result = _asked(net, examples, reference)
    leaves = list(result.values()) if isinstance(result, Mapping) else _pytree.tree_leaves(result)
    names = [str(name) for name in result] if isinstance(result, Mapping) else []
    names = names or [f"output_{i}" for i in range(len(leaves))]
    wrong = [value for value in leaves if not isinstance(value, torch.Tensor)]
    if wrong or not leaves:
        got = type(wrong[0]).__name__ if wrong else "nothing"
        raise InputError(f"{reference.name}: tensors as outputs expected, got {got}")
    for name, value in zip(names, leaves, strict=True):
        if value.is_floating_point() and bool(torch.isnan(value).any()):
            given = "its own examples" if reference.examples is not None else "random inputs"
            raise ConversionError(
                f"the source answers NaN in {name} for {given}",
                hint="look at the weights, and at what divides by zero or takes a logarithm",
            )
    if not options.states:
        again = _pytree.tree_leaves(_asked(net, examples, reference))
        if not all(torch.equal(a, b) for a, b in zip(leaves, again, strict=True)):
            raise ConversionError(
                "the source answers one input in two ways",
                hint="it was saved in training mode (call model.eval()), or it keeps something: --state",
            )
    for shapes in corners(plan):
        if shapes != plan.defaults:
            values = (torch.zeros(s, dtype=e.dtype) for s, e in zip(shapes, examples, strict=True))
            _asked(net, tuple(values), reference)
    return result, names


def _check_classes(value: Any, labels: tuple[str, ...], options: ConvertOptions) -> None:
    """A classifier gives one probability a label; Core ML names the largest."""
    if value.numel() != len(labels) or value.shape[-1] != len(labels):
        raise InputError(
            f"the source: one probability a label expected, [1, {len(labels)}], got {list(value.shape)}"
        )
    least, most, total = float(value.min()), float(value.max()), float(value.sum())
    several = options.outputs and options.outputs[0].post == "sigmoid"  # each class for itself
    if least < 0 or most > 1.001 or (abs(total - 1) > 1e-3 and not several):
        raise ConversionError(
            f"the source's outputs are no probabilities: from {least:.4g} to {most:.4g}, sum {total:.4g}",
            hint="end the module with torch.softmax(logits, dim=1), or fold it in: "
            "--output probabilities=tensor,post=softmax",
        )


def _asked(net: Any, values: tuple[Any, ...], reference: Reference) -> Any:
    try:
        with torch.no_grad():
            return net(*values)
    except Exception as error:  # torch raises anything from RuntimeError to AssertionError
        shapes = ", ".join(str(list(value.shape)) for value in values)
        raise InputError(
            f"{reference.name}: the source does not take {shapes}: {last_line(error)}",
            hint="shapes (or width, height and color in model.json) must be those that it is made for",
        ) from error


def _plain(result: Any) -> bool:
    """One tensor, or a flat tuple of them: what coremltools reads."""
    if isinstance(result, torch.Tensor):
        return True
    return isinstance(result, tuple) and all(isinstance(value, torch.Tensor) for value in result)


def _captured(
    net: Any, examples: tuple[Any, ...], plan: Plan, options: ConvertOptions, reference: Reference
) -> Any:
    """The module as a program: traced; where the source was exported, or it is asked for, exported."""
    try:
        if reference.kind != "torch.export" and options.capture == "trace":
            with torch.no_grad():
                return torch.jit.trace(net, examples, check_trace=False)
        axes = [
            {i: torch.export.Dim.AUTO for i, axis in enumerate(item.shapes[0]) if _open(item.shapes, i)}
            for item in plan.inputs
        ]
        by_star = list(inspect.signature(net.forward).parameters) == ["values"]
        dynamic = (tuple(axes),) if by_star else tuple(axes)
        return torch.export.export(net, examples, dynamic_shapes=dynamic if any(axes) else None)
    except Exception as error:  # the user's own code
        way = "export" if options.capture == "trace" else "trace"
        hint = f"--capture {way} is another way" if reference.kind == "torch.nn.Module" else ""
        raise ConversionError(
            f"{reference.name}: torch cannot capture it: {last_line(error)}", hint=hint
        ) from error


def _open(shapes: tuple[Any, ...], axis: int) -> bool:
    return len({shape[axis] for shape in shapes}) > 1 or isinstance(shapes[0][axis], tuple)


def _classifier(plan: Plan, options: ConvertOptions, outputs: tuple[Output, ...]) -> dict[str, Any]:
    if not plan.labels:
        return {}
    import coremltools as ct

    more = {"predicted_probabilities_output": outputs[0].name} if options.outputs else {}
    return {"classifier_config": ct.ClassifierConfig(list(plan.labels), options.label_name, **more)}


def _states(net: Any, options: ConvertOptions) -> dict[str, Any]:
    if not options.states:
        return {}
    import coremltools as ct

    buffers = dict(net.named_buffers())
    found: dict[str, Any] = {}
    for pattern in options.states:
        names = [name for name in buffers if fnmatchcase(name.removeprefix("net."), pattern)]
        if not names:
            known = [name.removeprefix("net.") for name in buffers]
            raise UsageError(
                f"states: no buffer of the module matches {pattern}; it has {', '.join(known) or 'none'}",
                hint=near(pattern, known),
            )
        found |= {name: buffers[name] for name in names}
    for name, value in found.items():
        if bool((value != 0).any()):
            warnings.warn(
                f"the state {name} begins with values in the source, and as zeros in Core ML: "
                "the app has to write them before the first prediction",
                stacklevel=2,
            )
    return {
        "states": [
            ct.StateType(ct.TensorType(shape=tuple(value.shape), dtype=np.float16), name=name)
            for name, value in found.items()
        ]
    }


def _own_names(made: Any) -> None:
    """States of a module that was put inside another: without what that calls it."""
    spec = made._spec
    for state in spec.description.state:
        old, new = state.name, state.name.removeprefix("net_")
        state.name = new
        for function in spec.mlProgram.functions.values():
            for item in function.inputs:
                item.name = new if item.name == old else item.name
            for block in function.block_specializations.values():
                _rename(block, old, new)


def _rename(block: Any, old: str, new: str) -> None:
    for operation in block.operations:
        for argument in operation.inputs.values():
            for binding in argument.arguments:
                if binding.name == old:
                    binding.name = new
        for inner in operation.blocks:
            _rename(inner, old, new)


def _failure(error: Exception, reference: Reference, trail: Trail) -> ConversionError:
    too_old = _TOO_OLD.search(str(error))
    if too_old:
        op, target, least = too_old.groups()
        said = f"the op {op} needs {least}, the target is {target}"
        hint = f"--target {least}"
    else:
        said, hint = f"{type(error).__name__}: {last_line(error)}", _HINT
    where = ""
    if trail.failed is not None:
        where = f"{trail.failed}: {trail.op}: "
    return ConversionError(f"{reference.name} does not convert: {where}{said}", hint=hint)
