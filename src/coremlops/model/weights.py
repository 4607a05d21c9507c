"""Core ML's weight files: blob storage, version 2, mapped and never copied whole.

Layout, little endian. A 64-byte header: u32 count, u32 version (2). For each blob a 64-byte record, at the
offset that the program names: u32 sentinel 0xDEADBEEF, u32 dtype code, u64 size in bytes, u64 data offset,
u64 padding in bits. Records and data are aligned to 64 bytes.

Source: coremltools, `mlmodel/src/MILBlob/Blob/StorageFormat.hpp` and `BlobDataType.hpp`.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coremlops.errors import WeightsError
from coremlops.model.bits import SUB_BYTE, unpack

SENTINEL = 0xDEADBEEF
ALIGNMENT = 64
VERSION = 2

# Code in the record -> name. All that the format knows; those in _NUMPY and SUB_BYTE are decoded.
DTYPES = {
    1: "fp16",
    2: "fp32",
    3: "uint8",
    4: "int8",
    5: "bf16",
    6: "int16",
    7: "uint16",
    8: "int4",
    9: "uint1",
    10: "uint2",
    11: "uint4",
    12: "uint3",
    13: "uint6",
    14: "int32",
    15: "uint32",
    16: "fp8e4m3fn",
    17: "fp8e5m2",
}
_NUMPY = {
    "fp16": "<f2",
    "fp32": "<f4",
    "uint8": "u1",
    "int8": "i1",
    "int16": "<i2",
    "uint16": "<u2",
    "int32": "<i4",
    "uint32": "<u4",
}
_RECORD = struct.Struct("<IIQQQ")


@dataclass(frozen=True, slots=True)
class BlobRecord:
    """One blob: `dtype` in the format's words; `bytes` and `offset` of its data, padding bits at its end."""

    dtype: str
    bytes: int
    offset: int
    padding_bits: int


class BlobFile:
    """A weight file, mapped into memory; every record is checked before its data is touched."""

    __slots__ = ("_data", "path")

    def __init__(self, path: Path) -> None:
        """Map the file and check its header. Raises WeightsError."""
        self.path = path
        try:
            with path.open("rb") as file:
                # An empty file cannot be mapped; it is too short in any case.
                self._data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path}: cannot be mapped: {error}", hint="copy the model again") from error
        if len(self._data) < ALIGNMENT:
            raise self._truncated(f"{len(self._data)} bytes; the header alone is {ALIGNMENT}")
        _, version = struct.unpack_from("<II", self._data)
        if version != VERSION:
            raise WeightsError(f"{path}: blob storage version {version}; expected {VERSION}")

    def __len__(self) -> int:
        return len(self._data)

    def offset_of(self, array: np.ndarray[Any, Any]) -> int | None:
        """Where in the file the bytes of `array` are; None when it is no view of the file as it stands."""
        start = array.__array_interface__["data"][0]
        base = np.frombuffer(self._data, np.uint8).__array_interface__["data"][0]
        inside = base <= start and start + array.nbytes <= base + len(self._data)
        return start - base if inside and array.flags.c_contiguous else None

    def _truncated(self, detail: str) -> WeightsError:
        return WeightsError(
            f"{self.path}: the weights are truncated: {detail}",
            hint="copy the whole .mlpackage folder, or convert the model again",
        )

    def record(self, offset: int) -> BlobRecord:
        """The record at `offset`, with its data known to lie inside the file. Raises WeightsError."""
        if offset < ALIGNMENT or offset % ALIGNMENT:
            raise WeightsError(
                f"{self.path}: blob offset {offset} is not a multiple of {ALIGNMENT} past the header"
            )
        if offset + ALIGNMENT > len(self._data):
            raise self._truncated(f"a record at {offset}, and the file has {len(self._data)} bytes")
        sentinel, code, size, start, padding = _RECORD.unpack_from(self._data, offset)
        if sentinel != SENTINEL:
            raise WeightsError(
                f"{self.path}: no blob at offset {offset}: sentinel {sentinel:#x}, expected {SENTINEL:#x}"
            )
        if code not in DTYPES:
            raise WeightsError(f"{self.path}: the blob at {offset} has the unknown dtype code {code}")
        if start % ALIGNMENT:
            raise WeightsError(f"{self.path}: data offset {start} is not a multiple of {ALIGNMENT}")
        if start < offset + ALIGNMENT:
            raise WeightsError(
                f"{self.path}: the data of the blob at {offset} begins at {start}, inside its record"
            )
        if start + size > len(self._data):
            raise self._truncated(f"a blob ends at {start + size}, and the file has {len(self._data)} bytes")
        if DTYPES[code] in _NUMPY:
            padding = 0  # a reserved field, in which older writers left what was there
        if padding >= 8 and padding > size * 8:
            raise WeightsError(
                f"{self.path}: the blob at {offset} has {padding} bits of padding in {size} bytes"
            )
        return BlobRecord(DTYPES[code], size, start, padding)

    def raw(self, record: BlobRecord) -> memoryview:
        """The bytes of a blob, packed as they are in the file."""
        return memoryview(self._data)[record.offset : record.offset + record.bytes]

    def read(self, offset: int) -> np.ndarray[Any, Any]:
        """The blob whose record is at `offset`, flat: a read-only view of the file.

        Values below one byte are unpacked: int4 to int8, the others to uint8. Raises WeightsError, also for
        dtypes that no operation takes.
        """
        record = self.record(offset)
        if record.dtype in SUB_BYTE:
            count = (record.bytes * 8 - record.padding_bits) // SUB_BYTE[record.dtype][0]
            return unpack(
                memoryview(self._data)[record.offset : record.offset + record.bytes], record.dtype, count
            )
        if record.dtype not in _NUMPY:
            raise WeightsError(
                f"{self.path}: the blob at {offset} is {record.dtype}, which is not decoded here",
                hint="weights of fp16, fp32 and integers of 1 to 32 bits are",
            )
        dtype = np.dtype(_NUMPY[record.dtype])
        if record.bytes % dtype.itemsize:
            raise WeightsError(
                f"{self.path}: {record.bytes} bytes are no whole number of {record.dtype} values"
            )
        return np.frombuffer(self._data, dtype, record.bytes // dtype.itemsize, record.offset)
