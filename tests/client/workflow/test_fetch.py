"""5.7 of TUF's client workflow: a target, as its metadata promises it."""

from __future__ import annotations

from hashlib import sha256, sha512

import pytest
from tuf.api.metadata import TargetFile

from tests.client.workflow.conftest import Client
from tests.client.workflow.repository import TufRepository

TOP = ["2.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"]


def test_a_target(client: Client, repository: TufRepository) -> None:
    repository.add("targets", "file.txt", b"content")
    repository.publish()
    assert client.refresh() == 0
    assert client.files == {}
    client.asked()
    assert client.download("file.txt") == 0
    assert client.files == {"file.txt": b"content"}
    assert client.asked() == [*TOP[:2], f"{sha256(b'content').hexdigest()}.file.txt"]


def test_metadata_is_refreshed_first(client: Client, repository: TufRepository) -> None:
    repository.publish()
    assert client.download("nothing here") == 1
    assert client.error == "error: the repository has no nothing here\n"
    assert client.asked() == TOP
    assert client.trusted == {"root": 1, "snapshot": 2, "targets": 2, "timestamp": 2}


def test_a_target_in_a_folder(client: Client, repository: TufRepository) -> None:
    repository.add("targets", "a/b/file.txt", b"content")
    repository.publish()
    assert client.download("a/b/file.txt") == 0
    assert client.files == {"a%2Fb%2Ffile.txt": b"content"}
    assert client.asked()[-1] == f"a/b/{sha256(b'content').hexdigest()}.file.txt"


@pytest.mark.parametrize("path", ["../outside", "/outside", "a/../../outside", "%2e%2e%2Foutside"])
def test_no_path_leads_out_of_the_folder(client: Client, repository: TufRepository, path: str) -> None:
    """Whatever a signed path says; the server finds its file, or not."""
    client.server.change = lambda asked, data: b"content" if "/targets/" in asked else data
    repository.delegated["targets"].targets[path] = TargetFile.from_data(path, b"content", ["sha256"])
    repository.publish()
    client.download(path)
    names = {each.name for each in client.folder.iterdir()}
    assert names <= {"initial.json", "metadata", "targets"}
    assert not (client.folder.parent / "outside").exists()


def test_several_targets_in_order_with_one_refresh(client: Client, repository: TufRepository) -> None:
    for name in "abc":
        repository.add("targets", name, name.encode())
    repository.publish()
    assert client.download("b", "c", "a") == 0
    assert client.files == {"a": b"a", "b": b"b", "c": b"c"}
    asked = client.asked()
    assert asked[:4] == TOP
    assert [path[-1] for path in asked[4:]] == ["b", "c", "a"]


def test_what_came_before_a_failure_stays(client: Client, repository: TufRepository) -> None:
    for name in "ac":
        repository.add("targets", name, name.encode())
    repository.publish()
    assert client.download("a", "b", "c") == 1
    assert client.files == {"a": b"a"}


def test_a_target_that_is_here_is_not_fetched_again(client: Client, repository: TufRepository) -> None:
    repository.add("targets", "file", b"content")
    repository.publish()
    assert client.download("file") == 0
    client.asked()
    assert client.download("file") == 0
    assert client.asked() == TOP[:2]


def test_a_target_that_was_damaged_here_is_fetched_again(client: Client, repository: TufRepository) -> None:
    repository.add("targets", "file", b"content")
    repository.publish()
    assert client.download("file") == 0
    (client.folder / "targets" / "file").write_bytes(b"cONTENT")
    assert client.download("file") == 0
    assert client.files == {"file": b"content"}


def test_a_target_that_changes_takes_the_old_one_s_place(client: Client, repository: TufRepository) -> None:
    for content in (b"one", b"two", b"three"):
        repository.add("targets", "file", content)
        repository.publish()
        assert client.download("file") == 0
        assert client.files == {"file": content}


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (b"cONTENT", "tampered file: Observed hash"),
        (b"conten", "tampered file: Observed length 6 does not match expected length 7"),
        (b"content and more", "endless data: Downloaded 16 bytes exceeding the maximum allowed length of 7"),
        (b"", "tampered file: Observed length 0"),
    ],
)
def test_5_7_3_tampered_targets(client: Client, repository: TufRepository, served: bytes, words: str) -> None:
    repository.add("targets", "file", b"content").write_bytes(served)
    repository.publish()
    assert client.download("file") == 1
    assert words in client.error
    assert client.files == {}


def test_5_7_3_a_tampered_target_leaves_the_good_one(client: Client, repository: TufRepository) -> None:
    repository.add("targets", "file", b"content")
    repository.publish()
    assert client.download("file") == 0
    repository.add("targets", "file", b"another").write_bytes(b"evil...")
    repository.publish()
    assert client.download("file") == 1
    assert client.files == {"file": b"content"}


def test_5_7_3_endless_data(client: Client, repository: TufRepository) -> None:
    repository.add("targets", "file", b"content")
    repository.publish()
    client.server.endless.add(".file")
    assert client.download("file") == 1
    assert "endless data" in client.error
    assert client.files == {}


def test_5_7_3_names_without_hashes(client: Client, repository: TufRepository) -> None:
    repository.root.consistent_snapshot = False
    repository.add("targets", "a/file", b"content")
    repository.publish("root", "targets", "snapshot", "timestamp")
    assert client.download("a/file") == 0
    assert client.asked()[-1] == "a/file"
    assert client.files == {"a%2Ffile": b"content"}


@pytest.mark.parametrize("algorithms", [("sha256",), ("sha512",), ("sha256", "sha512")])
def test_hash_algorithms(client: Client, repository: TufRepository, algorithms: tuple[str, ...]) -> None:
    repository.add("targets", "file", b"content", algorithms=algorithms)
    repository.publish()
    assert client.download("file") == 0
    by = {"sha256": sha256(b"content").hexdigest(), "sha512": sha512(b"content").hexdigest()}
    assert client.asked()[-1] == f"{by[algorithms[0]]}.file"
    assert client.files == {"file": b"content"}


def test_all_hashes_must_fit(client: Client, repository: TufRepository) -> None:
    repository.add("targets", "file", b"content", algorithms=("sha256", "sha512"))
    repository.targets.targets["file"].hashes["sha512"] = "0" * 128
    repository.publish()
    assert client.download("file") == 1
    assert client.files == {}


@pytest.mark.parametrize("name", ["unknown", "crc32", "file_digest", "shake_128"])
def test_an_unknown_hash_proves_nothing(client: Client, repository: TufRepository, name: str) -> None:
    repository.add("targets", "file", b"content")
    hashes = repository.targets.targets["file"].hashes
    hashes[name] = hashes.pop("sha256")
    repository.publish()
    assert client.download("file") == 1
    assert client.error.startswith("error: tampered file: ")
    assert client.files == {}


def test_no_hash_at_all_proves_nothing(client: Client, repository: TufRepository) -> None:
    repository.add("targets", "file", b"content")
    repository.edits["targets"] = lambda signed: signed["targets"]["file"].update(hashes={})
    repository.publish()
    assert client.download("file") == 1
    assert client.files == {}
