"""5.3 of TUF's client workflow: the root, each numbered step, and what an attacker would have it do."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.client.workflow.conftest import Client
from tests.client.workflow.repository import TufRepository, new_signer

ALL = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"]
SIGNERS = [new_signer() for _ in range(10)]


def test_init_copies_the_root_and_asks_nothing(client: Client, repository: TufRepository) -> None:
    assert client.trusted == {"root": 1}
    assert client.asked() == []


def test_refresh_takes_the_four_roles_in_order(client: Client) -> None:
    assert client.refresh() == 0
    assert client.asked() == ALL
    assert client.trusted == {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}
    assert client.refresh() == 0
    assert client.asked() == ALL[:2]


def test_a_trusted_root_that_is_damaged(client: Client, repository: TufRepository) -> None:
    value = json.loads(repository.published["root"][0])
    del value["signed"]["version"]
    client.init(json.dumps(value).encode())
    assert client.refused("bad metadata")
    assert client.asked() == []


def test_a_trusted_root_that_its_keys_did_not_sign(client: Client, repository: TufRepository) -> None:
    value = json.loads(repository.published["root"][0])
    value["signatures"][0]["sig"] = "00" * 64
    client.init(json.dumps(value).encode())
    assert client.refused("tampered metadata: root was signed by 0/1 keys")
    assert client.asked() == []


def test_a_trusted_root_that_is_another_role(client: Client, repository: TufRepository) -> None:
    client.init(repository.published["targets"][0])
    assert client.refused("Expected 'root', got 'targets'")


def test_5_3_3_roots_are_taken_one_by_one(client: Client, repository: TufRepository) -> None:
    for _ in range(3):
        repository.publish("root")
    assert client.refresh() == 0
    assert client.asked()[:5] == [
        "2.root.json",
        "3.root.json",
        "4.root.json",
        "5.root.json",
        "timestamp.json",
    ]
    assert client.trusted["root"] == 4


def test_5_3_3_endless_roots(client: Client, repository: TufRepository) -> None:
    """At most 64 a run; the next run goes on from there."""
    for _ in range(70):
        repository.publish("root")
    assert client.refresh() == 0
    assert client.trusted["root"] == 65
    assert client.refresh() == 0
    assert client.trusted["root"] == 71


@pytest.mark.parametrize(("status", "code"), [(403, 0), (404, 0), (500, 1), (429, 1)])
def test_5_3_3_only_a_root_that_is_not_there_ends_the_search(client: Client, status: int, code: int) -> None:
    client.server.status["2.root.json"] = status
    assert client.refresh() == code
    assert client.trusted == (
        {"root": 1} if code else {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}
    )


def test_5_3_3_endless_data(client: Client, repository: TufRepository) -> None:
    repository.publish("root")
    client.server.endless.add("2.root.json")
    assert client.refused("endless data")
    assert client.trusted == {"root": 1}


# Each version of the root: its keys, its threshold, who signs it. The last one is the question.
GOOD = {
    "one key becomes another": [("1", 1, "1"), ("2", 1, "21"), ("2", 1, "2")],
    "signatures of strangers do not matter": [("1", 1, "314"), ("2", 1, "3214"), ("2", 1, "324")],
    "any three of five": [("01234", 3, "024"), ("01234", 3, "041"), ("01234", 3, "013")],
    "one of five becomes another": [("01234", 3, "024"), ("01345", 3, "041")],
    "old and new keys together": [("01234", 3, "024"), ("01345", 3, "0245"), ("01345", 3, "045")],
    "all five become others": [("01234", 3, "024"), ("56789", 3, "024567"), ("56789", 3, "567")],
    "the threshold rises": [("123", 1, "1"), ("123", 2, "12")],
    "the threshold falls": [("123", 2, "12"), ("123", 1, "12"), ("123", 1, "1")],
    "a key is added and needed": [("1", 1, "1"), ("12", 2, "12")],
}
BAD = {
    "the old key did not sign": [("1", 1, "1"), ("2", 1, "234")],
    "the new key did not sign": [("1", 1, "1"), ("2", 1, "134")],
    "two of three new keys": [("01234", 3, "024"), ("01345", 3, "024")],
    "two of three old keys": [("01234", 3, "024"), ("01345", 3, "045")],
    "the new threshold is not reached": [("123", 1, "1"), ("123", 2, "2")],
    "the old threshold is not reached": [("123", 2, "12"), ("123", 1, "1")],
}


@pytest.mark.parametrize("name", GOOD | BAD)
def test_5_3_4_arbitrary_software_attack(client: Client, repository: TufRepository, name: str) -> None:
    """A root needs a threshold of the keys of the root before it, and of its own."""
    del repository.published["root"]
    chain = (GOOD | BAD)[name]
    for keys, threshold, by in chain:
        repository.keys("root", [SIGNERS[int(each)] for each in keys], threshold=threshold)
        repository.signers["root"] = [SIGNERS[int(each)] for each in by]
        repository.publish("root")
    assert client.init() == 0
    if name in GOOD:
        assert client.refresh() == 0
        assert client.trusted["root"] == len(chain)
    else:
        assert client.refused("tampered metadata: root was signed by")
        assert client.trusted == {"root": len(chain) - 1}


@pytest.mark.parametrize("version", [1, 3])
def test_5_3_5_rollback_of_the_root(client: Client, repository: TufRepository, version: int) -> None:
    """What is served as version 2 says that it is another."""
    repository.root.version = version
    repository.put("root", repository.sign("root"), 2)
    assert client.refused(f"Expected root version 2 instead got version {version}")
    assert client.trusted == {"root": 1}


def test_5_3_6_an_expired_root_on_the_way_does_not_matter(client: Client, repository: TufRepository) -> None:
    good = repository.root.expires
    repository.root.expires = repository.now - timedelta(days=1)
    repository.publish("root")
    repository.root.expires = good
    repository.publish("root")
    assert client.refresh() == 0
    assert client.trusted["root"] == 3


def test_5_3_8_a_root_is_kept_as_it_was_sent(client: Client, repository: TufRepository) -> None:
    repository.root.version = 2
    data = repository.sign("root") + b" \n"
    repository.put("root", data, 2)
    assert client.refresh() == 0
    assert (client.metadata / "root.json").read_bytes() == data


def test_5_3_10_freeze_attack(client: Client, repository: TufRepository) -> None:
    """The newest root has expired: it is kept, and nothing else is looked at."""
    assert client.refresh() == 0
    repository.root.expires = repository.now - timedelta(days=1)
    repository.publish("root")
    repository.publish()
    assert client.refused("expired metadata: Final root.json is expired")
    assert client.trusted == {"root": 2, "snapshot": 1, "targets": 1, "timestamp": 1}


def test_5_3_10_a_trusted_root_expires(
    client: Client, repository: TufRepository, later: Callable[[float], None]
) -> None:
    repository.root.expires = repository.now + timedelta(days=7)
    repository.publish("root")
    assert client.refresh() == 0
    later(8)
    assert client.refused("expired metadata: Final root.json is expired")
    repository.root.expires = repository.now + timedelta(days=21)
    repository.publish("root")
    assert client.refresh() == 0
    assert client.trusted["root"] == 3


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets"])
def test_5_3_11_fast_forward_attack(client: Client, repository: TufRepository, role: str) -> None:
    """An attacker had the keys and raised a version far up; new keys bring the old numbers back."""
    signed = {"timestamp": repository.timestamp, "snapshot": repository.snapshot}.get(
        role, repository.targets
    )
    signed.version = 2**31
    repository.publish()
    assert client.refresh() == 0
    assert client.trusted[role] == 2**31 + 1
    signed.version = 1
    for each in ("snapshot", "timestamp"):
        repository.keys(each, [new_signer()])
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.trusted[role] == 2


def test_5_3_11_fast_forward_is_not_undone_without_new_keys(
    client: Client, repository: TufRepository
) -> None:
    repository.timestamp.version = 2**31
    repository.publish()
    assert client.refresh() == 0
    repository.timestamp.version = 1
    repository.publish("root", "timestamp")
    assert client.refused("replayed or mixed metadata")


def test_5_3_12_names_without_versions(client: Client, repository: TufRepository) -> None:
    repository.root.consistent_snapshot = False
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.asked() == ["2.root.json", "3.root.json", "timestamp.json", "snapshot.json", "targets.json"]


def test_unknown_fields_are_signed_like_others(client: Client, repository: TufRepository) -> None:
    signer = new_signer()
    signer.public_key.unrecognized_fields["keyid_hash_algorithms"] = ["md5"]
    repository.root.unrecognized_fields["x"] = {"y": [1, "\u00e4", None]}
    repository.root.roles["root"].unrecognized_fields["z"] = "value"
    repository.keys("snapshot", [signer])
    repository.publish("root", "snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.trusted["snapshot"] == 2
