"""Ops that move elements, and those that tell or make a shape.

Source: https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from coremlops.convert.onnx.registry import Node, op


@op("Constant", "value value_float value_floats value_int value_ints")
def constant(node: Node) -> Tensor:
    (name, value), *_ = node.attributes.items()
    if name == "value":
        return torch.as_tensor(value)
    return torch.tensor(value, dtype=torch.float32 if "float" in name else torch.int64)


@op("ConstantOfShape", "value", static=(0,))
def constant_of_shape(node: Node, shape: list[int]) -> Tensor:
    value = node.get("value", torch.zeros(1))
    return value.reshape([]).expand(node.room(shape)).clone()


@op("Shape", "start end")
def shape_of(node: Node, x: Tensor) -> Tensor:
    sizes = node.sizes(x)
    return torch.tensor(sizes[node.get("start", 0) : node.get("end", len(sizes))], dtype=torch.int64)


@op("Size")
def size_of(node: Node, x: Tensor) -> Tensor:
    return torch.tensor(math.prod(node.sizes(x)), dtype=torch.int64)


@op("Reshape", "allowzero", static=(1,))
def reshape(node: Node, x: Tensor, shape: list[int]) -> Tensor:
    if 0 in shape and not node.get("allowzero", 0):
        shape = [node.sizes(x)[i] if size == 0 else size for i, size in enumerate(shape)]
    return x.reshape(shape)


@op("Flatten", "axis")
def flatten(node: Node, x: Tensor) -> Tensor:
    axis = node.get("axis", 1)
    axis = axis + x.dim() if axis < 0 else axis
    if axis == 1 and x.dim() > 1:
        return x.flatten(1)
    return x.reshape(math.prod(node.sizes(x)[:axis]), -1)


@op("Transpose", "perm")
def transpose(node: Node, x: Tensor) -> Tensor:
    return x.permute(node.get("perm", list(reversed(range(x.dim())))))


@op("Squeeze", "axes", static=(1,))
def squeeze(node: Node, x: Tensor, axes: list[int] | None = None) -> Tensor:
    found = node.get("axes", axes)
    if found is None:
        found = [i for i, size in enumerate(node.sizes(x)) if size == 1]
    for axis in sorted((axis % x.dim() for axis in found), reverse=True):
        x = x.squeeze(axis)
    return x


@op("Unsqueeze", "axes", static=(1,))
def unsqueeze(node: Node, x: Tensor, axes: list[int] | None = None) -> Tensor:
    found = node.get("axes", axes)
    rank = x.dim() + len(found)
    for axis in sorted(axis % rank for axis in found):
        x = x.unsqueeze(axis)
    return x


@op("Concat", "axis")
def concat(node: Node, *values: Tensor) -> Tensor:
    return torch.cat(values, node.get("axis"))


@op("Split", "axis split num_outputs", static=(1,))
def split(node: Node, x: Tensor, sizes: list[int] | None = None) -> Any:
    axis = node.get("axis", 0)
    sizes = node.get("split", sizes)
    if sizes is None:
        whole = node.sizes(x)[axis]
        each = -(-whole // node.outputs)
        sizes = [each] * (node.outputs - 1)
        sizes.append(whole - sum(sizes))
    return torch.split(x, sizes, axis)


@op("Slice", "axes starts ends", static=(1, 2, 3, 4))
def cut(
    node: Node, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Tensor:
    starts, ends = node.get("starts", starts), node.get("ends", ends)
    axes = node.get("axes", axes) or list(range(len(starts)))
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        size = node.sizes(x)[axis]
        places = range(size)[slice(start, None if step < 0 and end < -size else end, step)]
        if len(places) == size and step > 0:
            continue
        if step > 0:
            x = torch.narrow(x, axis, 0, 0) if not places else _sliced(x, axis, places)
        elif len(places) == size and step == -1:
            x = torch.flip(x, [axis % x.dim()])
        else:
            x = torch.index_select(x, axis, torch.tensor(list(places), dtype=torch.int64))
    return x


def _sliced(x: Tensor, axis: int, places: range) -> Tensor:
    return x[(slice(None),) * (axis % x.dim()) + (slice(places.start, places.stop, places.step),)]


@op("Gather", "axis")
def gather(node: Node, x: Tensor, indices: Tensor) -> Tensor:
    """Indices may be negative: from the end."""
    axis = node.get("axis", 0) % x.dim()
    behind = 1 not in node.known or node.once("behind", lambda: bool((node.known[1] < 0).any()))
    size = node.sizes(x)[axis] if behind else 0
    if 1 in node.known:
        places = node.once("places", lambda: node.known[1] % size if size else node.known[1])
        if places.dim() == 0:
            return x.select(axis, int(node.once("place", lambda: int(places))))
    else:
        places = torch.where(indices < 0, indices + size, indices)
    if places.dim() == 1:
        return torch.index_select(x, axis, places)
    found = torch.index_select(x, axis, places.reshape(-1))
    sizes = node.sizes(x)
    shape = [*sizes[:axis], *node.sizes(indices), *sizes[axis + 1 :]]
    return found.reshape(shape)


@op("Expand", static=(1,))
def expand(node: Node, x: Tensor, shape: list[int]) -> Tensor:
    whole = torch.broadcast_shapes(tuple(node.sizes(x)), tuple(node.room(shape)))
    return x.expand(list(whole))


@op("Tile", static=(1,))
def tile(node: Node, x: Tensor, repeats: list[int]) -> Tensor:
    node.room([size * times for size, times in zip(node.sizes(x), repeats, strict=True)])
    return x.repeat(repeats)


_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}


@op("Pad", "pads value", static=(1, 2, 3), mode=tuple(_MODES))
def pad(node: Node, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    pads = node.get("pads", pads)
    value = node.get("value", 0.0 if value is None else value)
    value = value[0] if isinstance(value, list) else value
    axes = list(range(len(pads) // 2)) if axes is None else [axis % x.dim() for axis in axes]
    both = [[0, 0] for _ in range(x.dim())]
    for i, axis in enumerate(axes):
        both[axis] = [pads[i], pads[i + len(axes)]]
    node.once("room", lambda: node.room([int(n) + a + b for n, (a, b) in zip(x.shape, both, strict=True)]))
    while both and both[0] == [0, 0]:
        both.pop(0)
    order = [side for pair in reversed(both) for side in pair]
    mode = _MODES[node.get("mode", "constant")]
    if not order:
        return x
    return F.pad(x, order, value=value) if mode == "constant" else F.pad(x, order, mode=mode)


@op(
    "Resize",
    "cubic_coeff_a extrapolation_value",
    static=(1, 2, 3),
    mode=("nearest", "linear"),
    coordinate_transformation_mode=("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"),
    nearest_mode=("floor", "round_prefer_floor"),
    exclude_outside=(0,),
    antialias=(0,),
    keep_aspect_ratio_policy=("stretch",),
)
def resize(node: Node, x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
    """x: [batch, channels, ...]; whole factors where the nearest is asked for."""
    if node.opset < 11:
        scales = roi
    old = node.sizes(x)
    new = [int(a * b) for a, b in zip(old, scales, strict=True)] if scales else list(sizes or [])
    where = node.get("coordinate_transformation_mode", "half_pixel" if node.opset >= 11 else "asymmetric")
    if len(new) != x.dim() or new[:2] != old[:2]:
        raise node.refused(f"the axes behind the first two may change, got {old} and {new}")
    node.room(new)
    if node.get("mode", "nearest") == "nearest":
        whole = all(b % a == 0 for a, b in zip(old, new, strict=True))
        floor = node.get("nearest_mode", "round_prefer_floor") == "floor"
        if not whole or where == "align_corners" or (floor != (where == "asymmetric")):
            raise node.refused(f"whole factors expected for nearest ({where}), got {old} and {new}")
        return F.interpolate(x, size=new[2:], mode="nearest")
    exact = scales is None or all(a * b == c for a, b, c in zip(old, scales, new, strict=True))
    if where == "asymmetric" or not exact or x.dim() != 4:
        raise node.refused(
            f"linear is covered for pictures of a size that is exact, got {where}, {old}, {new}"
        )
    return F.interpolate(x, size=new[2:], mode="bilinear", align_corners=where == "align_corners")
