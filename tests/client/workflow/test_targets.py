"""5.6.1 to 5.6.6 of TUF's client workflow: the targets role, and roles that it delegates to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from tuf.api.metadata import MetaFile

from tests.client.workflow.conftest import Client
from tests.client.workflow.repository import TufRepository, new_signer

NEW_SNAPSHOT = {"root": 1, "snapshot": 2, "targets": 1, "timestamp": 2}


@pytest.fixture(params=["targets", "A"])
def role(request: pytest.FixtureRequest, repository: TufRepository) -> str:
    """The top-level role, or one below it that has the target `file` alone."""
    repository.delegate("targets", "A", ("file",))
    repository.add("A", "file", b"content")
    repository.publish("A", "targets", "snapshot", "timestamp")
    return str(request.param)


def refused(client: Client, words: str) -> bool:
    """The download of A's target fails, and says why; nothing came."""
    return client.download("file") == 1 and words in client.error and client.files == {}


def test_a_delegated_target(client: Client, role: str) -> None:
    assert client.download("file") == 0
    assert client.files == {"file": b"content"}
    assert client.trusted == {"A": 1, "root": 1, "snapshot": 2, "targets": 2, "timestamp": 2}


def test_5_6_1_endless_data(client: Client, repository: TufRepository, role: str) -> None:
    client.server.endless.add(f".{role}.json")
    assert refused(client, "endless data")
    assert role not in client.trusted


def test_5_6_1_longer_than_the_snapshot_says(client: Client, repository: TufRepository, role: str) -> None:
    repository.hashes = True
    repository.publish("A", "targets", "snapshot", "timestamp")
    version = repository.delegated[role].version
    repository.put(role, repository.published[role][-1] + b" ", version)
    assert refused(client, "endless data")
    assert role not in client.trusted


def test_5_6_1_a_role_that_is_not_there(client: Client, repository: TufRepository, role: str) -> None:
    assert client.refresh() == 0
    repository.snapshot.meta[f"{role}.json"].version = 3
    repository.publish("snapshot", "timestamp")
    assert refused(client, "the server answers 404")
    assert client.asked()[-1] == f"3.{role}.json"
    assert client.trusted == {"root": 1, "snapshot": 3, "targets": 2, "timestamp": 3}


def test_5_6_1_a_role_that_is_here_is_not_asked_for(client: Client, repository: TufRepository) -> None:
    assert client.refresh() == 0
    repository.publish("snapshot", "timestamp")
    client.asked()
    assert client.refresh() == 0
    assert client.asked() == ["2.root.json", "timestamp.json", "2.snapshot.json"]


def test_5_6_2_mix_and_match(client: Client, repository: TufRepository, role: str) -> None:
    """Signed and real, but not the one that the snapshot's hash means."""
    repository.hashes = True
    repository.publish("A", "targets", "snapshot", "timestamp")
    repository.delegated[role].unrecognized_fields["x"] = 1
    data = repository.sign(role)
    repository.snapshot.meta[f"{role}.json"].length = len(data)
    repository.publish("snapshot", "timestamp")
    repository.put(role, data, repository.delegated[role].version)
    assert refused(client, "tampered file: Observed hash")
    assert role not in client.trusted


def test_5_6_3_arbitrary_software_attack(client: Client, repository: TufRepository, role: str) -> None:
    repository.signers[role] = [new_signer()]
    repository.publish("A", "targets", "snapshot", "timestamp")
    assert refused(client, f"tampered metadata: {role} was signed by 0/1 keys")
    assert role not in client.trusted


def test_5_6_3_a_root_takes_the_targets_key_away(client: Client, repository: TufRepository) -> None:
    """What is here is judged by today's keys."""
    assert client.refresh() == 0
    repository.keys("targets", [new_signer()])
    repository.publish("root")
    assert client.refused("tampered metadata: targets was signed by 0/1 keys")


def test_5_6_4_another_version_than_the_snapshot_says(
    client: Client, repository: TufRepository, role: str
) -> None:
    repository.delegated[role].version = 7
    repository.put(role, repository.sign(role), repository.snapshot.meta[f"{role}.json"].version)
    assert refused(client, f"replayed or mixed metadata: Expected {role} v")
    assert role not in client.trusted


def test_5_6_5_freeze_attack(client: Client, repository: TufRepository, role: str) -> None:
    repository.delegated[role].expires = repository.now - timedelta(days=5)
    repository.publish("A", "targets", "snapshot", "timestamp")
    assert refused(client, f"expired metadata: New {role} is expired")
    assert role not in client.trusted


def test_5_6_5_a_role_here_expires(
    client: Client, repository: TufRepository, role: str, later: Callable[[float], None]
) -> None:
    repository.delegated[role].expires = repository.now + timedelta(days=7)
    repository.publish("A", "targets", "snapshot", "timestamp")
    assert client.download("file") == 0
    repository.add("A", "file", b"another")
    later(18)
    assert client.download("file") == 1
    assert f"expired metadata: New {role} is expired" in client.error
    repository.delegated[role].expires = repository.now + timedelta(days=21)
    repository.publish("A", "targets", "snapshot", "timestamp")
    assert client.download("file") == 0
    assert client.files == {"file": b"another"}


def test_5_6_6_targets_are_kept_as_they_were_sent(client: Client, repository: TufRepository) -> None:
    data = repository.published["targets"][0] + b"\t"
    repository.put("targets", data, 1)
    assert client.refresh() == 0
    assert (client.metadata / "targets.json").read_bytes() == data


def test_a_delegated_role_that_the_snapshot_does_not_know(client: Client, repository: TufRepository) -> None:
    repository.delegate("targets", "A")
    repository.publish("A", "targets", "snapshot", "timestamp")
    del repository.snapshot.meta["A.json"]
    repository.snapshot.meta["B.json"] = MetaFile(1)
    repository.publish("snapshot", "timestamp")
    assert refused(client, "Role A was delegated but is not part of snapshot")


def test_targets_that_are_no_targets(client: Client, repository: TufRepository) -> None:
    repository.signers["snapshot"] = repository.signers["targets"]
    repository.snapshot.version = 1
    repository.put("targets", repository.sign("snapshot"), 1)
    assert client.refused("bad metadata: Expected 'targets', got 'snapshot'")
