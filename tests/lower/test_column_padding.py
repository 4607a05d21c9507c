"""The padding of a tall convolution over a column, and only that, becomes an op of its own."""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Function, Ref
from coremlops.lower.passes import split_column_padding
from tests.lower.programs import function, onnx_ops, operation, run, typed

RNG = np.random.default_rng(3)


def column(
    dtype: str = "fp32", shape: tuple[int, ...] = (2, 3, 40, 1), tall: int = 8, **conv: Any
) -> Function:
    weight = RNG.standard_normal((4, 3, tall, 1)).astype(np.float16 if dtype == "fp16" else np.float32)
    inputs = {"pad_type": "custom", "pad": [3, 4, 0, 0], **conv}
    type_ = typed(dtype, shape[0], 4, None, None)
    return function(
        {"x": typed(dtype, *shape)}, [operation("conv", "y", type_, x=Ref("x"), weight=weight, **inputs)]
    )


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
@pytest.mark.parametrize(
    "conv", [{}, {"pad": [0, 4, 0, 0]}, {"pad": [5, 0, 0, 0]}, {"strides": [3, 1], "dilations": [2, 1]}]
)
def test_the_values_are_the_same(dtype: str, conv: dict[str, Any]) -> None:
    program = column(dtype, **conv)
    split, changed = split_column_padding(program)
    assert changed
    assert [entry.type for entry in split.block.operations] == ["concat", "conv"]
    assert split_column_padding(split) == (split, False)
    assert "Concat" in onnx_ops(program)  # the pass is one of those that run
    x = RNG.standard_normal((2, 3, 40, 1)).astype(np.float16).astype(np.float32)
    weight = program.block.operations[0].inputs["weight"][0].value.astype(np.float64)  # type: ignore[union-attr]
    (above, below, *_) = conv.get("pad", [3, 4, 0, 0])
    stride, dilation = conv.get("strides", [1])[0], conv.get("dilations", [1])[0]
    rows = np.pad(x[..., 0].astype(np.float64), [(0, 0), (0, 0), (above, below)])
    windows = np.lib.stride_tricks.sliding_window_view(rows, 7 * dilation + 1, axis=2)
    expected = np.einsum("nchk,ock->noh", windows[:, :, ::stride, ::dilation], weight[..., 0])
    # float32 sums of 24 products, and one rounding to fp16
    tolerance = 1e-5 if dtype == "fp32" else 2e-3
    np.testing.assert_allclose(run(program, x=x)["y"][..., 0], expected, rtol=tolerance, atol=5 * tolerance)


@pytest.mark.parametrize(
    "program",
    [
        column(tall=7),
        column(shape=(2, 3, 40, 2)),
        column(shape=(2, 3, 1 << 30, 1), pad=[1 << 20, 0, 0, 0]),
        column(pad=[0, 0, 0, 0]),
        column(pad=[3, 4, 0, 1]),
        column(pad=[-3, 4, 0, 0]),
        column(pad=[3, 4]),
        column(pad_type="same"),
        column(pad_type="valid"),
        function({"x": typed("fp32", 2, 3, None, 1)}, list(column().block.operations)),
    ],
)
def test_what_is_left_alone(program: Function) -> None:
    assert split_column_padding(program) == (program, False)
