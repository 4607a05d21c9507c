"""Keys in a security module, in services and in files that a URI names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from securesystemslib.signer import AWSSigner, AzureSigner, CryptoSigner, GCPSigner, Key, VaultSigner

from coremlops.errors import RepositoryError
from coremlops.release import Repository
from coremlops.release.keys import KeyPlan
from coremlops.release.rotation import Rotation
from coremlops.release.signers import environment_signers, uri_document, uri_signer

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")


@pytest.fixture
def token(tmp_path: Path) -> dict[str, str]:
    """A software token with an ECDSA key of id 2, and the environment that reaches it."""
    pytest.importorskip("pkcs11", reason="python-pkcs11 is not installed")
    if shutil.which("softhsm2-util") is None or not MODULE.exists():
        pytest.skip("softhsm2 is not installed (apt-get install softhsm2)")
    (tmp_path / "tokens").mkdir()
    (tmp_path / "softhsm2.conf").write_text(f"directories.tokendir = {tmp_path / 'tokens'}\n")
    environment = {
        **os.environ,
        "SOFTHSM2_CONF": str(tmp_path / "softhsm2.conf"),
        "PYKCS11LIB": str(MODULE),
        "COREMLOPS_CONFIG": str(tmp_path / "config"),
        "COREMLOPS_PIN_TIMESTAMP": "5150",
    }
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    for words in (
        ("--init-token", "--free", "--label", "online", "--pin", "5150", "--so-pin", "5150"),
        (
            "--import",
            str(tmp_path / "key.pem"),
            "--token",
            "online",
            "--label",
            "t",
            "--id",
            "02",
            "--pin",
            "5150",
        ),
    ):
        subprocess.run(["softhsm2-util", *words], env=environment, check=True, capture_output=True)
    (tmp_path / "key.pem").unlink()
    return environment


def run(environment: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "coremlops", *words]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_security_module_signs_the_timestamp(token: dict[str, str], tmp_path: Path) -> None:
    made = run(token, tmp_path, "repo", "init", "repository", "--key-uri", "timestamp=hsm:2?label=online")
    assert made.returncode == 0, made.stderr
    files = {path.name for path in (tmp_path / "config").rglob("*") if path.is_file()}
    assert {"timestamp.uri", "snapshot.pem"} <= files
    assert "timestamp.pem" not in files
    renewed = run(token, tmp_path, "repo", "renew", "--role", "timestamp", "--json")
    assert json.loads(renewed.stdout)["renewed"] == ["timestamp"], renewed.stderr
    assert (
        json.loads((tmp_path / "repository" / "metadata" / "timestamp.json").read_text())["signed"]["version"]
        == 2
    )
    wrong = run(token | {"COREMLOPS_PIN_TIMESTAMP": "6789"}, tmp_path, "repo", "renew", "--role", "timestamp")
    assert wrong.returncode == 1
    assert "timestamp: the key" in wrong.stderr
    assert "does not sign: PinIncorrect" in wrong.stderr
    assert "6789" not in wrong.stderr
    without = {name: value for name, value in token.items() if not name.startswith("COREMLOPS_PIN")}
    asked = run(without, tmp_path, "repo", "renew", "--role", "timestamp")
    assert "the timestamp key wants its pin" in asked.stderr
    away = run(token, tmp_path, "repo", "rotate", "timestamp")
    assert away.returncode == 0, away.stderr
    assert "put aside: " in away.stdout
    back = run(token, tmp_path, "repo", "rotate", "timestamp", "--key-uri", "timestamp=hsm:2?label=online")
    assert back.returncode == 0, back.stderr


def test_a_security_module_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYKCS11LIB", raising=False)
    with pytest.raises(RepositoryError, match="'hsm:2' names no key that can be reached"):
        Repository.init(
            tmp_path / "repository", config=tmp_path / "config", plan=KeyPlan(uris={"halt": ["hsm:2"]})
        )
    assert not (tmp_path / "config").exists()


def test_a_key_in_a_file_elsewhere(tmp_path: Path, config: Path) -> None:
    signer = CryptoSigner.generate_ed25519()
    (tmp_path / "vault").mkdir()
    pem = tmp_path / "vault" / "halt.pem"
    pem.write_bytes(signer.private_bytes)
    with pytest.raises(RepositoryError, match=f"others may read {pem}"):
        Repository.init(tmp_path / "repository", plan=KeyPlan(uris={"halt": [f"file2:{pem}"]}))
    pem.chmod(0o600)
    repository = Repository.init(tmp_path / "repository", plan=KeyPlan(uris={"halt": [f"file2:{pem}"]}))
    assert repository.keys.keyids("halt") == (signer.public_key.keyid,)
    again = Repository.open(repository.folder)
    assert again.renew(["faces-halt"]) == ("faces-halt",)
    stored = json.loads((repository.keys.folder / "halt" / "halt.uri").read_text())
    assert (stored["uri"], stored["keyid"]) == (f"file2:{pem}", signer.public_key.keyid)
    pem.chmod(0o640)
    with pytest.raises(RepositoryError, match=f"others may read {pem}"):
        Repository.open(repository.folder).renew(["faces-halt"])
    pem.unlink()
    with pytest.raises(RepositoryError, match=r"halt\.uri is of no use: FileNotFoundError"):
        Repository.open(repository.folder).renew(["faces-halt"])


def test_a_key_in_a_file_of_a_work_tree_is_refused(tmp_path: Path, config: Path) -> None:
    (tmp_path / "tree" / ".git").mkdir(parents=True)
    pem = tmp_path / "tree" / "halt.pem"
    pem.write_bytes(CryptoSigner.generate_ed25519().private_bytes)
    repository = Repository.init(tmp_path / "repository")
    with pytest.raises(RepositoryError, match="inside the Git work tree"):
        repository.rotate(Rotation(("halt",), uris={"halt": f"file2:{pem}"}))
    assert len(list((repository.keys.folder / "halt").iterdir())) == 1


@pytest.mark.parametrize(
    ("uri", "signer", "arguments"),
    [
        ("awskms:alias/timestamp", AWSSigner, ("alias/timestamp",)),
        ("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", GCPSigner, None),
        ("azurekms:vault/timestamp", AzureSigner, ("vault", "timestamp")),
        ("hv:timestamp", VaultSigner, ("timestamp",)),
    ],
)
def test_a_service_is_asked_for_its_public_key_once(
    monkeypatch: pytest.MonkeyPatch, uri: str, signer: Any, arguments: tuple[str, ...] | None
) -> None:
    """Against securesystemslib's interface; no service runs here."""
    public = CryptoSigner.generate_ecdsa().public_key
    asked: list[tuple[str, ...]] = []

    def import_(*given: str) -> tuple[str, Key]:
        asked.append(given)
        return f"{uri}/1", public

    monkeypatch.setattr(signer, "import_", import_)
    stored = json.loads(uri_document(uri, "timestamp"))
    assert asked == [arguments or (uri.removeprefix("gcpkms:"),)]
    assert (stored["uri"], stored["keyid"]) == (f"{uri}/1", public.keyid)

    def offline(*given: str) -> tuple[str, Key]:
        raise OSError("no route")

    monkeypatch.setattr(signer, "import_", offline)
    with pytest.raises(RepositoryError, match="names no key that can be reached: OSError: no route"):
        uri_document(uri, "timestamp")


@pytest.mark.parametrize(
    "data",
    [
        b"{}",
        b"[",
        b'{"format":1,"uri":"hsm:","keyid":"a","public":{}}',
        b'{"format":0,"uri":"x:y","keyid":"a","public":{"keytype":"ed25519","scheme":"ed25519","keyval":{"public":"00"}}}',
    ],
)
def test_a_damaged_uri_file_is_named(data: bytes) -> None:
    with pytest.raises(RepositoryError, match=r"halt\.uri"):
        uri_signer(data, "halt", "halt.uri")


def test_the_environment_may_hold_several_keys_of_a_name() -> None:
    keys = [CryptoSigner.generate_ed25519() for _ in range(3)]
    values = {
        "COREMLOPS_KEY_RELEASE": keys[0].private_bytes.decode(),
        "COREMLOPS_KEY_RELEASE_2": keys[1].private_bytes.decode(),
        "COREMLOPS_KEY_RELEASES": keys[2].private_bytes.decode(),
        "COREMLOPS_KEY_HALT": "",
    }
    found = environment_signers("release", values)
    assert [each.public_key.keyid for each in found] == [each.public_key.keyid for each in keys[:2]]
    assert environment_signers("halt", values) == ()
