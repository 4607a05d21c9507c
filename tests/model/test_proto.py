"""The descriptors are what coremltools publishes, and live beside it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coremlops.errors import ModelFormatError
from coremlops.model.proto import canonical_bytes, message_class, parse_model

ROOT = Path(__file__).parents[2]


def test_the_descriptors_are_those_of_the_installed_coremltools() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/make_descriptors.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("first", ["coremltools", "coremlops.model.proto"])
def test_our_messages_live_beside_an_imported_coremltools(first: str) -> None:
    code = f"""
import {first}
import coremltools
from coremltools.proto import Model_pb2
from coremlops.model.proto import message_class, parse_model
theirs = Model_pb2.Model(specificationVersion=7)
theirs.mlProgram.version = 1
ours = parse_model(theirs.SerializeToString(), where="test")
assert ours.specificationVersion == 7 and type(ours) is not type(theirs)
assert message_class("Model") is type(ours)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    "data", [b"", b"not a model", b"\x08", bytes(range(256)), b"\x08\x07", b"\xff" * 4096]
)
def test_bytes_that_are_no_model_are_refused(data: bytes) -> None:
    with pytest.raises(ModelFormatError, match=r"^here: not a Core ML model"):
        parse_model(data, where="here")


def test_deeply_nested_messages_are_refused() -> None:
    # pipeline > pipeline > ...: protobuf's own limit on depth ends it
    inner = b"\x08\x01"
    for _ in range(500):
        piped = b"\x0a" + _length(len(inner)) + inner
        inner = b"\x08\x01" + b"\xd2\x0c" + _length(len(piped)) + piped  # field 202, `pipeline`
    with pytest.raises(ModelFormatError, match="does not parse"):
        parse_model(inner, where="here")


def _length(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def test_canonical_bytes_do_not_depend_on_the_order_of_a_map() -> None:
    one, other = (message_class("Model")(specificationVersion=7) for _ in range(2))
    keys = [f"key {number}" for number in range(40)]
    for key in keys:
        one.description.metadata.userDefined[key] = key
    for key in reversed(keys):
        other.description.metadata.userDefined[key] = key
    assert canonical_bytes(one) == canonical_bytes(other)
