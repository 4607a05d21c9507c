from __future__ import annotations

import json

import pytest

from coremlops.errors import ReportError
from coremlops.telemetry.signing import (
    ENROL,
    REPORT,
    DeviceKey,
    Signed,
    plain_code,
    shown_code,
    verify,
)


def test_a_known_key_has_a_known_public_key_and_verifies_a_signature_made_elsewhere() -> None:
    """RFC 6979, A.2.5: P-256, SHA-256, message "sample"."""
    key = DeviceKey.read("c9afa9d845ba75166b5c215767b1d6934e50c3db36e89b127b8a622b120f6721")
    x = "60fed4ba255a9d31c961eb74c6356d68c049b8923b61fa6ce669622e60f29fb6"
    y = "7903fe1008b8bc99a41ae9e95628bc64f2f1b20c2d7e9f5177a3c294d4462299"
    assert key.public.hex() == "04" + x + y
    r = "efd48b2aacb6a8fd1140dd9cd45e81d69d2c877b56aaf991c34d0ea84eaf3716"
    s = "f7cb1c942d657c41d436c7a1b6e29f65f3e900dbb9aff4064dc4ab2f843acda8"
    verify(key.public, bytes.fromhex(r + s), b"", b"sample")
    assert DeviceKey.read(key.write()).public == key.public


def test_a_signature_is_of_one_purpose_one_key_and_these_bytes() -> None:
    key, other = DeviceKey.make(), DeviceKey.make()
    signed = Signed.make(key, REPORT, b"{}\n")
    assert len(signed.signature) == 64
    assert Signed.from_bytes(signed.to_bytes()) == signed
    signed.verify(REPORT)
    for wrong, purpose in (
        (signed, ENROL),
        (Signed(b"{} \n", key.public, signed.signature), REPORT),
        (Signed(b"{}\n", other.public, signed.signature), REPORT),
        (Signed(b"{}\n", key.public, bytes(64)), REPORT),
        (Signed(b"{}\n", key.public, b"\xff" * 64), REPORT),
    ):
        with pytest.raises(ReportError) as caught:
            wrong.verify(purpose)
        assert caught.value.reason == "signature"


@pytest.mark.parametrize("public", [bytes(65), b"\x04" + bytes(64), b"\x05" + b"\x01" * 64])
def test_a_key_that_is_no_point_of_the_curve_is_refused(public: bytes) -> None:
    with pytest.raises(ReportError, match=r"no point of P-256"):
        verify(public, bytes(64), REPORT, b"")


@pytest.mark.parametrize(
    ("key", "value"),
    [("data", "\u00e9"), ("key", "04"), ("key", "0" * 129 + "G"), ("signature", "A" * 128), ("signature", 1)],
)
def test_an_envelope_of_another_shape_is_refused(key: str, value: object) -> None:
    good = json.loads(Signed.make(DeviceKey.make(), REPORT, b"x").to_bytes())
    with pytest.raises(ReportError, match=f"envelope: '{key}'"):
        Signed.from_bytes(json.dumps(good | {key: value}).encode())


@pytest.mark.parametrize("text", ["", "0" * 63, "0" * 64, "f" * 64, "G" * 64])
def test_a_private_key_that_is_none_is_refused_and_not_quoted(text: str) -> None:
    with pytest.raises(ReportError) as caught:
        DeviceKey.read(text)
    assert caught.value.message == "a device key is 64 lower-case hex digits"


def test_a_code_is_read_as_people_write_it() -> None:
    assert plain_code(" oil0-abcd-2345-wxyz\n") == "0110ABCD2345WXYZ"
    assert shown_code("0110ABCD2345WXYZ") == "0110-ABCD-2345-WXYZ"
    for wrong in ("", "0110-ABCD-2345-WXY", "0110-ABCD-2345-WXYU", "0110-ABCD-2345-WXY\u00e9"):
        with pytest.raises(ReportError):
            plain_code(wrong)
