"""Reductions. Source: coremltools, `ops/defs/iOS15/reduction.py`, `iOS17/reduction.py`."""

from __future__ import annotations

from collections.abc import Callable

from coremlops.lower.context import Lowering
from coremlops.lower.registry import Ints, Unsupported, Value, add_rule

# op -> (ONNX op, whether it only picks one of its inputs, whether integers need fractions on the way: NumPy
# takes the mean, the root or the logarithm in double and truncates it)
_TABLE = {
    "reduce_l1_norm": ("ReduceL1", False, False),
    "reduce_l2_norm": ("ReduceL2", False, True),
    "reduce_log_sum": ("ReduceLogSum", False, True),
    "reduce_log_sum_exp": ("ReduceLogSumExp", False, True),
    "reduce_max": ("ReduceMax", True, False),
    "reduce_mean": ("ReduceMean", False, True),
    "reduce_min": ("ReduceMin", True, False),
    "reduce_prod": ("ReduceProd", False, False),
    "reduce_sum": ("ReduceSum", False, False),
    "reduce_sum_square": ("ReduceSumSquare", False, False),
}
_INDICES = ("int32", "uint16")


def _plain(onnx_op: str, fractions: bool) -> Callable[..., Value]:
    def rule(ctx: Lowering, x: Value, axes: Ints | None = None, keep_dims: bool = False) -> Value:
        wide = fractions and not x.dtype.startswith("fp")
        value = ctx.cast(x, "fp64") if wide else x
        if axes == ():  # each element by itself, as NumPy has it; to ONNX no axis is all of them
            value = ctx.node("Unsqueeze", value, ctx.ints((0,)))
            value = ctx.node(onnx_op, value, ctx.ints((0,)), keepdims=0)
        else:
            value = ctx.node(
                onnx_op, value, None if axes is None else ctx.ints(axes), keepdims=int(keep_dims)
            )
        return ctx.cast(value, x.dtype) if wide else value

    rule.__qualname__ = f"reduction.{onnx_op}"
    return rule


def _index(onnx_op: str) -> Callable[..., Value]:
    def rule(
        ctx: Lowering, x: Value, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
    ) -> Value:
        dtype = output_dtype.lower()
        if dtype not in _INDICES:
            raise Unsupported(f"output_dtype {output_dtype!r}")
        return ctx.cast(ctx.node(onnx_op, x, axis=axis, keepdims=int(keep_dims)), dtype)

    rule.__qualname__ = f"reduction.{onnx_op}"
    return rule


for _op, (_onnx_op, _moves, _fractions) in _TABLE.items():
    add_rule(_op, _plain(_onnx_op, _fractions), moves=_moves)
# Of equals the first is taken, as in NumPy; coremltools promises none.
add_rule("reduce_argmax", _index("ArgMax"), moves=False)
add_rule("reduce_argmin", _index("ArgMin"), moves=False)
