"""5.5 of TUF's client workflow: the snapshot."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from tuf.api.metadata import MetaFile

from tests.client.workflow.conftest import Client
from tests.client.workflow.repository import TufRepository, new_signer

NEW_TIMESTAMP = {"root": 1, "snapshot": 1, "targets": 1, "timestamp": 2}


@pytest.fixture(params=[False, True], ids=["versions", "hashes"])
def hashes(request: pytest.FixtureRequest, repository: TufRepository) -> bool:
    """Whether timestamp and snapshot carry lengths and hashes, which a client need not find."""
    repository.hashes = bool(request.param)
    repository.publish()
    return repository.hashes


def test_5_5_1_endless_data(client: Client) -> None:
    client.server.endless.add("1.snapshot.json")
    assert client.refused("endless data")
    assert client.trusted == {"root": 1, "timestamp": 1}


def test_5_5_1_longer_than_the_timestamp_says(client: Client, repository: TufRepository) -> None:
    repository.hashes = True
    repository.publish()
    repository.put("snapshot", repository.published["snapshot"][-1] + b" ", 2)
    assert client.refused("endless data")
    assert client.trusted == {"root": 1, "timestamp": 2}


def test_5_5_1_a_snapshot_that_is_not_there(client: Client, repository: TufRepository) -> None:
    assert client.refresh() == 0
    repository.timestamp.snapshot_meta.version = 2
    repository.publish("timestamp")
    assert client.refused("the server answers 404")
    assert client.asked()[-1] == "2.snapshot.json"
    assert client.trusted == NEW_TIMESTAMP


def test_5_5_1_a_snapshot_that_is_here_is_not_asked_for(client: Client, repository: TufRepository) -> None:
    assert client.refresh() == 0
    repository.publish("timestamp")
    client.asked()
    assert client.refresh() == 0
    assert client.asked() == ["2.root.json", "timestamp.json"]
    assert client.trusted == NEW_TIMESTAMP


def test_5_5_2_mix_and_match(client: Client, repository: TufRepository) -> None:
    """Signed and real, but not the one that the timestamp's hash means."""
    repository.hashes = True
    repository.publish()
    repository.snapshot.unrecognized_fields["x"] = 1
    data = repository.sign("snapshot")
    repository.timestamp.snapshot_meta.length = len(data)
    repository.publish("timestamp")
    repository.put("snapshot", data, 2)
    assert client.refused("tampered file: Observed hash")
    assert client.trusted == {"root": 1, "timestamp": 3}


def test_5_5_3_arbitrary_software_attack(client: Client, repository: TufRepository) -> None:
    repository.signers["snapshot"] = [new_signer()]
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.refused("tampered metadata: snapshot was signed by 0/1 keys")
    assert client.trusted == {"root": 2, "timestamp": 2}


def test_5_5_4_another_version_than_the_timestamp_says(client: Client, repository: TufRepository) -> None:
    repository.snapshot.version = 3
    repository.put("snapshot", repository.sign("snapshot"), 2)
    repository.timestamp.snapshot_meta.version = 2
    repository.publish("timestamp")
    assert client.refused("replayed or mixed metadata: Expected snapshot version 2, got 3")
    assert client.trusted == {"root": 1, "timestamp": 2}


def test_5_5_4_a_newer_snapshot_that_no_timestamp_names(client: Client, repository: TufRepository) -> None:
    repository.publish("snapshot")
    repository.timestamp.snapshot_meta.version = 1
    repository.publish("timestamp")
    assert client.refresh() == 0
    assert client.trusted == NEW_TIMESTAMP


def test_5_5_5_rollback_of_targets(client: Client, repository: TufRepository, hashes: bool) -> None:
    """What the snapshot here says counts, whether hashes fit it or not."""
    assert client.refresh() == 0
    repository.snapshot.meta["targets.json"] = MetaFile(1)
    repository.publish("snapshot", "timestamp")
    assert client.refused("replayed or mixed metadata: Expected targets.json version 1, got 2")
    assert client.trusted == {"root": 1, "snapshot": 2, "targets": 2, "timestamp": 3}


def test_5_5_5_rollback_of_a_delegated_role(client: Client, repository: TufRepository, hashes: bool) -> None:
    repository.delegate("targets", "A")
    repository.publish("A", "targets", "snapshot", "timestamp")
    repository.publish("A", "snapshot", "timestamp")
    assert client.refresh() == 0
    repository.snapshot.meta["A.json"].version = 1
    repository.publish("snapshot", "timestamp")
    assert client.refused("replayed or mixed metadata: Expected A.json version 1, got 2")


def test_5_5_5_a_role_disappears(client: Client, repository: TufRepository, hashes: bool) -> None:
    repository.delegate("targets", "A")
    repository.publish("A", "targets", "snapshot", "timestamp")
    assert client.refresh() == 0
    del repository.snapshot.meta["A.json"]
    repository.publish("snapshot", "timestamp")
    assert client.refused("New snapshot is missing info for 'A.json'")


def test_5_5_6_freeze_attack(client: Client, repository: TufRepository) -> None:
    assert client.refresh() == 0
    repository.snapshot.expires = repository.now - timedelta(days=5)
    repository.publish("snapshot", "timestamp")
    assert client.refused("expired metadata: snapshot.json is expired")
    assert client.trusted == NEW_TIMESTAMP


def test_5_5_6_a_snapshot_here_expires(
    client: Client, repository: TufRepository, later: Callable[[float], None]
) -> None:
    """A newer one takes its place, and the old one still guards against rollback."""
    repository.snapshot.expires = repository.now + timedelta(days=7)
    repository.publish()
    assert client.refresh() == 0
    later(18)
    assert client.refused("expired metadata: snapshot.json is expired")
    repository.snapshot.expires = repository.now + timedelta(days=21)
    repository.snapshot.meta["targets.json"].version = 1
    repository.publish("snapshot", "timestamp")
    assert client.refused("replayed or mixed metadata: Expected targets.json version 1, got 2")
    repository.snapshot.meta["targets.json"].version = 2
    repository.publish("snapshot", "timestamp")
    assert client.refresh() == 0
    assert client.trusted == {"root": 1, "snapshot": 4, "targets": 2, "timestamp": 4}


def test_5_5_7_a_snapshot_is_kept_as_it_was_sent(client: Client, repository: TufRepository) -> None:
    data = repository.published["snapshot"][0] + b"\n\n"
    repository.put("snapshot", data, 1)
    assert client.refresh() == 0
    assert (client.metadata / "snapshot.json").read_bytes() == data
