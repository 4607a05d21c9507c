"""The private keys of a signed repository: where they live, who may read them, and signing with them.

Keys stand in `<config>/keys/<repository id>/{root,release,halt,online}/<name>.pem`, folders 0700 and files
0600 from the moment that they exist. `root/` (root, targets) belongs offline, `release/` to whoever decides
about releases, `halt/` to whoever, or whatever, may stop one, `online/` (staging, snapshot, timestamp) to the
machine that publishes. A role with several keys has `<name>-<anything>.pem` beside the first. A `.uri` file
in place of a `.pem` names a key in a device or a service; and a machine that keeps no files may have a PEM in
`COREMLOPS_KEY_<NAME>`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from securesystemslib.signer import CryptoSigner, Signer

from coremlops.errors import RepositoryError
from coremlops.files import write_atomic
from coremlops.release.privacy import refuse_shared, refuse_work_tree
from coremlops.release.signers import MAX_KEY_BYTES, environment_signers, pem_signer, uri_document, uri_signer

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
MOST_KEYS = 16
_ID = re.compile(r"[0-9a-f]{16}")


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
        folder = self.path(name).parent
        found = [folder / f"{name}{suffix}" for suffix in (".pem", ".uri")]
        try:
            for suffix in (".pem", ".uri"):
                found += sorted(folder.glob(f"{name}-*{suffix}"))
            return tuple(each for each in found if each.is_file())
        except OSError:  # A holder's folder may be closed to us: not our key then.
            return ()

    def keyids(self, name: str) -> tuple[str, ...]:
        """The ids of a key's signers here; none where one cannot be used, which `signers` explains."""
        try:
            return tuple(each.public_key.keyid for each in self.signers(name))
        except (RepositoryError, OSError):
            return ()

    def present(self) -> tuple[str, ...]:
        """The names of the keys that are here."""
        return tuple(name for name in HOLDERS if self.paths(name) or environment_signers(name))

    def signers(self, name: str) -> tuple[Signer, ...]:
        """The signers of one key, read once: the environment's, then those in files.

        Raises `RepositoryError` when none is here (saying whose it is), or a file lies in a Git work tree or
        can be read by others. No message holds a byte of a key.
        """
        if name not in self._signers:
            found = list(environment_signers(name))
            paths = self.paths(name)
            if paths or not found:
                refuse_work_tree(self.path(name))
                found += [self._read(name, path) for path in paths or (self.path(name),)]
            self._signers[name] = tuple(found)
        return self._signers[name]

    def here(self, name: str) -> tuple[Signer, ...]:
        """The signers of one key, none when this machine has none. Raises as `signers` does otherwise."""
        if name in self._signers or self.paths(name) or environment_signers(name):
            return self.signers(name)
        return ()

    def add(self, name: str, uri: str | None = None) -> tuple[Signer, Path]:
        """A new key of this name and its file on the disk: made here, or reached by `uri`. Raises
        `RepositoryError`.

        Nobody trusts it before metadata names it.
        """
        if environment_signers(name):
            raise RepositoryError(
                f"the {name} key is in the environment, where no new one can be put",
                hint="run this where keys lie in files, and set the environment to the new one",
            )
        refuse_work_tree(self.path(name))
        self.config.mkdir(parents=True, exist_ok=True)
        for folder in (self.config / "keys", self.folder, self.path(name).parent):
            _private_folder(folder)
        signer, data, suffix = _new(name, uri)
        path = self.path(name).with_name(f"{name}-{signer.public_key.keyid[:8]}{suffix}")
        _write_new(path, data)
        self.forget(name)
        return signer, path

    def forget(self, name: str) -> None:
        """Read the files of a name anew when they are asked for next."""
        self._signers.pop(name, None)

    def retire(self, name: str, keyids: Collection[str]) -> tuple[Path, ...]:
        """Move the files of these keys to `<config>/keys/<repository id>/retired/`; where they are now."""
        moved = []
        for path in self.paths(name):
            keyid = self._read(name, path).public_key.keyid
            if keyid in keyids:  # Not one that waits for its first metadata.
                aside = self.folder / "retired"
                _private_folder(aside)
                moved.append(aside / f"{name}-{keyid[:16]}{path.suffix}")
                os.replace(path, moved[-1])  # noqa: PTH105 - as everywhere
        self._signers.pop(name, None)
        return tuple(moved)

    def _read(self, name: str, path: Path) -> Signer:
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
            refuse_shared(folder, 0o700)
        refuse_shared(path, 0o600)
        with path.open("rb") as file:
            data = file.read(MAX_KEY_BYTES)
        return uri_signer(data, name, str(path)) if path.suffix == ".uri" else pem_signer(data, str(path))


@dataclass(frozen=True, slots=True)
class KeyPlan:
    """The keys of a new repository, by name.

    `thresholds`: how many must sign, 1 unless said. `counts`: how many are made, as many as must sign unless
    said. `uris`: those that a device or a service has, which count too.
    Raises `RepositoryError` for what cannot be.
    """

    thresholds: Mapping[str, int] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    uris: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.thresholds, *self.counts, *self.uris):
            if name not in HOLDERS:
                raise RepositoryError(f"no key is called {name!r:.40}; they are {', '.join(HOLDERS)}")
        for name in HOLDERS:
            need, have = self.thresholds.get(name, 1), len(self.uris.get(name, ())) + self.made(name)
            if not 1 <= need <= have <= MOST_KEYS:
                raise RepositoryError(
                    f"{need} of {have} {name} keys cannot sign; at most {MOST_KEYS} are kept"
                )
        for name in ("snapshot", "timestamp"):
            if self.thresholds.get(name, 1) > 1:
                raise RepositoryError(f"{name} is signed by one machine alone: its threshold is 1")

    def made(self, name: str) -> int:
        """How many keys of a name are made here."""
        reached = len(self.uris.get(name, ()))
        return self.counts.get(name, max(self.thresholds.get(name, 1) - reached, 0 if reached else 1))


def create_keys(config: Path, plan: KeyPlan | None = None) -> KeyFolder:
    """New keys for a new repository, whose id begins the root key's own id.

    Raises `RepositoryError` when `config` lies in a Git work tree or a folder of ours can be read by others.
    """
    refuse_work_tree(config / "keys")
    plan = plan or KeyPlan()
    made: dict[str, list[tuple[Signer, bytes, str]]] = {}
    for name in HOLDERS:
        made[name] = [_new(name, uri) for uri in plan.uris.get(name, ())]
        made[name] += [_new(name) for _ in range(plan.made(name))]
    held = {name: tuple(signer for signer, _, _ in each) for name, each in made.items()}
    keys = KeyFolder(config, held["root"][0].public_key.keyid[:16], held)
    config.mkdir(parents=True, exist_ok=True)
    _private_folder(config / "keys")
    _private_folder(keys.folder)
    try:
        for holder in dict.fromkeys(HOLDERS.values()):
            _private_folder(keys.folder / holder)
        for name, each in made.items():
            for number, (_, data, suffix) in enumerate(each, start=1):
                stem = name if number == 1 else f"{name}-{number}"
                _write_new(keys.path(name).with_name(f"{stem}{suffix}"), data)
    except BaseException:
        shutil.rmtree(keys.folder, ignore_errors=True)  # Half a set of keys is good for nothing.
        raise
    return keys


def _new(name: str, uri: str | None = None) -> tuple[Signer, bytes, str]:
    """A signer, its file's content and the suffix of that file's name."""
    if uri is None:
        signer = CryptoSigner.generate_ed25519()
        return signer, signer.private_bytes, ".pem"
    data = uri_document(uri, name)
    return uri_signer(data, name, uri), data, ".uri"


def _write_new(path: Path, data: bytes) -> None:
    """Whole or not at all: half a key would stop every command that looks for one."""
    if os.path.lexists(path):
        raise RepositoryError(f"{path} exists already")
    write_atomic(path, data, mode=0o600)


def _private_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        refuse_shared(folder, 0o700)
