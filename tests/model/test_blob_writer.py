"""What is written is what `BlobFile` and coremltools' own reader find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.model.bits import SUB_BYTE
from coremlops.model.blob_writer import BlobWriter
from coremlops.model.weights import BlobFile
from tests.handmade import blob_bytes


@pytest.mark.parametrize("dtype", sorted(SUB_BYTE))
@pytest.mark.parametrize("count", [1, 7, 64])
def test_values_of_few_bits_come_back(tmp_path: Path, dtype: str, count: int) -> None:
    bits, stored = SUB_BYTE[dtype]
    low = -(1 << (bits - 1)) if stored.kind == "i" else 0
    values = np.random.default_rng(count).integers(low, low + (1 << bits), count).astype(stored)
    with BlobWriter(tmp_path / "w.bin") as writer:
        writer.add(np.zeros(3, np.uint8), "uint8")
        offset = writer.add(values, dtype)
    np.testing.assert_array_equal(BlobFile(tmp_path / "w.bin").read(offset), values)


def test_the_bytes_are_those_of_the_format(tmp_path: Path) -> None:
    arrays: list[np.ndarray[Any, Any]] = [
        np.arange(5, dtype=np.float16),
        np.arange(40, dtype=np.float32),
        np.arange(3, dtype=np.uint8),
        np.arange(7, dtype=np.uint32),
    ]
    expected, offsets = blob_bytes(arrays)
    with BlobWriter(tmp_path / "w.bin") as writer:
        found = [
            writer.add(array, dtype)
            for array, dtype in zip(arrays, ["fp16", "fp32", "uint8", "uint32"], strict=True)
        ]
    assert found == offsets
    assert (tmp_path / "w.bin").read_bytes() == expected


def test_equal_values_are_stored_once(tmp_path: Path) -> None:
    with BlobWriter(tmp_path / "w.bin") as writer:
        one = writer.add(np.zeros(4, np.int8), "int8")
        assert writer.add(np.zeros(4, np.int8), "int8") == one
        assert writer.add(np.zeros(4, np.uint8), "uint8") != one
        # Eight bytes of zeros, seven or eight values of a byte's eighth: the padding tells them apart.
        eight = writer.add(np.zeros(8, np.uint8), "uint1")
        assert writer.add(np.zeros(7, np.uint8), "uint1") != eight
