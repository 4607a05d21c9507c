"""Ops that work on each element, and those that sum up an axis.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from coremlops.convert.onnx.registry import Node, op

_UNARY = {
    "Abs": torch.abs,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "Log": torch.log,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tanh": torch.tanh,
    "Identity": lambda x: x,
    "Mish": F.mish,
}
_BINARY = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
}
for _name, _call in _UNARY.items():
    op(_name)(lambda node, x, call=_call: call(x))
for _name, _call in _BINARY.items():
    op(_name)(lambda node, a, b, call=_call: call(a, b))


@op("Div")
def div(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Whole numbers divide towards zero."""
    return torch.div(a, b) if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@op("Mod", fmod=(0,))
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.remainder(a, b)


@op("Pow")
def power(node: Node, a: Tensor, b: Tensor) -> Tensor:
    known = node.known.get(1)
    exponent = known.item() if known is not None and known.numel() == 1 and known.dim() <= a.dim() else b
    return torch.pow(a, exponent).to(a.dtype)


@op("Max Min")
def extreme(node: Node, first: Tensor, *more: Tensor) -> Tensor:
    for value in more:
        first = torch.maximum(first, value) if node.op == "Max" else torch.minimum(first, value)
    return first


@op("Sum Mean")
def total(node: Node, first: Tensor, *more: Tensor) -> Tensor:
    for value in more:
        first = first + value
    return first if node.op == "Sum" else first / (1 + len(more))


@op("Where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(condition, a, b)


@op("Dropout", "ratio seed")
def dropout(node: Node, x: Tensor, ratio: Any = None, training: Any = None) -> Tensor:
    if node.outputs > 1 or (training is not None and (1 not in node.known and 2 not in node.known)):
        raise node.refused("a mask, or training, has no place in a converted model")
    return x


@op("Clip", "min max", static=(1, 2))
def clip(node: Node, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    low, high = node.get("min", low), node.get("max", high)
    return x if low is None and high is None else torch.clamp(x, low, high)


@op("LeakyRelu", "alpha")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.get("alpha", 0.01))


@op("Elu", "alpha")
def elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.get("alpha", 1.0))


@op("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    return F.selu(x)


@op("HardSigmoid", "alpha beta")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    return torch.clamp(x * node.get("alpha", 0.2) + node.get("beta", 0.5), 0.0, 1.0)


@op("HardSwish")
def hard_swish(node: Node, x: Tensor) -> Tensor:
    return F.hardswish(x)


@op("Gelu", approximate=("none", "tanh"))
def gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=node.get("approximate", "none"))


@op("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    """The slope broadcasts from the right: one a channel is [channels, 1, 1]."""
    rank = x.dim()

    def each() -> Tensor | None:
        one_each = slope.dim() == rank - 1 and all(size == 1 for size in slope.shape[1:])
        return slope.detach().flatten().clone() if rank > 1 and (one_each or slope.numel() == 1) else None

    flat = node.once("slope", each) if 1 in node.known else None
    if flat is not None:
        return F.prelu(x, flat)
    return torch.where(x < 0, x * slope, x)


@op("Softmax LogSoftmax", "axis")
def softmax(node: Node, x: Tensor) -> Tensor:
    """Before opset 13 all axes from `axis` on count as one."""
    call = F.softmax if node.op == "Softmax" else F.log_softmax
    axis = node.get("axis", -1 if node.opset >= 13 else 1)
    if node.opset >= 13 or axis % x.dim() == x.dim() - 1:
        return call(x, axis)
    return call(x.flatten(axis), -1).reshape(node.sizes(x))


_TYPES = {
    1: torch.float32,
    2: torch.uint8,
    3: torch.int8,
    5: torch.int16,
    6: torch.int32,
    7: torch.int64,
    9: torch.bool,
    10: torch.float16,
    11: torch.float64,
}


@op("Cast", to=tuple(_TYPES), saturate=(0, 1))
def cast(node: Node, x: Tensor) -> Tensor:
    return x.to(_TYPES[node.get("to")])


def _axes(node: Node, x: Tensor, axes: list[int] | None) -> list[int]:
    found = node.get("axes", axes)
    return list(range(x.dim())) if not found else [axis % x.dim() for axis in found]


_REDUCE = {
    "ReduceMean": torch.mean,
    "ReduceSum": torch.sum,
    "ReduceMax": torch.amax,
    "ReduceMin": torch.amin,
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceL1": lambda x, axes, keep: torch.sum(torch.abs(x), axes, keep),
    "ReduceL2": lambda x, axes, keep: torch.sqrt(torch.sum(x * x, axes, keep)),
    "ReduceSumSquare": lambda x, axes, keep: torch.sum(x * x, axes, keep),
}


@op(" ".join(_REDUCE), "axes keepdims noop_with_empty_axes", static=(1,))
def reduce(node: Node, x: Tensor, axes: list[int] | None = None) -> Tensor:
    if not node.get("axes", axes) and node.get("noop_with_empty_axes", 0):
        return x
    return _REDUCE[node.op](x, _axes(node, x, axes), bool(node.get("keepdims", 1)))


@op("ReduceProd", "axes keepdims noop_with_empty_axes", static=(1,))
def product(node: Node, x: Tensor, axes: list[int] | None = None) -> Tensor:
    keep = bool(node.get("keepdims", 1))
    for axis in sorted(_axes(node, x, axes), reverse=True):
        x = torch.prod(x, axis, keep)
    return x


@op("ArgMax ArgMin", "axis keepdims", select_last_index=(0,))
def arg(node: Node, x: Tensor) -> Tensor:
    call = torch.argmax if node.op == "ArgMax" else torch.argmin
    return call(x, node.get("axis", 0), bool(node.get("keepdims", 1)))


@op("CumSum", static=(1,), exclusive=(0,), reverse=(0,))
def cumsum(node: Node, x: Tensor, axis: Any) -> Tensor:
    return torch.cumsum(x, int(axis))


@op("IsNaN")
def is_nan(node: Node, x: Tensor) -> Tensor:
    return torch.ne(x, x)


@op("Range", static=(0, 1, 2))
def arange(node: Node, start: float, limit: float, delta: float) -> Tensor:
    node.room([max(math.ceil((limit - start) / delta), 0)])
    return torch.arange(start, limit, delta, dtype=node.known[0].dtype)
