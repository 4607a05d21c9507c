"""`pad` then `conv` becomes one convolution, and only where that changes nothing."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Function, Ref
from coremlops.errors import ModelFormatError
from coremlops.lower.passes import merge_pad_into_conv
from tests.lower.programs import function, lower, onnx_ops, operation, run, typed

RNG = np.random.default_rng(2)
WEIGHT = RNG.standard_normal((4, 3, 3, 3)).astype(np.float32)


def padded(pad: dict[str, Any], conv: dict[str, Any], *outputs: str) -> Function:
    """pad -> conv over [1, 3, 8, 8]."""
    return function(
        {"x": typed("fp32", 1, 3, 8, 8)},
        [
            operation("pad", "p", typed("fp32", 1, 3, None, None), x=Ref("x"), **pad),
            operation("conv", "y", typed("fp32", 1, 4, None, None), x=Ref("p"), weight=WEIGHT, **conv),
        ],
        *outputs,
    )


MERGED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"pad": [0, 0, 0, 0, 0, 1, 0, 1], "mode": "constant", "constant_val": 0.0}, {"strides": [2, 2]}),
    ({"pad": [1, 2, 3, 4]}, {"pad_type": "valid"}),
    ({"pad": [0, 0, 1, 2, 3, 4]}, {"pad_type": "custom", "pad": [1, 0, 0, 1], "dilations": [2, 1]}),
]


@pytest.mark.parametrize(("pad", "conv"), MERGED)
def test_a_zero_padding_is_merged(pad: dict[str, Any], conv: dict[str, Any]) -> None:
    program = padded(pad, conv)
    merged, changed = merge_pad_into_conv(program)
    assert changed
    assert merged.histogram() == {"conv": 1}
    assert onnx_ops(program) == ["Conv"]
    x = RNG.standard_normal((1, 3, 8, 8)).astype(np.float32)
    both = padded(pad, conv, "y", "p")  # a second use of p keeps the pad where it is
    assert onnx_ops(both) == ["Pad", "Conv"]
    np.testing.assert_array_equal(run(program, x=x)["y"], run(both, x=x)["y"])


@pytest.mark.parametrize(
    ("pad", "conv"),
    [
        ({"pad": [1, 1, 1, 1], "constant_val": 1.0}, {}),
        ({"pad": [1, 1, 1, 1], "mode": "reflect"}, {}),
        ({"pad": [1, 1, 1, 1]}, {"pad_type": "same"}),
        ({"pad": [0, 0, 0, 0, 1, 1, 1, 1], "constant_val": 5.0}, {}),
        ({"pad": [0, 1, 0, 0, 1, 1, 1, 1]}, {}),
        # what makes no sense
        ({"pad": np.int32(1)}, {}),
        ({"pad": [1, 1, 1, 1], "mode": [1, 2]}, {}),
        ({"pad": [1, 1, 1, 1]}, {"pad_type": [1, 2]}),
    ],
)
def test_another_padding_stays(pad: dict[str, Any], conv: dict[str, Any]) -> None:
    program = padded(pad, conv)
    same, changed = merge_pad_into_conv(program)
    assert not changed
    assert same is program


def test_a_padding_of_nothing_is_an_error_of_ours() -> None:
    program = padded({"pad": [1, 1, 1, 1]}, {})
    pad, conv = program.block.operations
    empty = replace(pad, inputs={"pad": pad.inputs["pad"]})
    with pytest.raises(ModelFormatError, match="no input 'x'"):
        lower(replace(program, block=replace(program.block, operations=(empty, conv))))
