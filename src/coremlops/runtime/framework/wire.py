"""Features as bytes between a model's process and ours.

A message is a header, JSON with its length before it (8 bytes, little-endian), and the buffers whose lengths
it names. No pickle: the other process runs a hostile file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np

from coremlops.errors import ModelError

MAX_HEADER_BYTES = 64 << 20
MAX_BUFFER_BYTES = 8 << 30
_LENGTH = struct.Struct("<Q")
_DTYPES = ("bool", "int8", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64")
_MODES = ("RGB", "RGBA", "L", "F")


def send(stream: BinaryIO, message: Mapping[str, Any]) -> None:
    """Write one message: names to features, dictionaries and lists of them, scalars or None."""
    buffers: list[bytes] = []
    body = _encode(dict(message), buffers)
    header = json.dumps({"body": body, "buffers": [len(buffer) for buffer in buffers]}).encode()
    stream.write(_LENGTH.pack(len(header)))
    stream.write(header)
    for buffer in buffers:
        stream.write(buffer)
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any]:
    """Read one message. Raises EOFError when there is none, ModelError for anything else than one."""
    length = stream.read(_LENGTH.size)
    if not length:
        raise EOFError
    try:
        size = _LENGTH.unpack(length)[0]
        if size > MAX_HEADER_BYTES:
            raise ValueError(f"a header of {size} bytes")
        header = json.loads(_exactly(stream, size))
        sizes = [int(size) for size in header["buffers"]]
        if min(sizes, default=0) < 0 or sum(sizes) > MAX_BUFFER_BYTES:
            raise ValueError(f"buffers of {sizes} bytes")
        message = _decode(header["body"], [_exactly(stream, size) for size in sizes])
        if not isinstance(message, dict):
            raise ValueError("no dictionary")
    except (ValueError, KeyError, TypeError, IndexError, struct.error, RecursionError) as error:
        raise ModelError(f"the model's process sent what is no message: {error}") from error
    return message


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise ValueError(f"{len(data)} of {size} bytes")
    return data


def _encode(value: Any, buffers: list[bytes]) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic() if value.dtype.kind in "biuf":
            return value.item()
        case dict():
            return {"dict": [[_encode(key, buffers), _encode(item, buffers)] for key, item in value.items()]}
        case list() | tuple():
            return {"list": [_encode(item, buffers) for item in value]}
        case np.ndarray() if str(value.dtype) in _DTYPES:
            buffers.append(value.tobytes())
            return {"array": [str(value.dtype), list(value.shape), len(buffers) - 1]}
    from PIL import Image

    if isinstance(value, Image.Image) and value.mode in _MODES:
        buffers.append(value.tobytes())
        return {"image": [value.mode, list(value.size), len(buffers) - 1]}
    raise ModelError(f"a {type(value).__name__} is no feature that another process can be sent")


def _decode(body: Any, buffers: list[bytes]) -> Any:
    if not isinstance(body, dict):
        return body
    ((kind, value),) = body.items()
    match kind:
        case "dict":
            return {_decode(key, buffers): _decode(item, buffers) for key, item in value}
        case "list":
            return [_decode(item, buffers) for item in value]
        case "array" if value[0] in _DTYPES:
            return np.frombuffer(buffers[value[2]], value[0]).reshape(value[1]).copy()
        case "image" if value[0] in _MODES:
            from PIL import Image

            return Image.frombytes(value[0], tuple(value[1]), buffers[value[2]])
    raise ValueError(f"a value of the kind {kind!r}")
