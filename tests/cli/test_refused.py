"""What makes a publisher's command fail: a clear error, nothing published, the old release stands."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any, Self

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Targets

from coremlops.cli import main
from coremlops.release import Repository
from tests.release.models import write_model, write_pictures

NAMES = ("root", "targets", "release", "halt", "staging", "snapshot", "timestamp")


class Publisher:
    """A repository with version 1 in both channels, and a model to publish next."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.folder, self.repository, self.config = folder, folder / "repository", folder / "config"
        for name, gain in (("one", 0.02), ("two", 0.03)):
            write_model(folder / f"{name}.mlpackage", gain=gain, extra_bytes=500)
        write_pictures(folder / "pictures")
        self.err = ""
        self("repo", "init", "repository")
        self("release", "publish", "one.mlpackage", "--golden", "pictures")
        self("release", "promote")
        self.keys = next((self.config / "keys").iterdir())
        self.before = self.files()

    def __call__(self, *words: str, code: int = 0) -> str:
        self._capsys.readouterr()
        got = main(list(words))
        out, self.err = self._capsys.readouterr()
        assert got == code, (out, self.err)
        return out

    def files(self) -> dict[str, bytes]:
        """What devices are led to, and the log."""
        found = [*(self.repository / "metadata").iterdir(), self.repository / "audit.jsonl"]
        return {path.name: path.read_bytes() for path in found}

    def refuses(self, *said: str, code: int = 1) -> None:
        """Neither publishes nor promotes."""
        self("release", "publish", "two.mlpackage", "--golden", "pictures", code=code)
        for each in said:
            assert each in self.err, self.err
        assert "Traceback" not in self.err
        assert self.files() == self.before


@pytest.fixture
def publisher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Publisher:
    monkeypatch.setenv("COREMLOPS_CONFIG", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    return Publisher(tmp_path, capsys)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Move the clock of this machine."""
    import coremlops.release.expiry as module

    def move(**by: float) -> None:
        class Moved(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> Self:
                return super().now(tz) + timedelta(**by)

        monkeypatch.setattr(module, "datetime", Moved)

    return move


@pytest.mark.parametrize("name", ["staging", "release"])
def test_a_missing_key(publisher: Publisher, name: str) -> None:
    holder = "release" if name == "release" else "online"
    (publisher.keys / holder / f"{name}.pem").unlink()
    words: tuple[str, ...] = ("release", "publish", "two.mlpackage", "--golden", "pictures")
    if name == "release":
        publisher("release", "publish", "two.mlpackage", "--golden", "pictures")
        publisher.before, words = publisher.files(), ("release", "promote")
    publisher(*words, code=1)
    assert f"error: the {name} key of repository {publisher.keys.name} is not here" in publisher.err
    assert "hint: it belongs to" in publisher.err
    assert publisher.files() == publisher.before


def test_a_missing_online_key_leaves_the_change_pending(publisher: Publisher) -> None:
    (publisher.keys / "online" / "timestamp.pem").unlink()
    publisher.refuses("left pending as", "timestamp has 0 of 1 signatures", code=3)


def test_an_expired_root(publisher: Publisher, later: Callable[..., None]) -> None:
    later(days=366)
    publisher.refuses("root expired at", "where the root key is: coremlops repo renew --role root")
    publisher("repo", "status", code=3)
    assert "warning: root expired, and devices take nothing new from it" in publisher.err
    publisher("repo", "renew", "--role", "root")
    publisher("repo", "renew")
    publisher("release", "publish", "two.mlpackage", "--golden", "pictures")
    publisher("repo", "status")


def test_an_expired_role(publisher: Publisher, later: Callable[..., None]) -> None:
    later(days=91)
    publisher.refuses(
        "faces-halt expired at", "where the halt key is: coremlops repo renew --role faces-halt"
    )
    publisher("repo", "renew")
    publisher("release", "publish", "two.mlpackage", "--golden", "pictures")


def test_a_clock_that_is_behind_what_is_signed(publisher: Publisher, later: Callable[..., None]) -> None:
    later(days=-2)
    publisher.refuses("this machine's clock says", "behind: the last change was signed at", "set the clock")
    publisher("repo", "renew", "--role", "timestamp", code=1)
    publisher("repo", "rotate", "timestamp", code=1)
    assert publisher.files() == publisher.before
    publisher("repo", "renew", "--role", "timestamp", "--clock-checked")


def test_a_clock_that_is_years_ahead(publisher: Publisher, later: Callable[..., None]) -> None:
    later(days=3 * 365)
    publisher.refuses("this machine's clock says", "far ahead, or nothing was signed for long")
    publisher("repo", "renew", code=1)
    assert publisher.files() == publisher.before
    publisher("repo", "renew", "--role", "root", "--clock-checked")
    publisher("repo", "renew")
    publisher("release", "publish", "two.mlpackage", "--golden", "pictures")


def test_a_repository_of_one_model_a_collection(publisher: Publisher) -> None:
    """An older coremlops named the collections there; every command says so, and none adds to it."""
    path = publisher.repository / "coremlops.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"collections": ["faces"]}))
    publisher.before = publisher.files()
    publisher.refuses("is of an older coremlops, whose collections hold one model each", "begin anew")
    for words in ("status", "verify", "renew", "gc", "add shop", "rotate release", "sign"):
        publisher("repo", *words.split(), code=1)
        assert "is of an older coremlops" in publisher.err
    assert publisher.files() == publisher.before


@pytest.mark.parametrize("format_", [1, "one", None])
def test_a_repository_of_a_newer_format(publisher: Publisher, format_: Any) -> None:
    path = publisher.repository / "coremlops.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": format_}))
    publisher.refuses("coremlops.json: format 0 expected, got", "a newer coremlops")
    publisher("repo", "status", code=1)


def test_keys_inside_a_git_work_tree(publisher: Publisher) -> None:
    (publisher.config / ".git").mkdir()
    publisher.refuses("keys would lie inside the Git work tree", "set COREMLOPS_CONFIG")
    publisher("repo", "rotate", "timestamp", code=1)
    publisher("repo", "init", "other", code=1)
    assert publisher.files() == publisher.before
    assert not (publisher.folder / "other").exists()


def test_keys_in_the_environment_publish_from_a_machine_without_files(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Even inside a work tree, as on a build machine: what is in no file cannot be committed."""
    secrets = []
    for name in ("staging", "snapshot", "timestamp"):
        text = (publisher.keys / "online" / f"{name}.pem").read_text()
        secrets += text.splitlines()[1:2]
        monkeypatch.setenv(f"COREMLOPS_KEY_{name.upper()}", text.replace("\n", "\\n"))
    empty = publisher.folder / "clone"
    (empty / ".git").mkdir(parents=True)
    monkeypatch.setenv("COREMLOPS_CONFIG", str(empty / "config"))
    with caplog.at_level("DEBUG"):
        out = publisher("release", "publish", "two.mlpackage", "--golden", "pictures")
        out += publisher("repo", "status") + publisher("repo", "status", "--json")
    assert Repository.open(publisher.repository).line("staging").last_version == 2
    assert not (empty / "config").exists()
    for secret in secrets:
        assert secret not in out + caplog.text + publisher.err
        assert not any(secret.encode() in data for data in publisher.files().values())


@pytest.mark.parametrize(
    "value", ["nonsense", "-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----"]
)
def test_a_damaged_key_in_the_environment_is_named_and_not_shown(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("COREMLOPS_KEY_STAGING", value)
    publisher.refuses("COREMLOPS_KEY_STAGING is no Ed25519 private key in PEM")
    assert value.splitlines()[-1] not in publisher.err


def test_roles_that_may_name_the_same_file(publisher: Publisher) -> None:
    """A diamond: the staging key would answer for what the release key alone may name."""
    path = publisher.repository / "metadata" / "1.targets.json"
    targets: Metadata[Targets] = Metadata.from_file(str(path))
    assert targets.signed.delegations is not None
    assert targets.signed.delegations.roles is not None
    targets.signed.delegations.roles["faces-staging"].paths = ["faces/*/*"]
    signer = CryptoSigner.from_priv_key_uri(
        f"file2:{publisher.keys / 'root' / 'targets.pem'}",
        Repository.open(publisher.repository).keys.signers("targets")[0].public_key,
    )
    targets.signatures.clear()
    targets.sign(signer)
    targets.to_file(str(path))
    publisher.before = publisher.files()
    publisher.refuses(
        "targets: faces-halt (faces/halt/*) and faces-staging (faces/*/*) may name the same file"
    )


def test_the_key_of_somebody_else(publisher: Publisher) -> None:
    other = CryptoSigner.generate_ed25519()
    (publisher.keys / "online" / "staging.pem").write_bytes(other.private_bytes)
    publisher.refuses("the staging key in", "is not one that this repository trusts")


def test_a_key_that_others_may_read(publisher: Publisher) -> None:
    path = publisher.keys / "online" / "timestamp.pem"
    path.chmod(0o644)
    publisher.refuses(f"others may read {path}: mode 0644", f"chmod 600 {path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
