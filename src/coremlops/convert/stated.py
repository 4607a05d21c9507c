"""What a converted model must answer: the source in NumPy's hands, between the preparation that was asked for
and what becomes of its outputs. No line of it is shared with what is folded into the model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np

from coremlops.convert.interface import Input, Output
from coremlops.convert.options import ConvertOptions
from coremlops.convert.plan import Plan, plan
from coremlops.source import Reference, Tensor, kept

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Stated(Reference):
    """A source that takes and gives what its Core ML model does, by its names.

    Pictures are PIL's or arrays [height, width, 3] and [height, width]; an output that is a picture is an
    array [1, channels, height, width] of 0 to 255; of a classifier the first output is a probability a label.
    """

    source: Reference = field(kw_only=True, repr=False)
    plan: Plan = field(kw_only=True, repr=False)

    def __call__(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        source, own = self.beneath(inputs)
        answers = source(own)
        if not self.plan.outputs:
            return answers
        return {item.name: _finished(item, _of(item, i, answers)) for i, item in enumerate(self.plan.outputs)}

    def layers(self, inputs: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        source, own = self.beneath(inputs)
        return source.layers(own)

    def beneath(self, inputs: Mapping[str, Any]) -> tuple[Reference, Mapping[str, Any]]:
        pairs = zip(self.plan.inputs, self.plan.tensors, strict=True)
        return self.source, {of.name: _prepared(item, of, inputs[item.name]) for item, of in pairs}


def stated(reference: Reference, options: ConvertOptions) -> Stated:
    """Raises UsageError for options that the source cannot have."""
    made = plan(reference, options)
    inputs = tuple(
        Tensor(item.name, shape, item.dtype or "uint8")
        for item, shape in zip(made.inputs, made.defaults, strict=True)
    )
    return Stated(
        reference.kind, reference.name, reference.digest, inputs, reference.raw, source=reference, plan=made
    )


@contextlib.contextmanager
def fresh(reference: Reference, states: tuple[str, ...]) -> Iterator[None]:
    """The buffers that become states begin as Core ML's do, as zeros; after the block all are as before."""
    with kept(reference) as buffers:
        for name, value in buffers.items():
            if any(fnmatchcase(name, pattern) for pattern in states):
                value.detach().zero_()
        yield


def _prepared(item: Input, tensor: Tensor, value: Any) -> NDArray[Any]:
    array = np.asarray(value)
    if item.type == "image":
        array = array[..., ::-1] if item.color == "BGR" else array
        array = array.transpose(2, 0, 1) if array.ndim == 3 else array[None]
        array = array[None].astype(np.float64)
    if item.scale != 1 or item.bias or item.mean or item.std or item.type == "image":
        array = array.astype(np.float64) * item.scale
        array = array + _axis_one(item.bias or (0.0,), array)
        array = (array - _axis_one(item.mean or (0.0,), array)) / _axis_one(item.std or (1.0,), array)
    return array.astype("float32" if tensor.dtype == "bfloat16" else tensor.dtype)


def _axis_one(numbers: tuple[float, ...], array: NDArray[Any]) -> NDArray[np.float64]:
    values = np.asarray(numbers, np.float64)
    return values.reshape([1, len(numbers)] + [1] * (array.ndim - 2)) if len(numbers) > 1 else values


def _of(item: Output, place: int, answers: Mapping[str, Any]) -> NDArray[Any]:
    wanted = item.source or (item.name if item.name in answers else "")
    return np.asarray(answers[wanted] if wanted else list(answers.values())[place])


def _finished(item: Output, value: NDArray[Any]) -> NDArray[Any]:
    axis = item.axis if item.axis is not None else 1 if value.ndim == 4 else -1
    if item.post == "softmax":
        shifted = np.exp(value.astype(np.float64) - value.max(axis, keepdims=True))
        value = shifted / shifted.sum(axis, keepdims=True)
    elif item.post == "sigmoid":
        value = 1 / (1 + np.exp(-value.astype(np.float64)))
    elif item.post == "argmax":
        value = value.argmax(axis)
    if item.scale != 1 or item.bias:
        value = value * item.scale + item.bias
    return np.rint(value).clip(0, 255) if item.type == "image" else value
