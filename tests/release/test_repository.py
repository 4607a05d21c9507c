"""Publish, promote, roll back: what each writes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tuf.api.metadata import Metadata, Targets

from coremlops.collection import History, Line
from coremlops.errors import RepositoryError
from coremlops.files import exclusive_lock
from coremlops.model import model_digest
from coremlops.release import Repository
from coremlops.release.contents import Contents
from coremlops.release.terms import Form
from tests.release.conftest import Clock

Models = tuple[Path, Path, Path]


def files(repository: Repository) -> dict[str, bytes]:
    found = (path for path in repository.folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {path.relative_to(repository.folder).as_posix(): path.read_bytes() for path in found}


def versions(repository: Repository) -> dict[str, int]:
    return {each.role: each.version for each in repository.status()}


def test_init_makes_the_roles_of_the_contract(repository: Repository) -> None:
    assert sorted(files(repository)) == sorted(
        [
            "coremlops.json",
            *sorted(
                f"metadata/{name}.json"
                for name in (
                    "1.faces-halt",
                    "1.faces-members",
                    "1.faces-release",
                    "1.faces-staging",
                    "1.root",
                    "1.snapshot",
                    "1.targets",
                    "timestamp",
                )
            ),
            "metadata/1.root.json.gz",
            "metadata/1.targets.json.gz",
            *sorted(name for name in files(repository) if name.startswith("targets/faces/")),
        ]
    )
    targets = Metadata[Targets].from_file(str(repository.folder / "metadata" / "1.targets.json")).signed
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    assert [(name, role.paths, role.terminating) for name, role in targets.delegations.roles.items()] == [
        ("faces-halt", ["faces/halt/*"], True),
        ("faces-release", ["faces/release/*"], True),
        ("faces-staging", ["faces/staging/*"], True),
        ("faces-members", ["faces/members/*"], True),
    ]
    keyids = {name: role.keyids for name, role in targets.delegations.roles.items()}
    assert keyids["faces-staging"] == keyids["faces-members"] != keyids["faces-release"]
    assert [index.lines for index in repository.list()] == [(), ()]


def test_init_overwrites_nothing_and_leaves_no_keys_when_it_fails(
    tmp_path: Path, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "mine").write_text("x")
    with pytest.raises(RepositoryError, match="exists already and is not empty"):
        Repository.init(tmp_path / "repository")
    assert not config.exists()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coremlops.release.targets.write_atomic", full)
    with pytest.raises(RepositoryError, match="other cannot be written: No space left on device"):
        Repository.init(tmp_path / "other")
    assert list((config / "keys").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config", "repository"]


def test_opening_what_is_no_repository_names_the_command(tmp_path: Path, config: Path) -> None:
    with pytest.raises(RepositoryError, match="no signed repository at") as caught:
        Repository.open(tmp_path / "repository")
    assert caught.value.hint == f"coremlops repo init {tmp_path / 'repository'}"


def test_publish_signs_only_what_changed(repository: Repository, models: Models, golden: Path) -> None:
    entry = repository.publish([Form(models[0], golden)])
    assert (entry.version, entry.models) == (1, (model_digest(models[0]),))
    assert versions(repository) == {
        "root": 1,
        "targets": 1,
        "faces-halt": 1,
        "faces-release": 1,
        "faces-staging": 2,
        "faces-members": 2,
        "snapshot": 2,
        "timestamp": 2,
    }
    assert repository.line("staging").current == entry
    assert repository.line("release").current is None
    manifest = repository.manifest(entry)
    assert (manifest.model, manifest.kind, manifest.version) == (entry.models[0], "mlpackage", 1)
    assert [member.path for member in manifest.members] == [
        "golden/golden.json",
        "golden/pictures/red.png",
        "model.mlpackage/Data/com.apple.CoreML/model.mlmodel",
        "model.mlpackage/Data/com.apple.CoreML/weights/weight.bin",
        "model.mlpackage/Manifest.json",
    ]
    for member in manifest.members:
        stored = repository.folder / "targets" / "faces" / "members" / f"{member.sha256}.{member.sha256}"
        assert stored.stat().st_size == member.length


def test_a_member_that_is_there_is_not_written_again(
    repository: Repository, models: Models, golden: Path
) -> None:
    repository.publish([Form(models[0], golden)])
    members = repository.folder / "targets" / "faces" / "members"
    before = {path.name: path.stat().st_mtime_ns for path in members.iterdir()}
    repository.publish([Form(models[1], golden)])
    after = {path.name: path.stat().st_mtime_ns for path in members.iterdir()}
    assert before.items() <= after.items()
    # model.mlmodel, weight.bin and the manifest; the golden set and Manifest.json are the same files.
    assert len(after) - len(before) == 3


def test_publishing_the_newest_digest_again_writes_nothing(
    repository: Repository, models: Models, golden: Path
) -> None:
    first = repository.publish([Form(models[0], golden)])
    before = files(repository)
    assert repository.publish([Form(models[0], golden)]) == first
    assert files(repository) == before


def test_a_rollback_is_newer_metadata_with_the_older_digest(
    repository: Repository, models: Models, golden: Path
) -> None:
    first = repository.publish([Form(models[0], golden)])
    second = repository.publish([Form(models[1], golden)])
    before = versions(repository)
    assert repository.rollback("staging") == first
    index = repository.line("staging")
    assert (index.current, index.last_version, index.rolled_back) == (first, second.version, True)
    after = versions(repository)
    assert {role for role in after if after[role] != before[role]} == {
        "faces-staging",
        "snapshot",
        "timestamp",
    }
    assert all(after[role] >= before[role] for role in after)


def test_a_repeated_publish_does_not_undo_a_rollback(
    repository: Repository, models: Models, golden: Path
) -> None:
    repository.publish([Form(models[0], golden)])
    second = repository.publish([Form(models[1], golden)])
    repository.rollback("staging")
    before = files(repository)
    assert repository.publish([Form(models[1], golden)]) == second
    assert repository.publish([Form(models[0], golden)]).version == 1
    assert files(repository) == before
    assert repository.publish([Form(models[2], golden)]).version == 3
    assert not repository.line("staging").rolled_back


def test_publishing_again_on_purpose_returns_to_the_newest(
    repository: Repository, models: Models, golden: Path
) -> None:
    repository.publish([Form(models[0], golden)])
    second = repository.publish([Form(models[1], golden)])
    repository.rollback("staging")
    assert repository.publish([Form(models[1], golden)], again=True) == second
    assert repository.line("staging").current == second
    (golden / "golden.json").write_text('{"other": 1}\n')
    third = repository.publish([Form(models[1], golden)], again=True)
    assert (third.version, third.models) == (3, second.models)
    assert third.variants[0].manifest != second.variants[0].manifest


def test_rollback_to_a_named_version_and_its_refusals(
    repository: Repository, models: Models, golden: Path
) -> None:
    with pytest.raises(RepositoryError, match="staging has no version yet"):
        repository.rollback("staging")
    entries = [repository.publish([Form(model, golden)]) for model in models]
    assert repository.rollback("staging", 1) == entries[0]
    before = files(repository)
    assert repository.rollback("staging", 1) == entries[0]
    assert files(repository) == before
    with pytest.raises(RepositoryError, match="at version 1 and has none before it"):
        repository.rollback("staging")
    with pytest.raises(RepositoryError, match="at version 1 and has no version 9"):
        repository.rollback("staging", 9)
    with pytest.raises(RepositoryError, match="version 3 is newer than staging's current 1"):
        repository.rollback("staging", 3)


def test_promote_gives_the_same_version_to_release(
    repository: Repository, models: Models, golden: Path
) -> None:
    with pytest.raises(RepositoryError, match="staging has no version yet"):
        repository.promote()
    entries = [repository.publish([Form(model, golden)]) for model in models]
    before = versions(repository)
    assert repository.promote(2) == entries[1]
    after = versions(repository)
    assert {role for role in after if after[role] != before[role]} == {
        "faces-release",
        "snapshot",
        "timestamp",
    }
    assert repository.promote() == entries[2]
    written = files(repository)
    assert repository.promote() == entries[2]
    assert files(repository) == written
    with pytest.raises(RepositoryError, match="staging has no version 9"):
        repository.promote(9)


def test_promote_does_not_silently_undo_a_rollback(
    repository: Repository, models: Models, golden: Path
) -> None:
    for model in models[:2]:
        repository.publish([Form(model, golden)])
        repository.promote()
    repository.rollback("release")
    with pytest.raises(RepositoryError, match="release was rolled back from version 2") as caught:
        repository.promote()
    assert "promote --version 2" in caught.value.hint
    assert repository.promote(2).version == 2


def test_promoting_needs_the_release_key(repository: Repository, models: Models, golden: Path) -> None:
    repository.publish([Form(models[0], golden)])
    shutil.rmtree(repository.keys.folder / "release")
    engineer = Repository.open(repository.folder)
    before = files(repository)
    acts: tuple[Callable[[], object], ...] = (
        engineer.promote,
        lambda: engineer.publish([Form(models[1], golden)], "release"),
    )
    for act in acts:
        with pytest.raises(RepositoryError, match="the release key of repository") as caught:
            act()
        assert "whoever decides about releases" in caught.value.hint
    assert files(repository) == before
    assert engineer.publish([Form(models[1], golden)]).version == 2


def test_the_keys_of_another_repository_do_not_sign_here(
    repository: Repository, tmp_path: Path, models: Models, golden: Path
) -> None:
    other = Repository.init(tmp_path / "other")
    identity = json.loads((repository.folder / "coremlops.json").read_text())
    identity["id"] = other.keys.repository_id
    (repository.folder / "coremlops.json").write_text(json.dumps(identity))
    with pytest.raises(RepositoryError, match="is not one that this repository trusts"):
        Repository.open(repository.folder).publish([Form(models[0], golden)])


def test_metadata_that_another_key_signed_is_not_built_upon(
    repository: Repository, tmp_path: Path, models: Models, golden: Path
) -> None:
    other = Repository.init(tmp_path / "other")
    shutil.copy(
        other.folder / "metadata" / "1.faces-members.json",
        repository.folder / "metadata" / "1.faces-members.json",
    )
    with pytest.raises(RepositoryError, match="faces-members: not signed by the key"):
        repository.publish([Form(models[0], golden)])


def test_an_index_that_was_changed_on_disk_is_not_built_upon(
    repository: Repository, models: Models, golden: Path
) -> None:
    for path in (repository.folder / "targets" / "faces" / "staging").iterdir():
        path.write_bytes(path.read_bytes().replace(b"0", b"1"))
    with pytest.raises(RepositoryError, match="is not what its metadata signed"):
        repository.publish([Form(models[0], golden)])


def test_a_symbolic_link_in_the_payload_publishes_nothing(
    repository: Repository, models: Models, golden: Path
) -> None:
    (golden / "link").symlink_to("/etc/hostname")
    before = files(repository)
    with pytest.raises(RepositoryError, match="is a symbolic link"):
        repository.publish([Form(models[0], golden)])
    (golden / "link").unlink()
    (models[0] / "link").symlink_to("/etc/hostname")
    with pytest.raises(RepositoryError, match="is a symbolic link"):
        repository.publish([Form(models[0], golden)])
    assert files(repository) == before


def test_other_payloads_that_cannot_be_published(
    repository: Repository, models: Models, golden: Path, tmp_path: Path
) -> None:
    before = files(repository)
    small = replace(repository, most_bytes=1000)
    with pytest.raises(RepositoryError, match="at most 1000 are allowed"):
        small.publish([Form(models[0], golden)])
    for name in ("model.txt", "model.mlmodelc", "model.aimodel", "model"):  # files, all of them
        path = tmp_path / name
        path.write_bytes(b"x")
        with pytest.raises(RepositoryError, match=r"expected \.mlpackage or|expected a folder and no link"):
            repository.publish([Form(path, golden)])
    with pytest.raises(RepositoryError, match="no model at"):
        repository.publish([Form(tmp_path / "missing.mlpackage", golden)])
    with pytest.raises(RepositoryError, match="no golden set at"):
        repository.publish([Form(models[0], tmp_path / "nothing")])
    (golden / "golden.json").unlink()
    with pytest.raises(RepositoryError, match=r"no member golden/golden\.json"):
        repository.publish([Form(models[0], golden)])
    with pytest.raises(RepositoryError, match="a channel is one of"):
        repository.publish([Form(models[0], golden)], "nightly")
    assert files(repository) == before


def test_names_that_apple_file_systems_confuse_are_refused(
    repository: Repository, models: Models, golden: Path
) -> None:
    (golden / "Red.png").write_bytes(b"1")
    (golden / "red.PNG").write_bytes(b"2")
    with pytest.raises(RepositoryError, match="collides"):
        repository.publish([Form(models[0], golden)])


def test_two_publishers_wait_for_each_other(repository: Repository, models: Models, golden: Path) -> None:
    impatient = replace(repository, lock_wait_s=0.0)
    with (
        exclusive_lock(repository.folder / ".lock", wait_s=0.0),
        pytest.raises(RepositoryError, match="another process is publishing"),
    ):
        impatient.publish([Form(models[0], golden)])
    assert impatient.publish([Form(models[0], golden)]).version == 1


def test_status_warns_in_time_and_renew_signs_what_is_due(
    repository: Repository, models: Models, golden: Path, clock: Clock
) -> None:
    repository.publish([Form(models[0], golden)])
    assert not any(each.due or each.expired for each in repository.status())
    assert repository.renew() == ()
    clock.move(days=5)
    assert [each.role for each in repository.status() if each.due] == ["timestamp"]
    assert repository.renew() == ("timestamp",)
    assert not any(each.due for each in repository.status())
    clock.move(days=58)
    due = {each.role: each.expired for each in repository.status() if each.due}
    ours = dict.fromkeys(("faces-halt", "faces-staging", "faces-members"), False)
    assert due == ours | {"snapshot": True, "timestamp": True}
    shutil.rmtree(repository.keys.folder / "root")
    repository = Repository.open(repository.folder, clock=clock)
    assert set(repository.renew()) == set(due)
    assert not any(each.due for each in repository.status())
    clock.move(days=280)
    assert {each.role: each.key_present for each in repository.status() if each.due}["root"] is False


def test_a_publish_that_has_nothing_to_do_still_renews_the_timestamp(
    repository: Repository, models: Models, golden: Path, clock: Clock
) -> None:
    repository.publish([Form(models[0], golden)])
    clock.move(days=6)
    repository.publish([Form(models[0], golden)])
    assert not any(each.due for each in repository.status())
    assert versions(repository)["faces-staging"] == 2


def test_a_full_disk_is_our_error_and_publishes_nothing(
    repository: Repository, models: Models, golden: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    before = files(repository)
    with monkeypatch.context() as patch:
        patch.setattr("coremlops.release.roles.sync_folder", full)
        with pytest.raises(RepositoryError, match="cannot be changed: No space left on device"):
            repository.publish([Form(models[0], golden)])
    left = files(repository)  # targets that nothing names may be there; `repo gc` knows them
    assert {name: data for name, data in left.items() if not name.startswith("targets/")} == {
        name: data for name, data in before.items() if not name.startswith("targets/")
    }
    assert repository.publish([Form(models[0], golden)]).version == 1


def test_a_folder_that_cannot_be_made_is_our_error(tmp_path: Path, config: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RepositoryError, match="cannot be written: Not a directory"):
        Repository.init(tmp_path / "file" / "repository")
    with pytest.raises(RepositoryError, match="the keys cannot be written"):
        Repository.init(tmp_path / "repository", config=tmp_path / "file" / "config")


@pytest.mark.parametrize("fault", ["no member", "short member", "no manifest", "another's manifest"])
@pytest.mark.parametrize("act", ["promote", "rollback"])
def test_a_version_that_is_not_whole_is_not_signed_for(
    repository: Repository,
    models: Models,
    golden: Path,
    monkeypatch: pytest.MonkeyPatch,
    act: str,
    fault: str,
) -> None:
    """Whoever holds the release key vouches for the entry that the staging key wrote."""
    first = repository.publish([Form(models[0], golden)])
    second = repository.publish([Form(models[1], golden)])
    if act == "promote":
        repository.rollback("staging")
    targets = repository.folder / "targets" / "faces" / "members"
    sha256 = next(
        member.sha256 for member in repository.manifest(first).members if member.path.endswith(".mlmodel")
    )
    if fault == "no member":
        (targets / f"{sha256}.{sha256}").unlink()
    elif fault == "short member":
        (targets / f"{sha256}.{sha256}").write_bytes(b"x")
    elif fault == "no manifest":
        manifest = first.variants[0].manifest
        (targets / f"{manifest}.{manifest}").unlink()
    else:
        lie = replace(first, variants=(replace(first.variants[0], manifest=second.variants[0].manifest),))
        for name, wrong in (
            ("line", Line("faces", "staging", "faces", (lie if act == "promote" else second,), 2)),
            ("history", History("faces", "staging", "faces", (lie, second))),
        ):

            def read(self: Contents, channel: str, name: str = "faces", wrong: Any = wrong) -> Any:
                return wrong if channel == "staging" else type(wrong)("faces", channel, name)

            monkeypatch.setattr(Contents, name, read)
    before = repository.folder.joinpath("metadata", "timestamp.json").read_bytes()
    with pytest.raises(RepositoryError, match=r"is not whole|cannot be read|the manifest of faces version 1"):
        repository.promote() if act == "promote" else repository.rollback("staging")
    assert repository.folder.joinpath("metadata", "timestamp.json").read_bytes() == before
