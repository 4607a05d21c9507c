"""Which function lowers which op.

A rule's signature is the op's inputs with MIL's defaults; how an input arrives follows its annotation:

    Value             a tensor, constant or not (`.constant` tells)
    Values            a variadic input
    int, float, bool, str, Ints, Labels     a constant of the program, as Python values
    State             a value that outlives a prediction
    Entries           a variadic input of tensors and strings
    ... | None        None when the op does not name the input
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, TypeVar, get_args, get_type_hints

import numpy as np

from coremlops.dialects.mil.graph import TensorType
from coremlops.lower.onnx_graph import widened

Ints: TypeAlias = tuple[int, ...]
Labels: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class State:
    """A value that lives longer than one prediction; what it holds now is in `Lowering.states`."""

    name: str


class Unsupported(Exception):
    """Raised by a rule for a case that it does not cover; all of them are reported together."""


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A tensor in the ONNX graph. `type`: as MIL declares it; None for a step inside a rule.

    `stored`: the array of a constant as the file has it, where fp16 stands for float32: whoever only moves
    or renames a weight takes this one, so that it is not widened before the engine does it. None for what is
    known at run time alone.
    """

    name: str
    type: TensorType | None = None
    stored: np.ndarray[Any, Any] | None = None

    @property
    def constant(self) -> np.ndarray[Any, Any] | None:
        """The array of a constant, fp16 decoded to float32; None for what is known at run time alone."""
        return None if self.stored is None else widened(self.stored)

    @property
    def shape(self) -> tuple[int | None, ...]:
        """The declared shape. Raises Unsupported when even the rank is unknown."""
        if self.type is None or self.type.shape is None:
            raise Unsupported("a tensor whose rank is unknown until run time")
        return self.type.shape

    @property
    def rank(self) -> int:
        """The declared rank."""
        return len(self.shape)

    @property
    def dtype(self) -> str:
        """The declared dtype, in MIL's words."""
        if self.type is None:
            raise Unsupported("a tensor of unknown type")
        return self.type.dtype

    def axis(self, axis: int) -> int:
        """An axis counted from the front. Raises ValueError when there is no such axis."""
        if not -self.rank <= axis < self.rank:
            raise ValueError(f"axis {axis} of a tensor of rank {self.rank}")
        return axis % self.rank

    def ints(self, what: str) -> Ints:
        """The value of a constant of integers. Raises Unsupported when it is known at run time alone."""
        if self.constant is None:
            raise Unsupported(f"{what} known at run time alone")
        return tuple(int(value) for value in self.constant.ravel())


Values: TypeAlias = tuple[Value, ...]
Entries: TypeAlias = tuple[Value | str, ...]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One input of a rule: how it arrives, and what it is when the op does not name it."""

    kind: str
    required: bool
    default: Any


@dataclass(frozen=True, slots=True)
class Rule:
    """How an op is lowered.

    `moves`: the op only moves or picks values that it is given, so its result needs no rounding of its own,
    and the rounding of its input may be done after it: `round(relu(x)) == relu(round(x))`.
    `rounded`: its results hold only what was rounded where it was made, in a nested block or in NumPy.
    """

    op: str
    function: Callable[..., Any]
    moves: bool
    rounded: bool

    @property
    def parameters(self) -> dict[str, Parameter]:
        """Its inputs by name, from the signature; looked at when a model uses the op, as each takes 0.2 ms.

        Raises ValueError for an annotation that no input has.
        """
        return _parameters(self.op, self.function)


_RULES: dict[str, Rule] = {}
_KINDS = {
    Value: "value",
    Values: "values",
    Ints: "ints",
    Labels: "labels",
    State: "state",
    Entries: "entries",
}
_SCALARS = {int: "int", float: "float", bool: "bool", str: "str"}
_RuleFunction = TypeVar("_RuleFunction", bound=Callable[..., Any])


def lowers(
    op: str, *, moves: bool = False, rounded: bool = False
) -> Callable[[_RuleFunction], _RuleFunction]:
    """Register a rule for `op`. Raises ValueError when there is one already."""

    def register(function: _RuleFunction) -> _RuleFunction:
        add_rule(op, function, moves=moves, rounded=rounded)
        return function

    return register


def add_rule(op: str, function: Callable[..., Any], *, moves: bool, rounded: bool = False) -> None:
    """Register a rule; what `lowers` does, for tables. Raises ValueError when there is one already."""
    if op in _RULES:
        raise ValueError(
            f"two rules lower {op!r}: {_RULES[op].function.__qualname__}, {function.__qualname__}"
        )
    _RULES[op] = Rule(op, function, moves, rounded)


@cache
def _parameters(op: str, function: Callable[..., Any]) -> dict[str, Parameter]:
    hints = get_type_hints(function)
    _, *parameters = inspect.signature(function).parameters.values()
    return {entry.name: _parameter(op, entry, hints[entry.name]) for entry in parameters}


def _parameter(op: str, entry: inspect.Parameter, hint: Any) -> Parameter:
    required = entry.default is inspect.Parameter.empty
    inner = [part for part in get_args(hint) if part is not type(None)]
    bare = inner[0] if type(None) in get_args(hint) and len(inner) == 1 else hint
    kind = _SCALARS.get(bare) if isinstance(bare, type) else None
    kind = kind or _KINDS.get(bare)
    if kind is None:
        raise ValueError(
            f"rule for {op!r}: input {entry.name!r} has the annotation {hint}, which no input has"
        )
    return Parameter(kind, required, None if required else entry.default)


def rule_for(op: str) -> Rule | None:
    """The rule for an op; None when it is not supported."""
    import coremlops.lower.ops  # noqa: F401  the rules register themselves when this is imported

    return _RULES.get(op)


def supported_ops() -> tuple[str, ...]:
    """The ops that can be lowered, by name."""
    import coremlops.lower.ops  # noqa: F401

    return tuple(sorted({"const", *_RULES}))
