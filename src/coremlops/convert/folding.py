"""Preparation of inputs and what becomes of outputs, as a module around the user's: part of the program."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.utils import _pytree

from coremlops.convert.interface import Input, Output
from coremlops.convert.plan import Plan
from coremlops.convert.words import identifier
from coremlops.errors import UsageError


def folded(
    net: Any, inputs: tuple[Input, ...], outputs: tuple[Output, ...], places: list[int]
) -> torch.nn.Module:
    """`net` between preparation and what becomes of its outputs; a tuple of those at `places`.

    A module stays itself, with another `forward`: names of its parts and buffers are those of the user's.
    """
    ahead = [_Preparation(item) for item in inputs]

    def around(call: Any, values: tuple[Any, ...]) -> Any:
        prepared = [item(value) for item, value in zip(ahead, values, strict=True)]
        leaves = _pytree.tree_leaves(call(*prepared))
        return tuple(finish(item, leaves[place]) for item, place in zip(outputs, places, strict=True))

    if isinstance(net, torch.jit.ScriptModule | torch.fx.GraphModule):

        class Around(torch.nn.Module):  # type: ignore[misc, unused-ignore]
            def __init__(self) -> None:
                super().__init__()
                self.net = net
                self.training = False

            def forward(self, *values: Any) -> Any:
                return around(self.net, values)

        return Around()

    own = type(net).forward

    class Within(type(net)):  # type: ignore[misc]
        def forward(self, *values: Any) -> Any:
            return around(lambda *prepared: own(self, *prepared), values)

    shell = copy.copy(net)
    shell.__class__ = Within
    return shell


class _Preparation:
    """Without what Core ML computes itself of an image: scale and bias."""

    def __init__(self, item: Input) -> None:
        self.item = item
        self.numbers = {
            what: torch.tensor(getattr(item, what), dtype=torch.float32) for what in ("bias", "mean", "std")
        }

    def __call__(self, value: Any) -> Any:
        if self.item.type == "tensor":
            if self.item.scale != 1:
                value = value * self.item.scale
            if self.item.bias:
                value = value + self._channels("bias", value)
        if self.item.mean:
            value = value - self._channels("mean", value)
        if self.item.std:
            value = value / self._channels("std", value)
        return value

    def _channels(self, what: str, value: Any) -> Any:
        """[1, numbers, 1, ...] for a value of more axes."""
        shape = [1] * value.dim()
        count = len(getattr(self.item, what))
        if count > 1:
            shape[1] = count
        return self.numbers[what].reshape(shape)


def finish(item: Output, value: Any) -> Any:
    """What becomes of an output."""
    axis = item.axis if item.axis is not None else 1 if value.dim() == 4 else -1
    if item.post == "softmax":
        value = torch.softmax(value, axis)
    elif item.post == "sigmoid":
        value = torch.sigmoid(value)
    elif item.post == "argmax":
        value = torch.argmax(value, axis)
    if item.scale != 1:
        value = value * item.scale
    return value + item.bias if item.bias else value


def picked(outputs: tuple[Output, ...], names: list[str]) -> list[int]:
    """The place of each output among the source's. Raises UsageError for one that it lacks."""
    places = []
    for i, item in enumerate(outputs):
        wanted = item.source or (item.name if item.name in names else "")
        place = names.index(wanted) if wanted in names else i
        if (wanted and wanted not in names) or place >= len(names):
            raise UsageError(
                f"output {item.name}: the source gives {', '.join(names)}, not {wanted or 'more'}"
            )
        places.append(place)
    return places


def whole_outputs(made: Plan, names: list[str]) -> tuple[Output, ...]:
    """The outputs that are asked for; without any, the source's own."""
    return made.outputs or tuple(Output(identifier(name)) for name in names)
