"""Rotated keys: devices that trust the old root follow, python-tuf's own client being the device here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from securesystemslib.signer import Signer
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Root, Snapshot, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from coremlops.errors import RepositoryError
from coremlops.release import Repository
from coremlops.release.keys import HOLDERS
from coremlops.release.rotation import Rotation
from coremlops.release.terms import Form

Models = tuple[Path, Path, Path]
URL = "https://here.invalid/"


class _Files(FetcherInterface):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.folder / url.removeprefix(URL)
        if not path.is_file():
            raise DownloadHTTPError(f"no {path}", 404)
        yield path.read_bytes()


class Phone:
    """A device with the root of its day."""

    def __init__(self, repository: Repository, folder: Path) -> None:
        folder.mkdir()
        self.folder, self.served = folder, repository.folder
        self.root = repository.root_file.read_bytes()

    def refresh(self) -> int:
        """Bring all up to date, the release index included; the timestamp's version."""
        updater = Updater(
            str(self.folder),
            URL + "metadata/",
            target_dir=str(self.folder),
            target_base_url=URL + "targets/",
            fetcher=_Files(self.served),
            bootstrap=self.root,
        )
        updater.refresh()
        for path in ("faces/release/index.json", "faces/staging/index.json", "faces/halt/release.json"):
            assert updater.get_targetinfo(path) is not None, path
        metadata: Metadata[Timestamp] = Metadata.from_file(str(self.folder / "timestamp.json"))
        return metadata.signed.version


@pytest.fixture
def published(repository: Repository, models: Models, golden: Path) -> Repository:
    repository.publish([Form(models[0], golden)])
    repository.promote()
    return repository


def fresh(repository: Repository) -> Repository:
    return Repository.open(repository.folder, clock=repository.clock)


def key_files(repository: Repository) -> set[str]:
    return {
        each.relative_to(repository.keys.folder).as_posix() for each in repository.keys.folder.rglob("*.*")
    }


def write(repository: Repository, file: str, metadata: Metadata[Any], signer: Signer) -> None:
    """What somebody with a stolen key and the server can do."""
    metadata.signatures.clear()
    metadata.sign(signer)
    metadata.to_file(str(repository.folder / "metadata" / file))


@pytest.mark.parametrize("name", list(HOLDERS))
def test_a_device_that_trusts_the_old_root_follows_each_rotation(
    published: Repository, tmp_path: Path, models: Models, golden: Path, name: str
) -> None:
    phone, late = Phone(published, tmp_path / "phone"), Phone(published, tmp_path / "late")
    before = phone.refresh()
    old = published.keys.signers(name)[0].public_key.keyid
    done = fresh(published).rotate(Rotation((name,)))
    assert phone.refresh() == before + 1
    assert [path.name for path in done.retired] == [f"{name}-{old[:16]}.pem"]
    assert done.retired[0].parent.name == "retired"
    now = fresh(published)
    assert now.keys.keyids(name) == done.made[name] != (old,)
    now.publish([Form(models[1], golden)])
    now.promote()
    assert phone.refresh() == late.refresh() == before + 3
    assert now.status()[0].version == {"root": 2, "targets": 3, "snapshot": 3, "timestamp": 3}.get(name, 1)
    assert now.audit() == before + 2
    assert not list((now.folder / "pending").glob("*"))


def test_bins_are_signed_anew_with_the_staging_key(
    published: Repository, tmp_path: Path, models: Models, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coremlops.release.members.FLAT", 3)
    published.publish([Form(models[1], golden)])
    phone = Phone(published, tmp_path / "phone")
    phone.refresh()
    fresh(published).rotate(Rotation(("staging",)))
    phone.refresh()
    fresh(published).publish([Form(models[2], golden)])
    phone.refresh()
    assert fresh(published).manifest(fresh(published).line("staging").offers[0]).version == 3


def test_fast_forward_is_recovered_from_by_rotating_snapshot_and_timestamp(
    published: Repository, tmp_path: Path
) -> None:
    """TUF 5.3.11: whoever had the online keys served a huge version; devices that saw it come back."""
    phone = Phone(published, tmp_path / "phone")
    phone.refresh()
    stolen = {name: published.keys.signers(name)[0] for name in ("snapshot", "timestamp")}
    kept = (published.folder / "metadata" / "timestamp.json").read_bytes()
    timestamp: Metadata[Timestamp] = Metadata.from_bytes(kept)
    at = timestamp.signed.snapshot_meta.version
    path = published.folder / "metadata" / f"{at}.snapshot.json"
    snapshot: Metadata[Snapshot] = Metadata.from_file(str(path))
    snapshot.signed.version = timestamp.signed.snapshot_meta.version = timestamp.signed.version = 2**31 - 1
    write(published, f"{2**31 - 1}.snapshot.json", snapshot, stolen["snapshot"])
    write(published, "timestamp.json", timestamp, stolen["timestamp"])
    assert phone.refresh() == 2**31 - 1
    (published.folder / "metadata" / "timestamp.json").write_bytes(kept)
    (published.folder / "metadata" / f"{2**31 - 1}.snapshot.json").unlink()
    with pytest.raises(TufError, match="must be >="):
        phone.refresh()
    fresh(published).rotate(Rotation(("snapshot", "timestamp")))
    assert phone.refresh() < 100


@pytest.mark.parametrize("name", ["targets", "release", "halt", "staging", "snapshot", "timestamp"])
def test_a_lost_key_is_replaced_without_it(published: Repository, tmp_path: Path, name: str) -> None:
    phone = Phone(published, tmp_path / "phone")
    phone.refresh()
    published.keys.path(name).unlink()
    fresh(published).rotate(Rotation((name,)))
    phone.refresh()
    assert all(each.key_present for each in fresh(published).status())


def test_roots_keys_are_not_replaced_without_roots_keys(published: Repository) -> None:
    published.keys.path("root").unlink()
    before = {path.name for path in (published.folder / "metadata").iterdir()}
    with pytest.raises(RepositoryError, match="root has 0 of 1 signatures"):
        fresh(published).rotate(Rotation(("root",)))
    assert {path.name for path in (published.folder / "metadata").iterdir()} == before


def test_a_stolen_key_is_worth_nothing_after_it_is_replaced(published: Repository, tmp_path: Path) -> None:
    phone = Phone(published, tmp_path / "phone")
    phone.refresh()
    stolen = published.keys.signers("timestamp")[0]
    fresh(published).rotate(Rotation(("timestamp",)))
    phone.refresh()
    timestamp: Metadata[Timestamp] = Metadata.from_file(str(published.folder / "metadata" / "timestamp.json"))
    timestamp.signed.version += 1
    write(published, "timestamp.json", timestamp, stolen)
    with pytest.raises(TufError, match="timestamp was signed by 0/1 keys"):
        phone.refresh()


def test_more_keys_and_a_higher_threshold_and_back(published: Repository, tmp_path: Path) -> None:
    phone = Phone(published, tmp_path / "phone")
    phone.refresh()
    for name in ("root", "targets", "release"):
        done = fresh(published).rotate(Rotation((name,), add=True, threshold=2))
        phone.refresh()
        assert len(fresh(published).keys.signers(name)) == 2
        fresh(published).rotate(Rotation((name,), remove=(done.made[name][0][:8],), threshold=1))
        phone.refresh()
        assert len(fresh(published).keys.signers(name)) == 1
    root: Metadata[Root] = Metadata.from_file(str(fresh(published).root_file))
    assert len(root.signed.keys) == 4


def test_a_key_that_is_trusted_already_is_no_new_key(published: Repository) -> None:
    before = key_files(published)
    uri = f"file2:{published.keys.path('halt')}"
    with pytest.raises(RepositoryError, match=r"halt: the key .* is trusted already"):
        fresh(published).rotate(Rotation(("halt",), uris={"halt": uri}))
    assert key_files(published) == before


def test_a_key_in_the_environment_is_not_replaced_by_a_file_there(
    published: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a build machine the file would be gone with the job, and with it the key."""
    monkeypatch.setenv("COREMLOPS_KEY_TIMESTAMP", published.keys.path("timestamp").read_text())
    with pytest.raises(RepositoryError, match="the timestamp key is in the environment"):
        fresh(published).rotate(Rotation(("timestamp",)))


@pytest.mark.parametrize(
    ("rotation", "said"),
    [
        (lambda: Rotation(("release",), replace=("abcdef0123",)), "no key of release has the id abcdef0123"),
        (lambda: Rotation(("release",), replace=("ab",)), "at least 8 digits of a key's id are needed"),
        (lambda: Rotation(("relase",)), "no key is called 'relase'"),
        (lambda: Rotation(("release",), threshold=2), "release: 2 of 1 keys cannot sign"),
        (lambda: Rotation(("timestamp",), add=True, threshold=2), "timestamp is signed by one machine alone"),
    ],
)
def test_what_cannot_be_rotated_makes_no_key(published: Repository, rotation: Any, said: str) -> None:
    before = key_files(published)
    with pytest.raises(RepositoryError, match=said):
        fresh(published).rotate(rotation())
    assert key_files(published) == before


def killed(work: Callable[[], object], call: str, count: int) -> bool:
    """Do it in a process that dies at the `count`-th call of `os.<call>`, as by kill -9; whether it died."""
    child = os.fork()
    if child == 0:
        real, calls = getattr(os, call), 0

        def dying(*args: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == count:
                os._exit(9)
            return real(*args)

        try:
            setattr(os, call, dying)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, 9)
    return code == 9


@pytest.mark.parametrize("call", ["replace", pytest.param("fsync", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "names", [("timestamp", "snapshot"), ("targets",), ("root",), ("staging", "snapshot", "timestamp")]
)
def test_a_kill_at_every_write_of_a_rotation_is_followed_by_devices_and_completed(
    published: Repository, tmp_path: Path, names: tuple[str, ...], call: str
) -> None:
    saved = tmp_path / "saved"
    shutil.copytree(published.folder, saved / "repository")
    shutil.copytree(published.keys.folder, saved / "keys")
    for count in range(1, 60):
        for name, folder in (("repository", published.folder), ("keys", published.keys.folder)):
            shutil.rmtree(folder)
            shutil.copytree(saved / name, folder)
        phone = Phone(published, tmp_path / f"phone{count}")
        before = phone.refresh()
        if not killed(lambda: fresh(published).rotate(Rotation(names)), call, count):
            break
        phone.refresh()
        fresh(published).renew()  # repairs, whatever it finds
        phone.refresh()
        root: Metadata[Root] = Metadata.from_file(str(fresh(published).root_file))
        assert all(len(each.keyids) == 1 for each in root.signed.roles.values()), "no bridge is left"
        fresh(published).rotate(Rotation(names))
        assert phone.refresh() > before
        assert all(each.key_present for each in fresh(published).status())
    assert count > 4
