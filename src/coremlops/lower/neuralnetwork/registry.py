"""Which function lowers which kind of layer.

A rule's positional parameters are the layer's inputs (`Value`; `Value | None = None` for one that may be
left out; `*values: Value` for any number), and its keyword-only ones are fields of the layer, by the format's
names and as `dialects.neuralnetwork` reads them. A rule returns a value, or as many as the layer has outputs.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from coremlops.dialects.neuralnetwork import Layer
from coremlops.errors import ModelFormatError
from coremlops.lower.registry import Value


@dataclass(frozen=True, slots=True)
class LayerRule:
    """How a kind of layer is lowered: it takes `least` to `most` inputs (None: any number) and these fields.

    `moves`: the layer only moves or picks values that it is given, so that its result needs no rounding.
    """

    kind: str
    function: Callable[..., Any]
    least: int
    most: int | None
    fields: tuple[str, ...]
    moves: bool


_RULES: dict[str, LayerRule] = {}
_Function = TypeVar("_Function", bound=Callable[..., Any])


def layer(kind: str, *, moves: bool = False) -> Callable[[_Function], _Function]:
    """Register a rule for a kind of layer. Raises ValueError when there is one already."""

    def register(function: _Function) -> _Function:
        add_layer_rule(kind, function, moves=moves)
        return function

    return register


def add_layer_rule(kind: str, function: Callable[..., Any], *, moves: bool = False) -> None:
    """Register a rule; what `layer` does, for tables. Raises ValueError when there is one already."""
    if kind in _RULES:
        raise ValueError(f"two rules lower the layer {kind!r}")
    _, *parameters = inspect.signature(function).parameters.values()
    inputs = [entry for entry in parameters if entry.kind == inspect.Parameter.POSITIONAL_OR_KEYWORD]
    variadic = any(entry.kind == inspect.Parameter.VAR_POSITIONAL for entry in parameters)
    _RULES[kind] = LayerRule(
        kind,
        function,
        least=sum(entry.default is inspect.Parameter.empty for entry in inputs),
        most=None if variadic else len(inputs),
        fields=tuple(e.name for e in parameters if e.kind == inspect.Parameter.KEYWORD_ONLY),
        moves=moves,
    )


def layer_rule(kind: str) -> LayerRule | None:
    """The rule for a kind of layer; None when it is not supported."""
    import coremlops.lower.neuralnetwork.layers  # noqa: F401  the rules register themselves

    return _RULES.get(kind)


def supported_layers() -> tuple[str, ...]:
    """The kinds of layers that can be lowered, by name; those that are no single rule among them."""
    import coremlops.lower.neuralnetwork.layers  # noqa: F401

    return tuple(sorted({*_RULES, *STRUCTURAL}))


# What `network` and `control_flow` do themselves: they change which values have which name.
STRUCTURAL = ("branch", "custom", "loop", "loopBreak", "loopContinue")


def apply_rule(ctx: Any, rule: LayerRule, entry: Layer, inputs: list[Value]) -> tuple[Value, ...]:
    """Call a rule. Raises ModelFormatError when the layer has too few or too many inputs or outputs."""
    if len(inputs) < rule.least or (rule.most is not None and len(inputs) > rule.most):
        raise ModelFormatError(
            f"{entry.kind} ({entry.name}) has {len(inputs)} inputs; expected "
            f"{rule.least} to {'any number' if rule.most is None else rule.most}"
        )
    result = rule.function(ctx, *inputs, **{name: entry.fields[name] for name in rule.fields})
    values: tuple[Value, ...] = result if isinstance(result, tuple) else (result,)
    if len(values) != len(entry.outputs):
        raise ModelFormatError(
            f"{entry.kind} ({entry.name}) has {len(entry.outputs)} outputs; expected {len(values)}"
        )
    return values
