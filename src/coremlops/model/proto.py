"""Core ML's protobuf messages, without coremltools.

The classes come from `coreml.desc` (made by `tools/make_descriptors.py`) in a descriptor pool of our own, so
they live beside an imported coremltools, which registers the same names in the default pool.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from coremlops.errors import ModelFormatError

MAX_SPEC_BYTES = (1 << 31) - 1  # protobuf's own limit

_PACKAGE = "CoreML.Specification"


@cache
def _pool() -> Any:
    described = descriptor_pb2.FileDescriptorSet.FromString(
        Path(__file__).with_name("coreml.desc").read_bytes()  # importlib.resources would take 7 ms to import
    )
    pool = descriptor_pool.DescriptorPool()
    for file in described.file:
        pool.Add(file)
    return pool


@cache
def message_class(name: str) -> Any:
    """The class of one message: `message_class("Model")`, `message_class("MILSpec.Program")`."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_PACKAGE}.{name}"))


def parse_model(data: bytes | memoryview, *, where: str) -> Any:
    """Bytes to a `Model` message.

    `where` names the bytes in errors. Raises ModelFormatError for bytes that are no Core ML model.
    """
    if len(data) > MAX_SPEC_BYTES:
        raise ModelFormatError(
            f"{where}: {len(data)} bytes; a model description holds at most {MAX_SPEC_BYTES}"
        )
    model = message_class("Model")()
    try:
        model.ParseFromString(bytes(data))
    except (message.DecodeError, RecursionError) as error:
        raise ModelFormatError(
            f"{where}: not a Core ML model: the protobuf does not parse ({error})",
            hint="is the file complete, and is it an .mlmodel or an .mlpackage?",
        ) from error
    # Almost any short string parses as an empty message; a model without a version and kind is none.
    if model.specificationVersion < 1 or model.WhichOneof("Type") is None:
        raise ModelFormatError(
            f"{where}: not a Core ML model: it names no specification version and kind",
            hint="is the file complete, and is it an .mlmodel or an .mlpackage?",
        )
    return model


def canonical_bytes(model: Any) -> bytes:
    """The message serialised with its maps in sorted order, so that equal models give equal bytes."""
    data: bytes = model.SerializeToString(deterministic=True)
    return data
