"""Packed numbers, against Python's own whole numbers as the bit string."""

import numpy as np
import pytest

from coremlops.model.bits import SUB_BYTE, packed_bytes, unpack, unpack_bits


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_values_come_back_from_one_long_number(bits: int, count: int) -> None:
    values = np.random.default_rng(bits * count).integers(0, 1 << bits, count)
    number = sum(int(value) << (bits * index) for index, value in enumerate(values))
    data = number.to_bytes(packed_bytes(count, bits) + 2, "little")  # two bytes too many are left alone
    np.testing.assert_array_equal(unpack_bits(data, bits, count), values)


@pytest.mark.parametrize("dtype", SUB_BYTE)
def test_signs(dtype: str) -> None:
    bits, stored = SUB_BYTE[dtype]
    every = range(1 << bits)
    number = sum(value << (bits * value) for value in every)
    found = unpack(number.to_bytes(packed_bytes(1 << bits, bits), "little"), dtype, 1 << bits)
    assert found.dtype == stored
    half = 1 << (bits - 1)
    assert found.tolist() == [
        value - 2 * half if dtype == "int4" and value >= half else value for value in every
    ]
