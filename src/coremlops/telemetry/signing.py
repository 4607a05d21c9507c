"""The device key and its signatures: ECDSA on P-256 with SHA-256, the one kind that a Secure Enclave holds.

A public key is 65 bytes, X9.63: 0x04, X, Y. A signature is 64 bytes: r, s, each 32 bytes, big-endian. Both
are written as lower-case hex. What is signed is a line that names the purpose, then the exact bytes:

    "coremlops report v0\\n" + the report         "coremlops enrol v0\\n" + the code, 16 characters
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from coremlops.collection import document
from coremlops.errors import ReportError, RepositoryError
from coremlops.telemetry.report import MAX_REPORT_BYTES

REPORT = b"coremlops report v0\n"
ENROL = b"coremlops enrol v0\n"
MAX_ENVELOPE_BYTES = 2 * MAX_REPORT_BYTES  # a report inside a string: its quotes are escaped
CODE_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I, L, O and U: nobody misreads it
CODE_LENGTH = 16  # 80 bits

_CURVE = ec.SECP256R1()
_SIDE_BYTES = 32
_PRIVATE = re.compile(r"[0-9a-f]{64}")


class DeviceKey:
    """A private key in memory. `write` and `read` are for a file of mode 0600; a phone keeps its own."""

    __slots__ = ("_private",)

    def __init__(self, private: ec.EllipticCurvePrivateKey) -> None:
        self._private = private

    @staticmethod
    def make() -> DeviceKey:
        """A new key."""
        return DeviceKey(ec.generate_private_key(_CURVE))

    @staticmethod
    def read(text: str) -> DeviceKey:
        """The key of 64 hex digits. Raises `ReportError`, without the digits in its message."""
        try:
            if not _PRIVATE.fullmatch(text):
                raise ValueError
            return DeviceKey(ec.derive_private_key(int(text, 16), _CURVE))
        except ValueError:
            raise ReportError("a device key is 64 lower-case hex digits", reason="schema") from None

    def write(self) -> str:
        """The private scalar, 64 hex digits: a secret."""
        return f"{self._private.private_numbers().private_value:064x}"

    @property
    def public(self) -> bytes:
        """The public key, 65 bytes."""
        return self._private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def sign(self, purpose: bytes, data: bytes) -> bytes:
        """64 bytes over `purpose + data`."""
        r, s = decode_dss_signature(self._private.sign(purpose + data, ec.ECDSA(SHA256())))
        return r.to_bytes(_SIDE_BYTES, "big") + s.to_bytes(_SIDE_BYTES, "big")


def verify(public: bytes, signature: bytes, purpose: bytes, data: bytes) -> None:
    """Raise `ReportError` unless `signature` is this key's over `purpose + data`."""
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, public)
    except ValueError:
        raise ReportError("the key is no point of P-256", reason="schema") from None
    r, s = (int.from_bytes(part, "big") for part in (signature[:_SIDE_BYTES], signature[_SIDE_BYTES:]))
    try:
        key.verify(encode_dss_signature(r, s), purpose + data, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise ReportError("the signature is not this key's over these bytes", reason="signature") from None


@dataclass(frozen=True, slots=True)
class Signed:
    """What a device posts: the exact bytes of a report or a code, its public key, its signature."""

    data: bytes
    key: bytes
    signature: bytes

    @staticmethod
    def make(key: DeviceKey, purpose: bytes, data: bytes) -> Signed:
        """`data`, signed."""
        return Signed(data, key.public, key.sign(purpose, data))

    def to_bytes(self) -> bytes:
        """The document that is posted; the signed bytes stand in it as a string."""
        return document.write(
            {
                "format": 0,
                "data": self.data.decode("ascii"),
                "key": self.key.hex(),
                "signature": self.signature.hex(),
            }
        )

    @staticmethod
    def from_bytes(data: bytes) -> Signed:
        """Read what was posted; nothing is verified yet. Raises `ReportError`."""
        try:
            value = document.read(data, "envelope", most_bytes=MAX_ENVELOPE_BYTES)
            fields = document.Fields(value, "envelope", ("format", "data", "key", "signature"))
            fields.format()
            text = fields.text("data")
            if not text.isascii():
                fields.refuse("data", "ASCII")
            key, signature = _hex(fields, "key", 65), _hex(fields, "signature", 2 * _SIDE_BYTES)
        except RepositoryError as error:
            raise ReportError(error.message, reason="schema") from None
        return Signed(text.encode("ascii"), key, signature)

    def verify(self, purpose: bytes) -> None:
        """Raise `ReportError` unless the key signed the data for this purpose."""
        verify(self.key, self.signature, purpose, self.data)


def _hex(fields: document.Fields, key: str, size: int) -> bytes:
    text = fields.text(key)
    if not re.fullmatch(rf"[0-9a-f]{{{2 * size}}}", text):
        fields.refuse(key, f"{2 * size} lower-case hex digits")
    return bytes.fromhex(text)


def plain_code(text: str) -> str:
    """A code as it is signed and looked up: 16 characters, without the hyphens, O read as 0, I and L as 1.

    Raises `ReportError`.
    """
    code = text.strip().upper().replace("-", "").translate(str.maketrans("OIL", "011"))
    if len(code) != CODE_LENGTH or not set(code) <= set(CODE_ALPHABET):
        raise ReportError("a code is 16 letters and digits such as 0000-1111-2222-3333", reason="schema")
    return code


def shown_code(code: str) -> str:
    """A code as people read it: four groups of four."""
    return "-".join(code[place : place + 4] for place in range(0, CODE_LENGTH, 4))


def fingerprint(*parts: bytes) -> bytes:
    """SHA-256 over parts, each behind its length: what the store keeps instead of codes and keys."""
    digest = hashlib.sha256(b"coremlops store v0\n")
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part)
    return digest.digest()
