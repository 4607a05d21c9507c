"""Packed numbers, against Python's own whole numbers as the bit string."""

import numpy as np
import pytest

from coremlops.model.bits import SUB_BYTE, pack_bits, packed_bytes, unpack, unpack_bits


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


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100])
def test_values_are_packed_into_one_long_number(bits: int, count: int) -> None:
    values = np.random.default_rng(bits * count).integers(0, 1 << bits, count).astype(np.uint8)
    number = sum(int(value) << (bits * index) for index, value in enumerate(values))
    assert pack_bits(values, bits).tobytes() == number.to_bytes(packed_bytes(count, bits), "little")


def test_negative_numbers_are_packed_by_their_low_bits() -> None:
    values = np.arange(-8, 8, dtype=np.int8).reshape(4, 4)
    assert unpack(pack_bits(values, 4), "int4", 16).tolist() == list(range(-8, 8))
