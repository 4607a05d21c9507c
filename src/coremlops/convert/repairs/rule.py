"""What a repair is: a named rule, when it acts, and what it did."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# program: on the source, before coremltools sees it, as (raw, examples) -> (raw, where it acted).
# front end: how one kind of torch op becomes MIL ops; False leaves the op to coremltools.
# graph: on the MIL program, before coremltools gives it types of 16 bits.
Stage = Literal["program", "front end", "graph"]
ProgramRule = Callable[[Any, "tuple[Any, ...] | None"], "tuple[Any, tuple[str, ...]]"]
OpRule = Callable[[Any, Any], bool]
GraphRule = Callable[[Any], "tuple[str, ...]"]


@dataclass(frozen=True, slots=True)
class Rule:
    """A trap and what mends it. `why`: what happens without; `does`: what is done instead.

    Exactly one of `program`, `ops` (by coremltools' kind of op) and `graph` is given. `float16`: the trap is
    one of 16 bits, and nothing is done where the model computes in float32. `refuses`: nothing can be mended
    without changing the function, so it raises ConversionError, with the place.
    """

    name: str
    why: str
    does: str
    program: ProgramRule | None = None
    ops: Mapping[str, OpRule] = field(default_factory=dict)
    graph: GraphRule | None = None
    float16: bool = False
    refuses: bool = False

    @property
    def stage(self) -> Stage:
        return "program" if self.program else "front end" if self.ops else "graph"


@dataclass(frozen=True, slots=True)
class Repair:
    """A rule that was applied. `where`: the ops or modules that it changed, by their names in the source."""

    name: str
    does: str
    where: tuple[str, ...] = ()
