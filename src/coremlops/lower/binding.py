"""From an operation's inputs to the arguments of its rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from coremlops.dialects.mil.graph import Constant, Operation, Ref
from coremlops.errors import ModelFormatError
from coremlops.lower.registry import Parameter, Rule, State, Unsupported, Value

# Gives the tensor behind an input, or the Python value of a constant that is no tensor of numbers.
Lookup: TypeAlias = Callable[[Ref | Constant], Any]

_CONVERT: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "bool": bool}


def bind(rule: Rule, operation: Operation, lookup: Lookup) -> dict[str, Any]:
    """The arguments of `rule.function`, by name.

    Raises Unsupported for an input that the rule does not know or that must be constant and is not, and
    ModelFormatError for one that is missing.
    """
    unknown = sorted(set(operation.inputs) - set(rule.parameters))
    if unknown:
        raise Unsupported(f"input {', '.join(unknown)}")
    arguments: dict[str, Any] = {}
    for name, parameter in rule.parameters.items():
        bindings = operation.inputs.get(name, ())
        if not bindings:
            if parameter.required:
                raise ModelFormatError(f"{operation.type} ({operation.name}) has no input {name!r}")
            continue
        if parameter.kind in ("values", "entries"):
            found = tuple(lookup(entry) for entry in bindings)
            allowed = (Value,) if parameter.kind == "values" else (Value, str)
            if not all(isinstance(entry, allowed) for entry in found):
                raise ModelFormatError(
                    f"{operation.type} ({operation.name}): input {name!r} holds what is no tensor"
                )
            arguments[name] = found
        elif len(bindings) == 1:
            arguments[name] = _argument(name, parameter, lookup(bindings[0]), operation)
        else:
            raise ModelFormatError(
                f"{operation.type} ({operation.name}) has {len(bindings)} values for {name!r}; expected one"
            )
    return arguments


def _argument(name: str, parameter: Parameter, found: Any, operation: Operation) -> Any:
    if parameter.kind == "value":
        if isinstance(found, Value):
            return found
    elif parameter.kind == "state":
        if isinstance(found, State):
            return found
    elif parameter.kind in ("str", "labels"):
        if isinstance(found, str if parameter.kind == "str" else tuple):
            return found if parameter.kind == "str" else tuple(_label(entry) for entry in found)
    elif isinstance(found, Value):
        if found.constant is None:
            raise Unsupported(f"{name} known at run time alone")
        if parameter.kind == "ints" and found.constant.dtype.kind in "iu":
            return found.ints(name)
        if parameter.kind in _CONVERT and found.constant.size == 1:
            return _CONVERT[parameter.kind](found.constant.item())
    raise ModelFormatError(
        f"{operation.type} ({operation.name}): input {name!r} is no {parameter.kind}; got {_show(found)}"
    )


def _label(entry: Any) -> str | int:
    return int(entry.item()) if isinstance(entry, np.ndarray) else str(entry)


def _show(found: Any) -> str:
    return str(found.type) if isinstance(found, Value) else type(found).__name__
