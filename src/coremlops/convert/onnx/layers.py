"""Ops with weights, windows or statistics: convolution, pools, products, normalisation, recurrence.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from coremlops.convert.onnx.registry import Node, op

_WINDOW = "dilations kernel_shape pads strides"
_AUTO = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


def _pads(node: Node, x: Tensor, kernel: list[int], strides: list[int], dilations: list[int]) -> list[int]:
    """Before each axis, then behind each."""
    kind = node.get("auto_pad", "NOTSET")
    if not kind.startswith("SAME"):
        return list(node.get("pads") or [0] * 2 * len(kernel)) if kind == "NOTSET" else [0] * 2 * len(kernel)
    before, behind = [], []
    sizes = node.sizes(x)[2:]
    for size, window, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        whole = max((-(-size // stride) - 1) * stride + (window - 1) * dilation + 1 - size, 0)
        before.append(whole // 2 if kind == "SAME_UPPER" else whole - whole // 2)
        behind.append(whole - before[-1])
    return before + behind


def _padded(x: Tensor, pads: list[int], value: float = 0.0) -> tuple[Tensor, list[int]]:
    """The tensor, and what the op itself pads: it does both sides alike."""
    n = len(pads) // 2
    if pads[:n] == pads[n:]:
        return x, pads[:n]
    order = [pads[i + side] for i in reversed(range(n)) for side in (0, n)]
    return F.pad(x, order, value=value), [0] * n


@op("Conv", f"{_WINDOW} group", auto_pad=_AUTO)
def conv(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    n = x.dim() - 2
    strides, dilations = node.get("strides", [1] * n), node.get("dilations", [1] * n)
    kernel = node.once("kernel", lambda: [int(size) for size in weight.shape[2:]])
    x, padding = _padded(x, _pads(node, x, kernel, strides, dilations))
    call = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[n]
    return call(x, weight, bias, strides, padding, dilations, node.get("group", 1))


@op("ConvTranspose", f"{_WINDOW} group output_padding", auto_pad=("NOTSET", "VALID"))
def conv_transpose(node: Node, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    n = x.dim() - 2
    strides, dilations = node.get("strides", [1] * n), node.get("dilations", [1] * n)
    pads = node.get("pads", [0] * 2 * n)
    if pads[:n] != pads[n:]:
        raise node.refused(f"the same pads on both sides expected, got {pads}")
    call = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}[n]
    extra = node.get("output_padding", [0] * n)
    return call(x, weight, bias, strides, pads[:n], extra, node.get("group", 1), dilations)


@op("MaxPool", f"{_WINDOW} ceil_mode", storage_order=(0,), auto_pad=_AUTO)
def max_pool(node: Node, x: Tensor) -> Tensor:
    if node.outputs > 1:
        raise node.refused("the places of the largest values are not given")
    kernel = node.get("kernel_shape")
    n = len(kernel)
    strides, dilations = node.get("strides", [1] * n), node.get("dilations", [1] * n)
    x, padding = _padded(x, _pads(node, x, kernel, strides, dilations), float("-inf"))
    call = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[n]
    return call(x, kernel, strides, padding, dilations, bool(node.get("ceil_mode", 0)))


@op(
    "AveragePool",
    "kernel_shape pads strides ceil_mode count_include_pad",
    auto_pad=_AUTO,
    dilations=([1], [1, 1]),
)
def average_pool(node: Node, x: Tensor) -> Tensor:
    kernel, counted = node.get("kernel_shape"), bool(node.get("count_include_pad", 0))
    n = len(kernel)
    strides = node.get("strides", [1] * n)
    pads = _pads(node, x, kernel, strides, [1] * n)
    if pads[:n] != pads[n:] and not counted:
        raise node.refused(f"the same pads on both sides expected, got {pads}")
    x, padding = _padded(x, pads)
    call: Any = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[n]
    return call(x, kernel, strides, padding, bool(node.get("ceil_mode", 0)), counted)


@op("GlobalAveragePool GlobalMaxPool")
def global_pool(node: Node, x: Tensor) -> Tensor:
    axes = list(range(2, x.dim()))
    return torch.mean(x, axes, True) if node.op == "GlobalAveragePool" else torch.amax(x, axes, True)


@op("Gemm", "alpha beta transA transB")
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.t() if node.get("transA", 0) else a

    def plain() -> bool:
        width = b.shape[0 if node.get("transB", 0) else 1]
        return alpha == beta == 1.0 and (c is None or (c.dim() == 1 and c.shape[0] == width))

    if 1 in node.known and node.once("plain", plain):
        weight = b if node.get("transB", 0) else node.once("weight", lambda: node.known[1].t().contiguous())
        return F.linear(a, weight, c)
    result = torch.matmul(a, b.t() if node.get("transB", 0) else b)
    result = result if alpha == 1.0 else result * alpha
    return result if c is None else result + (c if beta == 1.0 else c * beta)


@op("MatMul")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return torch.matmul(a, b)


@op("BatchNormalization", "epsilon momentum", training_mode=(0,), spatial=(1,))
def batch_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    return F.batch_norm(x, mean, variance, scale, bias, False, 0.0, node.get("epsilon", 1e-5))


@op("InstanceNormalization", "epsilon")
def instance_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return F.instance_norm(x, weight=scale, bias=bias, eps=node.get("epsilon", 1e-5))


@op("LayerNormalization", "axis epsilon", stash_type=(1,))
def layer_norm(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    axis = node.get("axis", -1) % x.dim()
    if 1 not in node.known or scale.dim() != x.dim() - axis:
        raise node.refused(f"a constant scale of {x.dim() - axis} axes expected")
    shape = node.once("shape", lambda: [int(size) for size in scale.shape])
    return F.layer_norm(x, shape, scale, bias, node.get("epsilon", 1e-5))


@op("LSTM", "hidden_size", direction=("forward", "bidirectional"), layout=(0,), input_forget=(0,))
def lstm(
    node: Node,
    x: Tensor,
    weight: Tensor,
    recurrent: Tensor,
    bias: Tensor | None = None,
    lengths: Tensor | None = None,
    hidden: Tensor | None = None,
    cell: Tensor | None = None,
    peephole: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """x: [steps, batch, features] -> [steps, directions, batch, hidden], and the last states.

    ONNX has the gates as input, output, forget, cell; torch has input, forget, cell, output.
    """
    if peephole is not None or lengths is not None:
        raise node.refused("peepholes and lengths of sequences are not covered")
    ways, size = node.once("sizes", lambda: (int(weight.shape[0]), int(recurrent.shape[2])))

    def ordered() -> list[Tensor]:
        rows = torch.cat([torch.arange(k * size, (k + 1) * size) for k in (0, 2, 3, 1)])
        both = bias if bias is not None else torch.zeros(ways, 8 * size)
        found = []
        for way in range(ways):
            halves = both[way][: 4 * size][rows], both[way][4 * size :][rows]
            found += [weight[way][rows], recurrent[way][rows], *halves]
        return [value.detach().clone() for value in found]

    if not {1, 2} <= set(node.known) or (bias is not None and 3 not in node.known):
        raise node.refused("weights that no data decides expected")
    flat = node.once("weights", ordered)
    start = torch.zeros(ways, node.sizes(x)[1], size)
    states = (start if hidden is None else hidden, start if cell is None else cell)
    y, last, memory = torch.lstm(x, states, flat, True, 1, 0.0, False, ways == 2, False)
    y = y.reshape(*node.sizes(x)[:2], ways, size).permute(0, 2, 1, 3) if ways == 2 else y.unsqueeze(1)
    return y, last, memory
