"""Preparation of inputs and what becomes of outputs, as a module around the user's: part of the program."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree

from coremlops.convert.interface import Input, Output
from coremlops.convert.plan import Plan
from coremlops.errors import UsageError


class Folded(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """`net` between what `Plan` asks for. It gives a tuple of tensors, `picked` of them all, in order."""

    def __init__(self, net: Any, inputs: tuple[Input, ...], outputs: tuple[Output, ...], picked: list[int]) -> None:
        super().__init__()
        self.net = net
        self.inputs = inputs
        self.outputs = outputs
        self.picked = picked

    def forward(self, *values: Any) -> Any:
        prepared = [prepare(item, value) for item, value in zip(self.inputs, values, strict=True)]
        leaves = _pytree.tree_leaves(self.net(*prepared))
        return tuple(finish(item, leaves[place]) for item, place in zip(self.outputs, self.picked, strict=True))


def prepare(item: Input, value: Any) -> Any:
    """Without what Core ML computes itself of an image: scale and bias."""
    if item.type == "tensor":
        if item.scale != 1:
            value = value * item.scale
        if item.bias:
            value = value + _channels(item.bias, value)
    if item.mean:
        value = value - _channels(item.mean, value)
    if item.std:
        value = value * (1 / _channels(item.std, value))
    return value


def finish(item: Output, value: Any) -> Any:
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


def _channels(numbers: tuple[float, ...], value: Any) -> Any:
    """float32, [1, numbers, 1, ...] for a value of more axes."""
    shape = [1] * value.dim()
    if len(numbers) > 1:
        shape[1] = len(numbers)
    return torch.tensor(numbers, dtype=torch.float32).reshape(shape)


def picked(outputs: tuple[Output, ...], names: list[str]) -> list[int]:
    """The place of each output among the source's. Raises UsageError for one that it lacks."""
    places = []
    for i, item in enumerate(outputs):
        wanted = item.source or (item.name if item.name in names else "")
        place = names.index(wanted) if wanted in names else i
        if (wanted and wanted not in names) or place >= len(names):
            raise UsageError(f"output {item.name}: the source gives {', '.join(names)}, not {wanted or 'more'}")
        places.append(place)
    return places


def whole_outputs(made: Plan, names: list[str]) -> tuple[Output, ...]:
    """The outputs that are asked for; without any, the source's own."""
    return made.outputs or tuple(Output(_identifier(name)) for name in names)


def _identifier(name: str) -> str:
    plain = "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in name)
    return plain if plain.isidentifier() else f"_{plain}"
