"""Private keys: readable by their owner alone, never in a work tree, never in what we say."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest

from coremlops.errors import RepositoryError
from coremlops.release import Repository, config_folder
from coremlops.release.keys import HOLDERS, KeyFolder, create_keys


def test_folders_are_0700_and_files_0600_whatever_the_umask(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        keys = create_keys(tmp_path / "config")
    finally:
        os.umask(mask)
    paths = [keys.folder.parent, keys.folder, *keys.folder.rglob("*")]
    assert {path.name for path in paths if path.is_file()} == {f"{name}.pem" for name in HOLDERS}
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    assert keys.present() == tuple(HOLDERS)


def test_root_and_targets_lie_apart_from_the_online_keys(tmp_path: Path) -> None:
    folder = create_keys(tmp_path).folder
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.pem")) == [
        "halt/halt.pem",
        "online/snapshot.pem",
        "online/staging.pem",
        "online/timestamp.pem",
        "release/release.pem",
        "root/root.pem",
        "root/targets.pem",
    ]


@pytest.mark.parametrize("shape", ["folder", "file"])
def test_a_git_work_tree_is_refused(tmp_path: Path, shape: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    if shape == "folder":
        (tree / ".git").mkdir()
    else:  # a worktree or a submodule
        (tree / ".git").write_text("gitdir: elsewhere\n")
    inside = tree / "a" / "config"
    with pytest.raises(RepositoryError, match="inside the Git work tree") as caught:
        create_keys(inside)
    assert "COREMLOPS_CONFIG" in caught.value.hint
    assert not inside.exists()
    link = tmp_path / "link"
    link.symlink_to(tree)
    with pytest.raises(RepositoryError, match="inside the Git work tree"):
        create_keys(link / "config")


def test_keys_that_moved_into_a_work_tree_are_not_used(tmp_path: Path) -> None:
    keys = create_keys(tmp_path / "config")
    (tmp_path / ".git").mkdir()
    with pytest.raises(RepositoryError, match="inside the Git work tree"):
        KeyFolder(tmp_path / "config", keys.repository_id).signers("staging")


@pytest.mark.parametrize(
    ("name", "mode"),
    [("online/staging.pem", 0o640), ("online/staging.pem", 0o604), ("online", 0o750), ("", 0o711)],
)
def test_a_key_that_others_can_read_is_refused_with_the_command_that_helps(
    tmp_path: Path, name: str, mode: int
) -> None:
    keys = create_keys(tmp_path)
    path = keys.folder / name
    path.chmod(mode)
    fresh = KeyFolder(tmp_path, keys.repository_id)
    with pytest.raises(RepositoryError, match=f"mode {mode:04o}") as caught:
        fresh.signers("staging")
    assert caught.value.hint == f"chmod {'600' if path.is_file() else '700'} {path}"


def test_no_key_in_representations_errors_or_the_repository(tmp_path: Path) -> None:
    repository = Repository.init(tmp_path / "repository", config=tmp_path / "config")
    pem = repository.keys.path("staging").read_text()
    secret = pem.splitlines()[1]
    assert secret not in repr(repository) + repr(repository.keys) + repr(
        repository.keys.signers("staging")[0]
    )
    repository.keys.path("staging").write_text(pem.replace("PRIVATE KEY", "SECRET KEY"))
    with pytest.raises(RepositoryError, match=r"no Ed25519 private key") as caught:
        KeyFolder(tmp_path / "config", repository.keys.repository_id).signers("staging")
    assert secret not in str(caught.value)
    for path in repository.folder.rglob("*"):
        assert path.is_dir() or b"PRIVATE" not in path.read_bytes()


@pytest.mark.parametrize("identity", ["../../../etc", "", "0123456789abcdeg", "0" * 17])
def test_an_id_cannot_lead_out_of_the_key_folder(tmp_path: Path, identity: str) -> None:
    with pytest.raises(RepositoryError, match="a repository's id is 16"):
        KeyFolder(tmp_path, identity)


def test_a_missing_key_says_whose_it_is(tmp_path: Path) -> None:
    keys = create_keys(tmp_path)
    shutil.rmtree(keys.folder / "release")
    with pytest.raises(RepositoryError, match="the release key of repository") as caught:
        KeyFolder(tmp_path, keys.repository_id).signers("release")
    assert "whoever decides about releases" in caught.value.hint


def test_the_configuration_folder_follows_the_environment(tmp_path: Path) -> None:
    both = {"COREMLOPS_CONFIG": "/a", "XDG_CONFIG_HOME": "/b"}
    assert config_folder(both) == Path("/a")
    assert config_folder({"XDG_CONFIG_HOME": "/b"}) == Path("/b/coremlops")
    assert config_folder({}) == Path.home() / ".config" / "coremlops"


def test_a_link_into_a_work_tree_is_seen_through(tmp_path: Path) -> None:
    """`<config>/keys` may be a link of the user's: what counts is where the keys are."""
    tree = tmp_path / "tree"
    (tree / ".git").mkdir(parents=True)
    (tree / "keys").mkdir(mode=0o700)
    config = tmp_path / "config"
    config.mkdir()
    (config / "keys").symlink_to(tree / "keys")
    with pytest.raises(RepositoryError, match="inside the Git work tree"):
        create_keys(config)
    assert not list((tree / "keys").iterdir())
    (config / "keys").unlink()
    made = create_keys(config)
    (config / "keys").rename(tree / "moved")
    (config / "keys").symlink_to(tree / "moved")
    with pytest.raises(RepositoryError, match="inside the Git work tree"):
        KeyFolder(config, made.repository_id).signers("release")


def test_a_holder_s_folder_that_is_closed_to_us_is_a_key_that_is_not_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = create_keys(tmp_path)
    real = Path.stat

    def closed(path: Path, **options: bool) -> os.stat_result:
        if path.parent.name == "root":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", closed)
    assert keys.present() == ("release", "halt", "staging", "snapshot", "timestamp")


def test_keys_that_cannot_all_be_written_leave_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def full(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) == 5:  # each file, then its folder, whose failure is no error
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        create_keys(tmp_path)
    assert not list((tmp_path / "keys").iterdir())
