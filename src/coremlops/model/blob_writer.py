"""Writes a weight file: blob storage, version 2; `weights` has the layout."""

from __future__ import annotations

import hashlib
import os
import struct
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from coremlops.model.bits import SUB_BYTE, pack_bits
from coremlops.model.weights import ALIGNMENT, DTYPES, SENTINEL, VERSION, BlobRecord

_CODES = {name: code for code, name in DTYPES.items()}
_HEADER = struct.Struct("<II")
_RECORD = struct.Struct("<IIQQQ")


class BlobWriter:
    """A weight file that grows by a blob; leaving the `with` block completes it.

    Equal blobs are stored once, so that functions and operations share what they have in common.
    """

    __slots__ = ("_file", "_offsets", "path")

    def __init__(self, path: Path) -> None:
        """Begin the file; one that is there is replaced."""
        self.path = path
        self._file = path.open("wb")
        self._file.write(bytes(ALIGNMENT))
        self._offsets: dict[tuple[str, int, bytes], int] = {}

    def __enter__(self) -> BlobWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file as file:
            file.seek(0)
            file.write(_HEADER.pack(len(self._offsets), VERSION))
            file.flush()
            os.fsync(file.fileno())

    def add(self, values: np.ndarray[Any, Any], dtype: str) -> int:
        """Write values as one blob; the offset of its record, which the program names.

        values: any shape, in the NumPy dtype that the format's `dtype` is read as (int8 or uint8 where a
        value takes less than a byte).
        """
        if dtype in SUB_BYTE:
            bits = SUB_BYTE[dtype][0]
            packed = pack_bits(values, bits)
            return self.add_raw(
                packed.data, BlobRecord(dtype, packed.size, 0, packed.size * 8 - values.size * bits)
            )
        flat = np.ascontiguousarray(values).reshape(-1)
        little = flat.astype(flat.dtype.newbyteorder("<"), copy=False).view(np.uint8)
        return self.add_raw(little.data, BlobRecord(dtype, little.size, 0, 0))

    def add_raw(self, data: memoryview | bytes, record: BlobRecord) -> int:
        """Write bytes as one blob with the dtype and padding of `record`; the offset of the new record."""
        key = (record.dtype, record.padding_bits, hashlib.sha256(data).digest())
        if key in self._offsets:
            return self._offsets[key]
        file = self._file
        offset = file.seek(0, os.SEEK_END)
        if offset % ALIGNMENT:
            offset += file.write(bytes(-offset % ALIGNMENT))
        start = offset + ALIGNMENT
        header = _RECORD.pack(SENTINEL, _CODES[record.dtype], len(data), start, record.padding_bits)
        file.write(header.ljust(ALIGNMENT, b"\0"))
        file.write(data)
        file.write(bytes(-len(data) % ALIGNMENT))
        self._offsets[key] = offset
        return offset
