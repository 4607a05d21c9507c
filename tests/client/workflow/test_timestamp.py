"""5.4 of TUF's client workflow: the timestamp."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

from tuf.api.metadata import MetaFile

from tests.client.workflow.conftest import Client
from tests.client.workflow.repository import TufRepository, new_signer


def test_5_4_1_endless_data(client: Client) -> None:
    client.server.endless.add("timestamp.json")
    assert client.refused("endless data")
    assert client.trusted == {"root": 1}


def test_5_4_1_a_timestamp_that_is_not_there(client: Client) -> None:
    assert client.refresh() == 0
    client.server.hidden.add("timestamp.json")
    assert client.refused("the repository cannot be reached")
    assert client.asked()[-1] == "timestamp.json"
    assert client.trusted == {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}


def test_5_4_2_arbitrary_software_attack(client: Client, repository: TufRepository) -> None:
    repository.signers["timestamp"] = [new_signer()]
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refused("tampered metadata: timestamp was signed by 0/1 keys")
    assert client.trusted == {"root": 2}


def test_5_4_2_another_role_signed_by_the_timestamp_s_key(client: Client, repository: TufRepository) -> None:
    """A snapshot that would do as a timestamp, but for its type."""
    repository.signers["snapshot"] = repository.signers["timestamp"]
    repository.snapshot.meta = {"snapshot.json": MetaFile(1)}
    repository.snapshot.version = 2
    repository.put("timestamp", repository.sign("snapshot"), 2)
    assert client.refused("bad metadata: Expected 'timestamp', got 'snapshot'")
    assert client.trusted == {"root": 1}


def test_5_4_3_1_rollback_of_the_timestamp(client: Client, repository: TufRepository) -> None:
    old = repository.published["timestamp"][-1]
    repository.publish("timestamp")
    assert client.refresh() == 0
    repository.put("timestamp", old, 1)
    assert client.refused("replayed or mixed metadata: New timestamp version 1 must be >= 2")
    assert client.trusted["timestamp"] == 2
    assert client.asked()[-1] == "timestamp.json"


def test_5_4_3_1_an_equal_version_changes_nothing(client: Client, repository: TufRepository) -> None:
    """Signed and real, with another content: it is discarded, and that is no error."""
    assert client.refresh() == 0
    before = (client.metadata / "timestamp.json").read_bytes()
    repository.timestamp.snapshot_meta.version = 100
    repository.put("timestamp", repository.sign("timestamp"), 1)
    assert client.refresh() == 0
    assert client.asked()[-1] == "timestamp.json"
    assert (client.metadata / "timestamp.json").read_bytes() == before


def test_5_4_3_2_rollback_of_the_snapshot_in_the_timestamp(client: Client, repository: TufRepository) -> None:
    repository.publish()
    assert client.refresh() == 0
    repository.timestamp.snapshot_meta.version = 1
    repository.publish("timestamp")
    assert client.refused("replayed or mixed metadata: New snapshot version must be >= 2")
    assert client.trusted == {"root": 1, "snapshot": 2, "targets": 2, "timestamp": 2}
    assert client.asked()[-1] == "timestamp.json"


def test_5_4_4_freeze_attack(client: Client, repository: TufRepository) -> None:
    assert client.refresh() == 0
    repository.timestamp.expires = repository.now - timedelta(days=5)
    repository.publish("timestamp")
    assert client.refused("expired metadata: timestamp.json is expired")
    assert client.trusted == {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 1}


def test_5_4_4_a_frozen_repository_is_noticed(
    client: Client, repository: TufRepository, later: Callable[[float], None]
) -> None:
    """The attacker answers with what the client has, for ever."""
    assert client.refresh() == 0
    later(31)
    assert client.refused("expired metadata")


def test_5_4_4_an_expired_timestamp_here_is_replaced(
    client: Client, repository: TufRepository, later: Callable[[float], None]
) -> None:
    repository.timestamp.expires = repository.now + timedelta(days=7)
    repository.publish("timestamp")
    assert client.refresh() == 0
    repository.timestamp.expires = repository.now + timedelta(days=21)
    repository.publish()
    later(18)
    assert client.refresh() == 0
    assert client.trusted == {"root": 1, "snapshot": 2, "targets": 2, "timestamp": 3}


def test_5_4_4_an_expired_timestamp_here_still_guards_against_rollback(
    client: Client, repository: TufRepository, later: Callable[[float], None]
) -> None:
    old = repository.published["timestamp"][-1]
    repository.timestamp.expires = repository.now + timedelta(days=7)
    repository.publish()
    assert client.refresh() == 0
    later(18)
    repository.put("timestamp", old, 1)
    assert client.refused("replayed or mixed metadata")
    assert client.trusted["timestamp"] == 2


def test_5_4_5_a_timestamp_is_kept_as_it_was_sent(client: Client, repository: TufRepository) -> None:
    data = json.dumps(json.loads(repository.published["timestamp"][0]), indent=3).encode() + b"\n"
    repository.put("timestamp", data, 1)
    assert client.refresh() == 0
    assert (client.metadata / "timestamp.json").read_bytes() == data
