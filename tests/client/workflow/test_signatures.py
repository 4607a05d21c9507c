"""Signatures: who counts towards a threshold, which keys are understood."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import pytest
from securesystemslib.signer import CryptoSigner

from tests.client.workflow.conftest import Client
from tests.client.workflow.repository import TufRepository, new_signer

ROLES = ("timestamp", "snapshot", "targets")
TOP = ("root", "targets", "snapshot", "timestamp")
SIGNERS = [new_signer() for _ in range(6)]
# keys, threshold, who signs, whether that is enough
CASES = {
    "another key": ("2", 1, "2", True),
    "signatures of strangers do not matter": ("1", 1, "314", True),
    "only the old key and strangers": ("2", 1, "134", False),
    "two of the keys and a stranger": ("01345", 3, "024", False),
    "two of three": ("01345", 3, "04", False),
    "any three, first": ("01234", 3, "024", True),
    "any three, second": ("01234", 3, "041", True),
    "any three, last": ("01234", 3, "234", True),
    "all": ("01234", 3, "01234", True),
    "nobody": ("0", 1, "", False),
}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", CASES)
def test_threshold(client: Client, repository: TufRepository, role: str, name: str) -> None:
    keys, threshold, by, good = CASES[name]
    assert client.refresh() == 0
    repository.keys(role, [SIGNERS[int(each)] for each in keys], threshold=threshold)
    repository.signers[role] = [SIGNERS[int(each)] for each in by]
    repository.publish(*TOP)
    if good:
        assert client.refresh() == 0
        assert client.trusted[role] == 2
    else:
        assert client.refused(f"tampered metadata: {role} was signed by")
        assert client.trusted[role] == 1
    assert client.trusted["root"] == 2


def test_a_threshold_that_no_number_of_keys_reaches(client: Client, repository: TufRepository) -> None:
    repository.keys("snapshot", SIGNERS[:5], threshold=6)
    repository.publish(*TOP)
    assert client.refused("tampered metadata: snapshot was signed by 5/6 keys")
    assert client.trusted == {"root": 2, "timestamp": 2}


def test_a_new_threshold_counts_for_what_is_here(client: Client, repository: TufRepository) -> None:
    """Nothing new was signed, and what is here is not enough any more."""
    assert client.refresh() == 0
    repository.keys("snapshot", [*SIGNERS[:1], repository.signers["snapshot"][0]], threshold=2)
    repository.publish("root")
    assert client.refused("tampered metadata: snapshot was signed by 1/2 keys")


@pytest.mark.parametrize("listed", [1, 2])
def test_a_key_counts_once(client: Client, repository: TufRepository, listed: int) -> None:
    """One key that signs twice, and stands twice in the root's list, is one of two."""
    signer = new_signer()
    repository.keys("snapshot", [signer], threshold=2)
    repository.edits["root"] = lambda root: root["roles"]["snapshot"].update(
        keyids=[signer.public_key.keyid] * listed
    )
    repository.spoils["snapshot"] = lambda file: file["signatures"].append(file["signatures"][0])
    repository.publish(*TOP)
    assert client.refresh() == 1
    assert "snapshot" not in client.trusted
    assert client.error.startswith("error: bad metadata")
    assert client.trusted["root"] == (2 if listed == 1 else 1)


def test_a_signature_twice_is_refused(client: Client, repository: TufRepository) -> None:
    """Even when the threshold is reached without: an id is unique among signatures (4.2.1)."""
    repository.spoils["snapshot"] = lambda file: file["signatures"].append(file["signatures"][0])
    repository.publish()
    assert client.refused("bad metadata")
    assert client.trusted == {"root": 1, "timestamp": 2}


@pytest.mark.parametrize("signature", ["00" * 64, "", "zz", "\u00e4"])
def test_a_bad_signature_beside_a_good_one_does_not_matter(
    client: Client, repository: TufRepository, signature: str
) -> None:
    repository.keys("timestamp", SIGNERS[:2])

    repository.spoils["timestamp"] = lambda file: file["signatures"][0].update(sig=signature)
    repository.publish(*TOP)
    assert client.refresh() == 0
    assert client.trusted["timestamp"] == 2


MAKERS: dict[str, Callable[[], CryptoSigner]] = {
    "ed25519": CryptoSigner.generate_ed25519,
    "ecdsa": CryptoSigner.generate_ecdsa,
    "rsa, PSS": partial(CryptoSigner.generate_rsa, size=2048),
    "rsa, PKCS1 v1.5": partial(CryptoSigner.generate_rsa, size=2048, scheme="rsa-pkcs1v15-sha256"),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_kinds_of_keys(client: Client, repository: TufRepository, kind: str) -> None:
    """Each key that the specification names signs a root, and is missed when its signature is wrong."""
    signer = MAKERS[kind]()
    repository.keys("root", [*repository.signers["root"], signer], threshold=2)
    repository.publish("root")
    assert client.refresh() == 0
    assert client.trusted["root"] == 2
    good = json.loads(repository.sign("root"))["signatures"][1]["sig"]
    repository.spoils["root"] = lambda file: file["signatures"][1].update(sig=good)  # of version 2, not 3
    repository.publish("root")
    assert client.refused("tampered metadata: root was signed by 1/2 keys")
    assert client.trusted["root"] == 2


def test_a_kind_of_key_that_nobody_knows_signs_nothing(client: Client, repository: TufRepository) -> None:
    signer = new_signer()
    signer.public_key.keytype = "quantum"
    signer.public_key.scheme = "quantum-1"
    repository.keys("timestamp", [signer])
    repository.publish(*TOP)
    assert client.refresh() == 1
    assert "timestamp" not in client.trusted
