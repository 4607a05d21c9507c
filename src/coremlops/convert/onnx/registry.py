"""Which ONNX ops there are: one small function of torch each, with the attributes that it understands."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from coremlops.errors import ConversionError

# Elements of one tensor that a constant of the file may blow up to.
LARGEST = 1 << 28


@dataclass(frozen=True, slots=True)
class Rule:
    """`call(node, *inputs)`: tensors, None for an input left out, and Python lists at the `static` places.

    `attributes`: what it understands, each with the values that it takes (empty: any).
    """

    call: Callable[..., Any]
    attributes: Mapping[str, tuple[Any, ...]]
    static: tuple[int, ...] = ()


RULES: dict[str, Rule] = {}


@dataclass
class Node:
    """A node of the graph; `known` are those of its inputs that no data decides."""

    name: str
    op: str
    opset: int
    attributes: dict[str, Any]
    outputs: int = 1
    known: dict[int, torch.Tensor] = field(default_factory=dict)
    kept: dict[str, Any] = field(default_factory=dict)
    asked: bool = False

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def sizes(self, x: torch.Tensor) -> list[int]:
        """The shape as numbers, which then holds for this shape alone."""
        self.asked = True
        return [int(size) for size in x.shape]

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What is made of constants when the module is made, and not again."""
        if name not in self.kept:
            self.kept[name] = make()
        return self.kept[name]

    def refused(self, why: str) -> ConversionError:
        return ConversionError(f"ONNX node {self.name} ({self.op}): {why}")

    def room(self, shape: Sequence[int]) -> list[int]:
        """The shape, if a tensor of it may be made."""
        if math.prod(max(int(size), 1) for size in shape) > LARGEST:
            raise self.refused(f"at most {LARGEST} elements expected, got the shape {list(shape)}")
        return [int(size) for size in shape]


def op(
    names: str, attributes: str = "", *, static: tuple[int, ...] = (), **only: tuple[Any, ...]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function for ops; `only`: attributes that take some values alone."""

    def register(call: Callable[..., Any]) -> Callable[..., Any]:
        for name in names.split():
            if name in RULES:
                raise ValueError(f"two rules for {name}")
            RULES[name] = Rule(call, dict.fromkeys(attributes.split(), ()) | only, static)
        return call

    return register
