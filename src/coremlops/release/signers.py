"""One private key, from wherever it is: a PEM file, the environment, or a device or service that a URI names.

What a URI names is reached by securesystemslib: `hsm:` (PKCS#11), `awskms:`, `gcpkms:`, `azurekms:`, `hv:`
(Vault) and `file2:`. A `.uri` file keeps the URI with its public key, so nothing is asked before signing.
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import parse_qsl, urlparse

from securesystemslib.signer import (
    AWSSigner,
    AzureSigner,
    CryptoSigner,
    GCPSigner,
    HSMSigner,
    Key,
    Signer,
    SSlibKey,
    VaultSigner,
)

from coremlops.collection import document
from coremlops.errors import RepositoryError
from coremlops.release.privacy import refuse_shared, refuse_work_tree

MAX_KEY_BYTES = 16_384


def pem_signer(data: bytes, where: str) -> CryptoSigner:
    """The Ed25519 key in a PEM. Raises `RepositoryError` that names `where` and no byte of `data`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(data[:MAX_KEY_BYTES], password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise RepositoryError(f"{where} is no Ed25519 private key in PEM")
    return CryptoSigner(key)


def environment_signers(name: str, environment: Mapping[str, str] | None = None) -> tuple[Signer, ...]:
    """The keys in `COREMLOPS_KEY_<NAME>` and `COREMLOPS_KEY_<NAME>_<anything>`, each a PEM; a line break may
    be written as \\n."""
    values = os.environ if environment is None else environment
    first = f"COREMLOPS_KEY_{name.upper()}"
    found = sorted(each for each in values if each == first or each.startswith(f"{first}_"))
    return tuple(
        pem_signer(values[each].strip().replace("\\n", "\n").encode(errors="replace"), each)
        for each in found
        if values[each].strip()
    )


def uri_document(uri: str, name: str) -> bytes:
    """The `.uri` file of a key: `uri` as given, and the public key that is asked for now.

    `uri`: `hsm:2?label=token`, `awskms:<key id>`, `gcpkms:projects/...`, `azurekms:<vault>/<key>`,
    `hv:<key>`, `file2:<path>`. Raises `RepositoryError`.
    """
    scheme, _, rest = uri.partition(":")
    if scheme not in _IMPORTS or not rest:
        raise RepositoryError(
            f"no way to a key: {uri!r:.100}", hint=f"known are {', '.join(f'{each}:' for each in _IMPORTS)}"
        )
    try:
        stored, key = _IMPORTS[scheme](rest, secrets_for(name))
    except RepositoryError:
        raise
    except Exception as error:
        raise RepositoryError(f"{uri!r:.100} names no key that can be reached: {_words(error)}") from None
    value = {"format": 0, "uri": stored, "keyid": key.keyid, "public": key.to_dict()}
    return document.write(value)


def uri_signer(data: bytes, name: str, where: str) -> Signer:
    """The signer of a `.uri` file; nothing is reached before it signs. Raises `RepositoryError`."""
    fields = document.Fields(
        document.read(data, where, most_bytes=MAX_KEY_BYTES), where, ("format", "uri", "keyid", "public")
    )
    fields.format()
    try:
        public = fields.raw("public")
        if not isinstance(public, dict):
            fields.refuse("public", "an object")
        _refuse_open(fields.text("uri"))
        key = Key.from_dict(fields.text("keyid"), dict(public))
        return Signer.from_priv_key_uri(fields.text("uri"), key, secrets_for(name))
    except RepositoryError:
        raise
    except Exception as error:
        raise RepositoryError(f"{where} is of no use: {_words(error)}") from None


def secrets_for(name: str) -> Callable[[str], str]:
    """Asks for the PIN or password of a key: `COREMLOPS_PIN_<NAME>`, `COREMLOPS_PIN`, else the person."""

    def ask(secret: str) -> str:
        for variable in (f"COREMLOPS_PIN_{name.upper()}", "COREMLOPS_PIN"):
            if os.environ.get(variable):
                return os.environ[variable]
        if sys.stdin.isatty():
            return getpass.getpass(f"{secret} of the {name} key: ")
        raise RepositoryError(
            f"the {name} key wants its {secret}", hint=f"set COREMLOPS_PIN_{name.upper()} or COREMLOPS_PIN"
        )

    return ask


Secrets = Callable[[str], str]


def _hsm(rest: str, secrets: Secrets) -> tuple[str, Key]:
    parts = urlparse(f"hsm:{rest}")
    label = dict(parse_qsl(parts.query)).get("label")
    return HSMSigner.import_(int(parts.path or HSMSigner.SCHEME_KEYID), label, secrets)


def _azure(rest: str, secrets: Secrets) -> tuple[str, Key]:
    vault, _, key = rest.partition("/")
    return AzureSigner.import_(vault, key)


def _file(rest: str, secrets: Secrets) -> tuple[str, Key]:
    path = Path(rest).absolute()
    _refuse_open(f"file2:{path}")
    public: SSlibKey = pem_signer(path.read_bytes(), str(path)).public_key
    return f"file2:{path}", public


_IMPORTS: Mapping[str, Callable[[str, Secrets], tuple[str, Key]]] = {
    "hsm": _hsm,
    "awskms": lambda rest, secrets: AWSSigner.import_(rest),
    "gcpkms": lambda rest, secrets: GCPSigner.import_(rest),
    "azurekms": _azure,
    "hv": lambda rest, secrets: VaultSigner.import_(rest),
    "file2": _file,
}


def _refuse_open(uri: str) -> None:
    """Raise `RepositoryError` when what `file2:` names may be read by others, or be committed one day."""
    if uri.startswith("file2:"):
        path = Path(uri.removeprefix("file2:"))
        refuse_work_tree(path)
        refuse_shared(path, 0o600)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error!s:.160}"
