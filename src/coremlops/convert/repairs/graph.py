"""Repairs of a MIL program: what is right in 32 bits and fails in 16, written so that it holds in both.

Each rule rewrites ops of a program that coremltools has read and simplified, just before it gives the ops
types of 16 bits. Above 65504 a float16 is infinite, below 6e-8 it is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

FLOAT16_MAX = 65504.0
# What coremltools itself writes for a mask; two of them still add up to a number, and exp of one is 0.
MASKED = -3e4
_SMALLEST = 2.0**-24
# A product with less is a mask and no temperature of a softmax.
_MASK_FACTOR = -1e8

Rewrite = Callable[[Any, Any], Any]


def rewriting(*kinds: str) -> Callable[[Rewrite], Callable[[Any], tuple[str, ...]]]:
    """A rule of (builder, op) -> the value that replaces the op's output, or None where it does not apply."""

    def decorate(rewrite: Rewrite) -> Callable[[Any], tuple[str, ...]]:
        def rule(program: Any) -> tuple[str, ...]:
            from coremltools.converters.mil.mil import Builder as mb

            found = []
            for op in list(_operations(program)):
                if op.op_type not in kinds or op.enclosing_block is None or not _is_float(op.outputs[0]):
                    continue
                block, old = op.enclosing_block, op.outputs[0]
                with block:
                    new = rewrite(_Before(mb, op), op)
                if new is None:
                    continue
                if block.try_replace_uses_of_var_after_op(
                    anchor_op=op, old_var=old, new_var=new, no_check_var_types=True
                ):
                    found.append(op.name)
                    if not old.child_ops and old not in block.outputs:
                        block.remove_ops([op])
            return tuple(found)

        rule.__name__, rule.__doc__ = rewrite.__name__, rewrite.__doc__
        return rule

    return decorate


class _Before:
    """coremltools' builder, its ops placed before `anchor`."""

    def __init__(self, builder: Any, anchor: Any) -> None:
        self._builder, self._anchor = builder, anchor

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        build = getattr(self._builder, kind)
        return lambda **inputs: build(**inputs, before_op=self._anchor)


@rewriting("softplus", "softplus_parametric")
def softplus(mb: Any, op: Any) -> Any:
    """log(1 + exp(x)) as max(x, 0) + log(1 + exp(-|x|))."""
    if op.op_type == "softplus":
        return _softplus(mb, op.x)
    shape = [-1] + [1] * (op.x.rank - 2)
    alpha, beta = op.alpha.val.reshape(shape), op.beta.val.reshape(shape)
    return mb.mul(x=_softplus(mb, mb.mul(x=op.x, y=beta)), y=alpha)


def _softplus(mb: Any, x: Any) -> Any:
    return mb.add(x=mb.relu(x=x), y=_log_1p_exp_minus(mb, mb.abs(x=x)))


def _log_1p_exp_minus(mb: Any, x: Any) -> Any:
    return mb.log(x=mb.exp(x=mb.mul(x=x, y=-1.0)), epsilon=1.0)


@rewriting("reduce_log_sum_exp")
def log_sum_exp(mb: Any, op: Any) -> Any:
    """log(sum(exp(x))) as m + log(sum(exp(x - m))), m the largest x."""
    axes = list(range(op.x.rank)) if op.axes is None else [int(axis) for axis in op.axes.val]
    # At least MASKED, so that a row of -inf alone gives -inf and not -inf - -inf.
    most = mb.maximum(x=mb.reduce_max(x=op.x, axes=axes, keep_dims=True), y=MASKED)
    total = mb.reduce_sum(x=mb.exp(x=mb.sub(x=op.x, y=most)), axes=axes, keep_dims=True)
    result = mb.add(x=most, y=mb.log(x=total))
    return result if op.keep_dims.val else mb.squeeze(x=result, axes=axes)


@rewriting("log")
def log_softmax(mb: Any, op: Any) -> Any:
    """log(softmax(x)) as x - m - log(sum(exp(x - m)))."""
    softmax = op.x.op
    if softmax is None or softmax.op_type != "softmax" or _epsilon(op) > 1e-30:
        return None
    axes = [int(softmax.axis.val)]
    below = mb.sub(x=softmax.x, y=mb.reduce_max(x=softmax.x, axes=axes, keep_dims=True))
    total = mb.reduce_sum(x=mb.exp(x=below), axes=axes, keep_dims=True)
    return mb.sub(x=below, y=mb.log(x=total))


@rewriting("log")
def log_cumsum_exp(mb: Any, op: Any) -> Any:
    """log(cumsum(exp(x))) by doubling: log2(n) times log(exp(a) + exp(b)) with what lies 1, 2, 4, ... before.

    Applies where the length of the axis is known.
    """
    cumsum = op.x.op
    if cumsum is None or cumsum.op_type != "cumsum" or cumsum.x.op is None or _epsilon(op) > 1e-30:
        return None
    if cumsum.x.op.op_type != "exp" or cumsum.exclusive.val or cumsum.reverse.val:
        return None
    value = cumsum.x.op.x
    axis = int(cumsum.axis.val) % value.rank
    length = value.shape[axis]
    if not isinstance(length, int):
        return None
    step = 1
    while step < length:
        pads = [0] * (2 * value.rank)
        pads[2 * axis] = step
        padded = mb.pad(x=value, pad=pads, mode="constant", constant_val=MASKED)
        end = [int(size) if isinstance(size, int) else 0 for size in value.shape]
        whole = [place != axis for place in range(value.rank)]
        before = mb.slice_by_index(
            x=padded, begin=[0] * value.rank, end=end, begin_mask=whole, end_mask=whole
        )
        most = mb.maximum(x=value, y=before)
        value = mb.add(x=most, y=_log_1p_exp_minus(mb, mb.abs(x=mb.sub(x=value, y=before))))
        step *= 2
    return mb.identity(x=value) if step == 1 else value


def _epsilon(log: Any) -> float:
    return float(log.epsilon.val) if log.epsilon is not None else 0.0


@rewriting("sqrt", "rsqrt", "reduce_l2_norm")
def squares(mb: Any, op: Any) -> Any:
    """sqrt(mean(x^2) + e) as m * sqrt(mean((x/m)^2) + e/m^2), m the larger of sqrt(e) and the largest |x|.

    So for the sum and the inverse root, `e` added or as a lower bound.
    """
    found = _sum_of_squares(op)
    if found is None:
        return None
    reduce, x, epsilon, bound = found
    axes = list(range(x.rank)) if reduce.axes is None else [int(axis) for axis in reduce.axes.val]
    most = mb.reduce_max(x=mb.abs(x=x), axes=axes, keep_dims=True)
    most = mb.maximum(x=most, y=max(math.sqrt(epsilon), _SMALLEST))
    scaled = mb.real_div(x=x, y=most)
    kind = mb.reduce_mean if reduce.op_type == "reduce_mean" else mb.reduce_sum
    inner = kind(x=mb.mul(x=scaled, y=scaled), axes=axes, keep_dims=True)
    if epsilon:
        part = mb.real_div(x=math.sqrt(epsilon), y=most)
        join = mb.maximum if bound else mb.add
        inner = join(x=inner, y=mb.mul(x=part, y=part))
    root = mb.rsqrt(x=inner) if op.op_type == "rsqrt" else mb.sqrt(x=inner)
    if reduce.keep_dims.val:
        _scale_users(mb, op, x, scaled, root)
    result = mb.real_div(x=root, y=most) if op.op_type == "rsqrt" else mb.mul(x=root, y=most)
    return result if reduce.keep_dims.val else mb.squeeze(x=result, axes=axes)


def _scale_users(mb: Any, op: Any, x: Any, scaled: Any, root: Any) -> None:
    """x * rsqrt(..) and x / sqrt(..) from the scaled x: the root itself may be too small for 16 bits."""
    from coremltools.converters.mil.mil import Builder

    for user in list(op.outputs[0].child_ops):
        if user.enclosing_block is not op.enclosing_block:
            continue
        times = op.op_type == "rsqrt" and user.op_type == "mul" and x in (user.x, user.y)
        over = op.op_type != "rsqrt" and user.op_type == "real_div" and user.x is x
        if times or over:
            build = _Before(Builder, user)
            new = build.mul(x=scaled, y=root) if times else build.real_div(x=scaled, y=root)
            user.enclosing_block.replace_uses_of_var_after_op(
                anchor_op=user, old_var=user.outputs[0], new_var=new, no_check_var_types=True
            )


def _sum_of_squares(op: Any) -> tuple[Any, Any, float, bool] | None:
    """(the reduction, x, epsilon, whether epsilon is a lower bound) under a root."""
    if op.op_type == "reduce_l2_norm":
        return op, op.x, 0.0, False
    epsilon, bound, below = 0.0, False, op.x.op
    if op.op_type == "rsqrt" and op.epsilon is not None and float(op.epsilon.val) > 1e-11:
        epsilon = float(op.epsilon.val)  # MIL's default, 1e-12, is there to avoid 1 / 0
    if below is not None and below.op_type in ("add", "maximum"):
        number, value = _constant(below.y), below.x
        if number is None:
            number, value = _constant(below.x), below.y
        if number is None or number < 0 or epsilon:
            return None
        epsilon, bound, below = number, below.op_type == "maximum", value.op
    if below is None or below.op_type not in ("reduce_mean", "reduce_sum"):
        return None
    if not _is_float(below.x):
        return None
    square = below.x.op
    if square is None:
        return None
    squared = (
        square.op_type == "square"
        or (square.op_type == "mul" and square.x is square.y)
        or (square.op_type == "pow" and _constant(square.y) == 2)
    )
    return (below, square.x, epsilon, bound) if squared else None


def mask_range(program: Any) -> tuple[str, ...]:
    """A constant below -65504 that masks values of a softmax becomes -30000, whose exp is 0 as well."""
    import numpy as np
    from coremltools.converters.mil.mil import Builder as mb

    found = []
    for op in list(_operations(program)):
        if op.op_type != "const" or not _is_float(op.outputs[0]):
            continue
        value = np.asarray(op.outputs[0].val)
        if value.dtype != np.float32 or not value.size or not float(value.min()) < -FLOAT16_MAX:
            continue
        if float(value.max()) > FLOAT16_MAX or not _masks(op.outputs[0], float(value.min())):
            continue
        block = op.enclosing_block
        new = np.where(value < -FLOAT16_MAX, np.float32(MASKED), value).astype(np.float32)
        with block:
            constant = mb.const(val=new if value.ndim else new[()], name=f"{op.name}_masked", before_op=op)
        block.replace_uses_of_var_after_op(anchor_op=op, old_var=op.outputs[0], new_var=constant)
        found.append(op.name)
    return tuple(found)


# Ops whose result is, where the constant is chosen, the constant moved or nearly so.
_MOVES = {"reshape", "expand_dims", "squeeze", "transpose", "slice_by_index", "tile", "concat", "identity"}
_CARRIES = _MOVES | {"select", "add", "mul", "sub", "maximum", "fill", "fill_like", "cast"}


def _masks(value: Any, least: float) -> bool:
    """Whether all that becomes of a value is chosen, added or moved, and then taken by a softmax."""
    todo, seen, softmax = [value], {value}, False
    while todo:
        var = todo.pop()
        if var in var.op.enclosing_block.outputs:
            return False
        for user in var.child_ops:
            if user.op_type == "softmax":
                if any(after.op_type == "log" for after in user.outputs[0].child_ops):
                    return False
                softmax = True
                continue
            if user.op_type not in _CARRIES or not _is_float(user.outputs[0]):
                return False
            if user.op_type == "mul" and not _keeps_masks(user, var, least):
                return False
            if user.op_type == "sub" and user.x is not var:
                return False
            if user.outputs[0] not in seen:
                seen.add(user.outputs[0])
                todo.append(user.outputs[0])
    return softmax


def _keeps_masks(mul: Any, var: Any, least: float) -> bool:
    other = _constant(mul.y if mul.x is var else mul.x)
    return other >= 1e-2 if other is not None else least <= _MASK_FACTOR


def debug_map(program: Any) -> tuple[str, ...]:
    """Drops coremltools' map of debug handles where there is a loop: it cannot be written then."""
    from coremltools.converters.mil.mil.scope import ScopeSource

    loops = tuple(op.name for op in _operations(program) if op.blocks)
    wanted = [function._essential_scope_sources for function in program.functions.values()]
    if not loops or not any(ScopeSource.EXIR_DEBUG_HANDLE in sources for sources in wanted):
        return ()
    for sources in wanted:
        sources.remove(ScopeSource.EXIR_DEBUG_HANDLE)
    return loops


def _constant(value: Any) -> float | None:
    """A value known now, of one number."""
    known = getattr(value, "val", None)
    if isinstance(known, int | float):
        return float(known)
    return float(known.item()) if known is not None and getattr(known, "size", 0) == 1 else None


def _is_float(value: Any) -> bool:
    from coremltools.converters.mil.mil import types

    return bool(value.is_tensor_or_scalar_of(dtype="fp32") or types.is_float(value.dtype))


def _operations(program: Any) -> Iterator[Any]:
    def inside(block: Any) -> Iterator[Any]:
        for op in list(block.operations):
            for inner in op.blocks:
                yield from inside(inner)
            yield op

    for function in program.functions.values():
        yield from inside(function)
