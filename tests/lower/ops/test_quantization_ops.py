"""8 bits and back, against NumPy in double precision: halves to even, both ends clipped."""

from typing import Any

import numpy as np
import pytest

from coremlops.dialects.mil import Ref, TensorType
from tests.lower.programs import Array, function, operation, run, typed


def quantized(kind: str, type_: TensorType, x: Array, dtype: str, **inputs: Any) -> Array:
    """One operation whose tensor is called `input`."""
    program = function(
        {"x": TensorType(dtype, x.shape)}, [operation(kind, "y", type_, input=Ref("x"), **inputs)]
    )
    return run(program, x=x)["y"]


RNG = np.random.default_rng(3)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("shifted", [False, True])
def test_quantize(dtype: str, axis: int | None, shifted: bool) -> None:
    x = (RNG.integers(-600, 600, (3, 4)) / 4).astype(np.float32)  # halves among them
    size = () if axis is None else (x.shape[axis],)
    scale = np.full(size, 0.5, np.float32)
    zero = np.full(size, 3, dtype)
    more: dict[str, Any] = {"zero_point": zero} if shifted else {}
    if axis is not None:
        more["axis"] = axis
    found = quantized("quantize", typed(dtype, 3, 4), x, "fp32", scale=scale, output_dtype=dtype, **more)
    info = np.iinfo(dtype)
    expected = np.clip(np.rint(x.astype(np.float64) / 0.5) + (3 if shifted else 0), info.min, info.max)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("result", ["fp32", "fp16"])
@pytest.mark.parametrize("axis", [None, 1])
def test_dequantize(dtype: str, result: str, axis: int | None) -> None:
    info = np.iinfo(dtype)
    x = RNG.integers(info.min, info.max + 1, (3, 4)).astype(dtype)
    size = () if axis is None else (4,)
    kind: Any = np.float16 if result == "fp16" else np.float32
    scale = RNG.random((*size,)).astype(kind) if size else np.array(0.3, kind)
    zero = np.full(size, 3, dtype)
    more: dict[str, Any] = {} if axis is None else {"axis": axis}
    found = quantized("dequantize", typed(result, 3, 4), x, dtype, scale=scale, zero_point=zero, **more)
    expected = (x.astype(np.float32) - 3) * scale.astype(np.float32)
    np.testing.assert_array_equal(found, expected.astype(kind).astype(np.float32))
