"""Repairs in coremltools' PyTorch front end: torch ops that it lacks or takes wrongly, one function each.

A function is (context, node) as coremltools calls it: it adds the node's values to the context and says True,
or says False and leaves the node to coremltools.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def _inputs(context: Any, node: Any) -> list[Any]:
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs

    return list(_get_inputs(context, node))


def _named(context: Any, node: Any, word: str, at: int, default: Any = None) -> Any:
    """The value of an argument given by its name or, counted from 0, by its place."""
    given = (node.kwinputs or {}).get(word)
    if given is not None:
        value = given[0]
        return context[value].val if isinstance(value, str) and value in context else value
    inputs = _inputs(context, node)
    value = inputs[at] if len(inputs) > at else None
    return default if value is None else getattr(value, "val", value)


def _builder() -> Any:
    from coremltools.converters.mil.mil import Builder

    return Builder


def prelu(context: Any, node: Any) -> bool:
    """max(x, 0) - w * max(-x, 0) where MIL's prelu has no form: a weight a channel, x not of rank 4."""

    mb = _builder()
    x, weight = _inputs(context, node)
    weight = weight.val
    if weight is None or x.rank in (0, 1, 4) or np.ptp(weight) == 0:
        return False
    weight = weight.reshape([-1] + [1] * (x.rank - 2))
    negative = mb.mul(x=mb.relu(x=mb.mul(x=x, y=-1.0)), y=weight)
    context.add(mb.sub(x=mb.relu(x=x), y=negative, name=node.name))
    return True


def new_ones(context: Any, node: Any) -> bool:
    """A tensor of ones, of the first one's type unless one is given."""
    from coremltools.converters.mil.frontend.torch.utils import NUM_TO_DTYPE_STRING
    from coremltools.converters.mil.mil import types

    mb = _builder()
    like, size = _inputs(context, node)[:2]
    number = _named(context, node, "dtype", 2)
    dtype = NUM_TO_DTYPE_STRING[int(number)] if number is not None else types.builtin_to_string(like.dtype)
    if isinstance(size, list | tuple):
        size = mb.concat(values=list(size), axis=0)
    if size.val is not None and size.val.size == 0:
        ones = mb.const(val=_SCALARS.get(_casts_to(dtype), np.float32)(1), name=node.name)
    elif dtype == "fp32":
        ones = mb.fill(shape=size, value=1.0, name=node.name)
    else:
        ones = mb.cast(x=mb.fill(shape=size, value=1.0), dtype=_casts_to(dtype), name=node.name)
    context.add(ones)
    return True


_SCALARS = {"bool": np.bool_, "int32": np.int32, "fp16": np.float16}


def _casts_to(dtype: str) -> str:
    return {"bool": "bool", "fp16": "fp16"}.get(dtype, "int32" if "int" in dtype else "fp32")


def bitwise_or(context: Any, node: Any) -> bool:
    """Of booleans: logical_or."""
    from coremltools.converters.mil.mil import types

    a, b = _inputs(context, node)[:2]
    if not (types.is_bool(a.dtype) and types.is_bool(b.dtype)):
        return False
    context.add(_builder().logical_or(x=a, y=b, name=node.name))
    return True


def rms_norm(context: Any, node: Any) -> bool:
    """x * rsqrt(mean(x^2) + eps) * weight, whatever is given of weight and eps.

    coremltools divides by the largest |x| first and adds eps after that: 0 / 0 for zeros, and eps counts too
    little or too much; and it takes no node with its defaults left out.
    """

    mb = _builder()
    x, shape = _inputs(context, node)[:2]
    shape = shape.val if hasattr(shape, "val") else shape
    axes = list(range(-len(np.atleast_1d(np.asarray(shape))), 0))
    given = _inputs(context, node)
    weight = given[2] if len(given) > 2 else None
    eps = _named(context, node, "eps", 3, float(np.finfo(np.float32).eps))
    mean = mb.reduce_mean(x=mb.square(x=x), axes=axes, keep_dims=True)
    root = mb.rsqrt(x=mb.add(x=mean, y=np.float32(eps)))
    if weight is None:
        context.add(mb.mul(x=x, y=root, name=node.name))
    else:
        context.add(mb.mul(x=mb.mul(x=x, y=root), y=weight, name=node.name))
    return True


def recurrent(context: Any, node: Any) -> bool:
    """lstm, gru and rnn of an exported program, by the functions that coremltools has for TorchScript."""
    from copy import copy

    from coremltools.converters.mil.frontend.torch import ops

    kind = node.kind.split(".")[0]
    whole = copy(node)
    whole.outputs = [f"{node.name}_{part}" for part in ("output", "h", "c")[: 3 if kind == "lstm" else 2]]
    whole.kind, whole.name = kind, whole.outputs[0]
    getattr(ops, kind)(context, whole)
    context.add(tuple(context[name] for name in whole.outputs), torch_name=node.name)
    return True


def unsafe_chunk(context: Any, node: Any) -> bool:
    """The parts of an axis, each of ceil(size / count), the last one smaller."""
    x = _inputs(context, node)[0]
    count, axis = int(_named(context, node, "chunks", 1)), int(_named(context, node, "dim", 2, 0))
    size = x.shape[axis]
    if not isinstance(size, int | np.integer):
        return False
    each = -(-int(size) // count)
    sizes = [min(each, int(size) - start) for start in range(0, int(size), each)]
    context.add(_builder().split(x=x, split_sizes=sizes, axis=axis), torch_name=node.name)
    return True


def log_sigmoid(context: Any, node: Any) -> bool:
    """min(x, 0) - log(1 + exp(-|x|))."""
    mb = _builder()
    x = _inputs(context, node)[0]
    small = mb.log(x=mb.exp(x=mb.mul(x=mb.abs(x=x), y=-1.0)), epsilon=1.0)
    context.add(mb.sub(x=mb.minimum(x=x, y=0.0), y=small, name=node.name))
    return True


def logaddexp(context: Any, node: Any) -> bool:
    """max(a, b) + log(1 + exp(-|a - b|))."""
    mb = _builder()
    a, b = _inputs(context, node)[:2]
    apart = mb.abs(x=mb.sub(x=a, y=b))
    small = mb.log(x=mb.exp(x=mb.mul(x=apart, y=-1.0)), epsilon=1.0)
    context.add(mb.add(x=mb.maximum(x=a, y=b), y=small, name=node.name))
    return True


def celu(context: Any, node: Any) -> bool:
    """max(x, 0) + alpha * (exp(min(x, 0) / alpha) - 1)."""

    mb = _builder()
    x = _inputs(context, node)[0]
    alpha = float(_named(context, node, "alpha", 1, 1.0))
    low = mb.exp(x=mb.mul(x=mb.minimum(x=x, y=0.0), y=np.float32(1 / alpha)))
    scaled = mb.mul(x=mb.sub(x=low, y=1.0), y=np.float32(alpha))
    context.add(mb.add(x=mb.relu(x=x), y=scaled, name=node.name))
    return True


def where_scalar(context: Any, node: Any) -> bool:
    """select, of an integer and a float both as what torch makes of them."""
    from coremltools.converters.mil.frontend._utils import promote_input_dtypes

    cond, a, b = _inputs(context, node)[:3]
    if a.dtype == b.dtype and node.kind == "where.scalarself":
        return False
    a, b = promote_input_dtypes([a, b])
    context.add(_builder().select(cond=cond, a=a, b=b), node.name)
    return True


def triangle(context: Any, node: Any) -> bool:
    """triu and tril by choosing: coremltools subtracts the other triangle, and -inf - -inf is NaN."""
    from coremltools.converters.mil.mil import types

    mb = _builder()
    x = _inputs(context, node)[0]
    diagonal = int(_named(context, node, "diagonal", 1, 0))
    if not all(isinstance(size, int | np.integer) for size in x.shape):
        return False
    cut = np.triu if node.kind.startswith("triu") else np.tril
    if x.val is not None:
        context.add(mb.const(val=cut(x.val, diagonal), name=node.name))
        return True
    if (diagonal <= 0) == (cut is np.triu) or diagonal == 0:
        return False  # one band_part, which is right
    chosen = cut(np.ones(tuple(x.shape), bool), diagonal)
    zeros = np.zeros(tuple(x.shape), types.nptype_from_builtin(x.dtype))
    context.add(mb.select(cond=chosen, a=x, b=zeros, name=node.name))
    return True
