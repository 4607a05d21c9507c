"""Numbers of fewer than eight bits, packed one after another from the least significant bit on.

A value may lie across two bytes; its low bits are then the high bits of the first one. Weight files,
constants inside a program and the older `constexpr_*` operations all pack like this.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# dtype in the format's words -> (bits of a value, NumPy's dtype of the unpacked ones)
SUB_BYTE: dict[str, tuple[int, np.dtype[Any]]] = {
    "int4": (4, np.dtype("i1")),
    "uint1": (1, np.dtype("u1")),
    "uint2": (2, np.dtype("u1")),
    "uint3": (3, np.dtype("u1")),
    "uint4": (4, np.dtype("u1")),
    "uint6": (6, np.dtype("u1")),
}


def packed_bytes(count: int, bits: int) -> int:
    """How many bytes `count` values of `bits` bits take."""
    return -(-count * bits // 8)


def unpack_bits(data: Any, bits: int, count: int) -> np.ndarray[Any, Any]:
    """The first `count` values in `data` (bytes, or an array of uint8), as uint8.

    `bits`: 1 to 8. `data` must hold `packed_bytes(count, bits)` bytes or more.
    """
    packed = np.frombuffer(data, np.uint8, packed_bytes(count, bits))
    group = math.lcm(bits, 8) // 8  # bytes after which values begin anew at a byte
    padded = np.zeros(-(-packed.size // group) * group, np.uint8)
    padded[: packed.size] = packed
    words: np.ndarray[Any, np.dtype[np.uint64]] = np.zeros(padded.size // group, np.uint64)
    for index in range(group):
        words |= padded[index::group].astype(np.uint64) << np.uint64(8 * index)
    values = np.empty((words.size, 8 * group // bits), np.uint8)
    for index in range(values.shape[1]):
        values[:, index] = (words >> np.uint64(bits * index)) & np.uint64((1 << bits) - 1)
    return values.reshape(-1)[:count]


def pack_bits(values: np.ndarray[Any, Any], bits: int) -> np.ndarray[Any, Any]:
    """The low `bits` bits of each value, packed: uint8 [packed_bytes(values.size, bits)].

    values: any shape, int8 or uint8; bits: 1 to 8. What `unpack_bits` undoes.
    """
    group = math.lcm(bits, 8) // 8  # bytes after which values begin anew at a byte
    count = 8 * group // bits
    padded = np.zeros(-(-values.size // count) * count, np.uint8)
    padded[: values.size] = values.reshape(-1).view(np.uint8) & np.uint8((1 << bits) - 1)
    lanes = padded.reshape(-1, count)
    words: np.ndarray[Any, np.dtype[np.uint64]] = np.zeros(len(lanes), np.uint64)
    for index in range(count):
        words |= lanes[:, index].astype(np.uint64) << np.uint64(bits * index)
    packed = words.astype("<u8", copy=False).view(np.uint8).reshape(-1, 8)[:, :group]
    return np.ascontiguousarray(packed).reshape(-1)[: packed_bytes(values.size, bits)]


def unpack(data: Any, dtype: str, count: int) -> np.ndarray[Any, Any]:
    """The first `count` values of a dtype in `SUB_BYTE`, as int8 or uint8."""
    bits, stored = SUB_BYTE[dtype]
    values = unpack_bits(data, bits, count)
    if stored.kind == "i":  # the upper half are the negative ones
        return ((values ^ (1 << (bits - 1))).astype(np.int8) - np.int8(1 << (bits - 1))).astype(stored)
    return values
