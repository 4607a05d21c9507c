"""Each rule that lets a rounding pass: `round(op(x)) == op(round(x))`, on every value that fp16 has.

The values: all 65,536 fp16 patterns, the float32 neighbours of each, the midpoints between them (where
rounding must go to even), and what overflows. Equality is of every bit, with one exception that IEEE 754
leaves open: the sign of the zero that max(-0, 0) gives.
"""

from typing import Any

import numpy as np
import pytest

import coremlops.lower.ops  # noqa: F401  rules register themselves
from coremlops.dialects.mil import Ref
from coremlops.dialects.mil.graph import NUMPY_DTYPES
from coremlops.lower import registry
from tests.lower.programs import Array, function, onnx_ops, operation, run, typed
from tests.lower.test_function import awkward

HALF = np.float16
X = awkward()
X = np.concatenate([X, np.full(-X.size % 64, 1.5, np.float32)])
N = X.size
ROWS = N // 64
GRID = (ROWS, 64)
MAPS = (1, 16, N // 64, 4)

# op -> (shape of x, shape of the result, its inputs beside x; an extra "from" where the inputs differ)
CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "abs": ((N,), (N,), {}),
    "relu": ((N,), (N,), {}),
    "relu6": ((N,), (N,), {}),
    "clip": ((N,), (N,), {"alpha": -2.0, "beta": 60000.0}),
    "threshold": ((N,), (N,), {"alpha": 0.5}),
    "maximum": ((N,), (N,), {"y": HALF(0.5)}),
    "minimum": ((N,), (N,), {"y": HALF(-3)}),
    "identity": ((N,), (N,), {}),
    "cast": ((N,), (N,), {"dtype": "fp16"}),
    "reshape": ((N,), GRID, {"shape": list(GRID)}),
    "transpose": (GRID, GRID[::-1], {"perm": [1, 0]}),
    "squeeze": ((1, N), (N,), {"axes": [0]}),
    "expand_dims": ((N,), (N, 1), {"axes": [1]}),
    "flatten2d": (GRID, GRID, {}),
    "pad": ((N,), (N + 3,), {"pad": [1, 2], "constant_val": HALF(0.1)}),
    "reverse": ((N,), (N,), {"axes": [0]}),
    "tile": ((N,), (2 * N,), {"reps": [2]}),
    "concat": ((N,), (2 * N,), {"axis": 0, "values": (Ref("h"), Ref("h"))}),
    "stack": ((N,), (2, N), {"axis": 0, "values": (Ref("h"), Ref("h"))}),
    "slice_by_index": ((N,), (N - 5,), {"begin": [2], "end": [N - 3]}),
    "slice_by_size": ((N,), (N - 5,), {"begin": [2], "size": [N - 5]}),
    "gather": ((N,), (3,), {"indices": [5, 0, N - 1], "axis": 0}),
    "gather_along_axis": ((N,), (3,), {"indices": [5, 0, N - 1], "axis": 0}),
    "gather_nd": ((N,), (2,), {"indices": np.array([[5], [N - 1]], np.int32)}),
    "select": ((N,), (N,), {"cond": np.arange(N) % 2 == 0, "a": Ref("h"), "b": HALF(0.25)}),
    "band_part": (GRID, GRID, {"lower": 1, "upper": 2}),
    "max_pool": (MAPS, (1, 16, ROWS // 2, 2), {"kernel_sizes": [2, 2], "strides": [2, 2]}),
    "reduce_max": (GRID, (ROWS,), {"axes": [1]}),
    "reduce_min": (GRID, (ROWS,), {"axes": [1]}),
    "pixel_shuffle": (MAPS, (1, 4, ROWS * 2, 8), {"upscale_factor": 2}),
    "depth_to_space": (MAPS, (1, 4, ROWS * 2, 8), {"block_size": 2}),
    "sliding_windows": ((N,), (N - 1, 2), {"axis": 0, "size": 2}),
}
# Rules for which nothing can pass: their float results come from no float input, or a row would say no more.
ELSEWHERE = {
    "crop": "as slice_by_size",
    "crop_resize": "as gather, in its nearest mode",
    "resize_nearest_neighbor": "as gather",
    "upsample_nearest_neighbor": "as gather",
    "non_maximum_suppression": "its indices are no floats, so nothing passes it",
    "batch_to_space": "as depth_to_space",
    "space_to_batch": "as depth_to_space",
    "space_to_depth": "as depth_to_space",
    "pixel_unshuffle": "as depth_to_space",
    "fill": "no float input",
    "fill_like": "no float input",
    "one_hot": "no float input",
    "reshape_like": "as reshape",
    "reverse_sequence": "as reverse",
    "slice_update": "as concat",
    "split": "as slice_by_size",
    "topk": "its indices are no floats, so nothing passes it",
}


@pytest.mark.parametrize("op", CASES)
def test_rounding_commutes(op: str) -> None:
    if registry.rule_for(op) is None:
        pytest.skip("not lowered yet")
    before, after, inputs = CASES[op]
    x = X[: int(np.prod(before))]
    usage = {} if {"values", "a"} & set(inputs) else {"x": Ref("h")}
    ops = [
        operation("cast", "h", typed("fp16", *before), x=Ref("x"), dtype="fp16"),
        operation(op, "y", typed("fp16", *after), **usage, **inputs),
    ]
    moved = function({"x": typed("fp32", *before)}, ops)
    pinned = function({"x": typed("fp32", *before)}, ops, "y", "h")  # h is a result: it is rounded first
    found = run(moved, x=x.reshape(before))["y"]
    expected = run(pinned, x=x.reshape(before))["y"]
    assert found.dtype == np.float32
    assert same_bits(found, expected)
    assert same_bits(found, found.astype(NUMPY_DTYPES["fp16"]).astype(np.float32))
    if usage:  # a value that is used once: its rounding does pass
        assert onnx_ops(moved)[-2:] == ["Cast", "Cast"]


def same_bits(found: Array, expected: Array) -> bool:
    """Whether all bits are equal, but for the sign of zeros and what a NaN carries."""
    one, other = (np.where(array == 0, np.float32(0), array) for array in (found, expected))
    nan = np.isnan(one) & np.isnan(other)
    return bool(((one.view(np.uint32) == other.view(np.uint32)) | nan).all())


def test_every_rule_that_lets_a_rounding_pass_is_proven() -> None:
    moving = {name for name, rule in registry._RULES.items() if rule.moves}
    assert moving - set(CASES) - set(ELSEWHERE) == set(), "add a row to CASES, or say why not in ELSEWHERE"
