"""The private keys of a signed repository: where they live, who may read them, and signing with them.

Keys stand in `<config>/keys/<repository id>/{root,release,halt,online}/<name>.pem`, folders 0700 and files
0600 from the moment that they exist. `root/` (root, targets) belongs offline, `release/` to whoever decides
about releases, `halt/` to whoever, or whatever, may stop one, `online/` (staging, snapshot, timestamp) to the
machine that publishes. A role with several keys has `<name>-<anything>.pem` beside the first.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Signer

from coremlops.errors import RepositoryError

# key name -> its folder
HOLDERS: Mapping[str, str] = {
    "root": "root",
    "targets": "root",
    "release": "release",
    "halt": "halt",
    "staging": "online",
    "snapshot": "online",
    "timestamp": "online",
}
_HOLDER_WORDS = {
    "root": "whoever keeps the repository's root keys (offline)",
    "release": "whoever decides about releases",
    "halt": "whoever may stop a rollout",
    "online": "the machine that publishes",
}
_ID = re.compile(r"[0-9a-f]{16}")
_MAX_KEY_BYTES = 16_384


def config_folder(environment: Mapping[str, str] | None = None) -> Path:
    """`$COREMLOPS_CONFIG`, or `$XDG_CONFIG_HOME/coremlops`, or `~/.config/coremlops`."""
    values = os.environ if environment is None else environment
    if values.get("COREMLOPS_CONFIG"):
        return Path(values["COREMLOPS_CONFIG"]).expanduser()
    if values.get("XDG_CONFIG_HOME"):
        return Path(values["XDG_CONFIG_HOME"]) / "coremlops"
    return Path.home() / ".config" / "coremlops"


@dataclass(frozen=True, slots=True)
class KeyFolder:
    """The keys of one repository that this machine may have; nothing is read before it is needed.

    `config`: our configuration folder. `repository_id`: 16 hex digits.
    """

    config: Path
    repository_id: str
    _signers: dict[str, tuple[Signer, ...]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.repository_id):
            raise RepositoryError(
                f"a repository's id is 16 of 0-9 and a-f, got {self.repository_id!r:.40}",
                hint="repository/coremlops.json is damaged",
            )

    @property
    def folder(self) -> Path:
        """`<config>/keys/<repository id>`."""
        return self.config / "keys" / self.repository_id

    def path(self, name: str) -> Path:
        """The first file of a key, whether it exists or not."""
        return self.folder / HOLDERS[name] / f"{name}.pem"

    def paths(self, name: str) -> tuple[Path, ...]:
        """All files of a key that are here."""
        first = self.path(name)
        try:
            return tuple(
                each for each in (first, *sorted(first.parent.glob(f"{name}-*.pem"))) if each.is_file()
            )
        except OSError:  # A holder's folder may be closed to us: not our key then.
            return ()

    def count(self, name: str) -> int:
        """How many files of a key are here."""
        return len(self._signers[name]) if name in self._signers else len(self.paths(name))

    def present(self) -> tuple[str, ...]:
        """The names of the keys that are here."""
        return tuple(name for name in HOLDERS if self.paths(name))

    def signers(self, name: str) -> tuple[Signer, ...]:
        """The signers of one key, read once.

        Raises `RepositoryError` when none is here (saying whose it is), or one lies in a Git work tree or can
        be read by others. No message holds a byte of a key.
        """
        if name not in self._signers:
            refuse_work_tree(self.path(name))
            self._signers[name] = tuple(
                self._read(name, path) for path in self.paths(name) or (self.path(name),)
            )
        return self._signers[name]

    def _read(self, name: str, path: Path) -> CryptoSigner:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        holder = HOLDERS[name]
        try:
            here = path.exists()
        except OSError as error:
            raise RepositoryError(f"{path} cannot be read: {error.strerror}") from None
        if not here:
            raise RepositoryError(
                f"the {name} key of repository {self.repository_id} is not here: {path}",
                hint=f"it belongs to {_HOLDER_WORDS[holder]}: run this where that key is",
            )
        for folder in (self.config / "keys", self.folder, path.parent):
            _refuse_shared(folder, 0o700)
        _refuse_shared(path, 0o600)
        data = path.read_bytes()[:_MAX_KEY_BYTES]
        try:
            key = load_pem_private_key(data, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise RepositoryError(f"{path} is no Ed25519 private key in PEM")
        return CryptoSigner(key)


def create_keys(config: Path) -> KeyFolder:
    """New keys for a new repository, whose id begins the root key's own id.

    Raises `RepositoryError` when `config` lies in a Git work tree or a folder of ours can be read by others.
    """
    refuse_work_tree(config / "keys")
    signers = {name: CryptoSigner.generate_ed25519() for name in HOLDERS}
    held: dict[str, tuple[Signer, ...]] = {name: (signer,) for name, signer in signers.items()}
    keys = KeyFolder(config, signers["root"].public_key.keyid[:16], held)
    config.mkdir(parents=True, exist_ok=True)
    _private_folder(config / "keys")
    _private_folder(keys.folder)
    try:
        for holder in dict.fromkeys(HOLDERS.values()):
            _private_folder(keys.folder / holder)
        for name, signer in signers.items():
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with os.fdopen(os.open(keys.path(name), flags, 0o600), "wb") as file:
                file.write(signer.private_bytes)
                file.flush()
                os.fsync(file.fileno())
    except BaseException:
        shutil.rmtree(keys.folder, ignore_errors=True)  # Half a set of keys is good for nothing.
        raise
    return keys


def refuse_work_tree(folder: Path) -> None:
    """Raise `RepositoryError` when a folder lies inside a Git work tree: keys there get committed one day.

    Links are followed first: what counts is where the bytes are.
    """
    resolved = folder.resolve()
    for above in (resolved, *resolved.parents):
        if (above / ".git").exists():
            raise RepositoryError(
                f"keys would lie inside the Git work tree {above}: {folder}",
                hint="set COREMLOPS_CONFIG to a folder outside any work tree",
            )


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        _refuse_shared(folder, 0o700)


def _refuse_shared(path: Path, mode: int) -> None:
    status = path.stat()
    if stat.S_IMODE(status.st_mode) & 0o077:
        raise RepositoryError(
            f"others may read {path}: mode {stat.S_IMODE(status.st_mode):04o}, expected {mode:04o}",
            hint=f"chmod {mode:o} {path}",
        )
    if status.st_uid not in (os.geteuid(), 0):
        raise RepositoryError(f"{path} belongs to another user (uid {status.st_uid})")
