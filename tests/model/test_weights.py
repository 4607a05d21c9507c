"""Blob storage: what is read, and every way in which a record can lie."""

import importlib.machinery
import importlib.util
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coremlops.errors import WeightsError
from coremlops.model.weights import DTYPES, BlobFile
from tests.handmade import BLOB_CODES, blob_bytes


def blob_file(folder: Path, data: bytes) -> BlobFile:
    path = folder / "weight.bin"
    path.write_bytes(data)
    return BlobFile(path)


@pytest.mark.parametrize("dtype", sorted(BLOB_CODES))
def test_values_come_back(tmp_path: Path, dtype: str) -> None:
    arrays = [np.arange(5).astype(dtype), np.array([], dtype), np.arange(100).astype(dtype)]
    data, offsets = blob_bytes(arrays)
    file = blob_file(tmp_path, data)
    for array, offset in zip(arrays, offsets, strict=True):
        found = file.read(offset)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def test_values_are_a_read_only_view(tmp_path: Path) -> None:
    data, offsets = blob_bytes([np.arange(4, dtype=np.float32)])
    found = blob_file(tmp_path, data).read(offsets[0])
    assert not found.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def patched(field: int, value: int) -> bytes:
    """A file of one float32 blob of four values, one field of whose record is replaced."""
    data, _ = blob_bytes([np.arange(4, dtype=np.float32)])
    record: list[Any] = list(struct.unpack_from("<IIQQQ", data, 64))
    record[field] = value
    return data[:64] + struct.pack("<IIQQQ", *record) + data[64 + 32 :]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, 1, "sentinel 0x1, expected 0xdeadbeef"),
        (1, 99, "unknown dtype code 99"),
        (2, 1 << 40, "truncated"),
        (2, (1 << 64) - 1, "truncated"),
        (2, 15, "15 bytes are no whole number of fp32"),
        (3, 129, "not a multiple of 64"),
        (3, 64, "inside its record"),
        (3, 1 << 60, "truncated"),
    ],
)
def test_a_record_that_lies(tmp_path: Path, field: int, value: int, message: str) -> None:
    file = blob_file(tmp_path, patched(field, value))
    with pytest.raises(WeightsError, match=message):
        file.read(64)


def test_padding_counts_below_one_byte_alone(tmp_path: Path) -> None:
    # basic-pitch's package, made with an older coremltools, has rubbish in the field
    assert blob_file(tmp_path, patched(4, 1 << 40)).read(64).tolist() == [0, 1, 2, 3]
    data = bytearray(patched(4, 1 << 30))
    struct.pack_into("<I", data, 64 + 4, 8)  # int4
    with pytest.raises(WeightsError, match="bits of padding"):
        blob_file(tmp_path, bytes(data)).record(64)


@pytest.mark.parametrize("offset", [0, 65, -64, 1 << 62])
def test_an_offset_that_is_none(tmp_path: Path, offset: int) -> None:
    data, _ = blob_bytes([np.arange(4, dtype=np.float32)])
    with pytest.raises(WeightsError, match=r"offset|truncated"):
        blob_file(tmp_path, data).read(offset)


@pytest.mark.parametrize("length", [0, 1, 63])
def test_a_file_shorter_than_its_header(tmp_path: Path, length: int) -> None:
    with pytest.raises(WeightsError, match=r"cannot be mapped|truncated"):
        blob_file(tmp_path, bytes(length))


def test_another_version(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="version 1; expected 2"):
        blob_file(tmp_path, struct.pack("<II", 0, 1).ljust(64, b"\0"))


@pytest.mark.parametrize("code", [5, 16, 17])
def test_dtypes_that_are_known_and_not_decoded(tmp_path: Path, code: int) -> None:
    file = blob_file(tmp_path, patched(1, code))
    assert file.record(64).dtype == DTYPES[code]
    with pytest.raises(WeightsError, match=f"is {DTYPES[code]}, which is not decoded here"):
        file.read(64)


def test_where_an_array_lies_in_the_file(tmp_path: Path) -> None:
    data, offsets = blob_bytes([np.arange(6, dtype=np.float32), np.arange(4, dtype=np.float16)])
    path = tmp_path / "weight.bin"
    path.write_bytes(data)
    blobs = BlobFile(path)
    wide, half = blobs.read(offsets[0]), blobs.read(offsets[1])
    assert blobs.offset_of(wide) == blobs.record(offsets[0]).offset
    assert blobs.offset_of(wide.reshape(2, 3)[1]) == blobs.record(offsets[0]).offset + 12
    assert blobs.offset_of(half) == blobs.record(offsets[1]).offset
    # what was turned or copied lies nowhere
    assert blobs.offset_of(wide.reshape(2, 3).T) is None
    assert blobs.offset_of(half.astype(np.float32)) is None


def apple_storage() -> Any:
    """coremltools' own writer of blobs, without the five seconds that importing coremltools takes."""
    name = "coremltools.libmilstoragepython"
    if name in sys.modules:  # it cannot be loaded twice in a process
        return sys.modules[name]
    spec = importlib.util.find_spec("coremltools")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("coremltools is not installed")
    path = next(Path(spec.submodule_search_locations[0]).glob("libmilstoragepython*.so"), None)
    if path is None:
        pytest.skip("this coremltools has no storage library")
    loader = importlib.machinery.ExtensionFileLoader("libmilstoragepython", str(path))
    module_spec = importlib.util.spec_from_loader(loader.name, loader)
    assert module_spec is not None
    module = importlib.util.module_from_spec(module_spec)
    loader.exec_module(module)
    sys.modules[name] = module
    return module


@pytest.mark.parametrize("dtype", ["int4", "uint1", "uint2", "uint3", "uint4", "uint6"])
def test_values_below_a_byte_as_apple_s_library_writes_them(tmp_path: Path, dtype: str) -> None:
    bits = int(dtype[-1])
    rng = np.random.default_rng(bits)
    writer = apple_storage()._BlobStorageWriter(str(tmp_path / "weight.bin"))
    written = {}
    for count in (1, 2, 3, 5, 8, 11, 64, 1001):
        low, stored = (-8, np.int8) if dtype == "int4" else (0, np.uint8)
        values = rng.integers(low, low + (1 << bits), count).astype(stored)
        written[getattr(writer, f"write_{dtype}_data")(values)] = values
    del writer  # this writes the file
    file = BlobFile(tmp_path / "weight.bin")
    for offset, values in written.items():
        found = file.read(offset)
        assert found.dtype == values.dtype
        np.testing.assert_array_equal(found, values)
