"""What signatures let a device believe: python-tuf's client, and its refusals in our words."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    UnsignedMetadataError,
)
from tuf.api.exceptions import RepositoryError as TufError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.api.serialization import DeserializationError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from coremlops.client.download import TruncatedError
from coremlops.collection import (
    MAX_INDEX_BYTES,
    MAX_MANIFEST_BYTES,
    Halts,
    Index,
    check_collection,
    halt_path,
    index_path,
    member_path,
)
from coremlops.errors import UpdateError
from coremlops.files import clear_unless_file, make_folder, read_regular

MAX_ROOT_BYTES = 512_000


def check_root(data: bytes) -> None:
    """Raise `UpdateError` unless `data` is a root that its own keys signed."""
    if len(data) > MAX_ROOT_BYTES:
        raise UpdateError(f"the root has {len(data)} bytes, at most {MAX_ROOT_BYTES} are read")
    try:
        metadata = Metadata[Root].from_bytes(data)
        if not isinstance(metadata.signed, Root):
            raise UpdateError(
                f"expected a root, got {metadata.signed.type}", hint="--root metadata/1.root.json"
            )
        metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except (DeserializationError, TufError, ValueError) as error:
        raise UpdateError(f"the root is no signed TUF root: {error!s:.200}") from None


def _embedded_root(path: Path) -> bytes:
    try:
        data = read_regular(path, MAX_ROOT_BYTES + 1)
        check_root(data)
    except (OSError, UpdateError) as error:
        raise UpdateError(
            f"{path}, which came with the app, is damaged: {error}; remove it and state.json, and update with"
            " --url and --root: models that are here are not fetched again"
        ) from None
    return data


def words(error: TufError | DownloadError) -> str:
    """The reason for a refusal: what kind of attack or accident it looks like, then the details."""
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (ExpiredMetadataError, "expired metadata"),
        (BadVersionNumberError, "replayed or mixed metadata"),
        (UnsignedMetadataError, "tampered metadata"),
        (LengthOrHashMismatchError, "tampered file"),
        (DownloadLengthMismatchError, "endless data"),
        (TruncatedError, "truncated"),
        (DownloadError, "the repository cannot be reached"),
    )
    kind = next((word for each, word in kinds if isinstance(error, each)), "bad metadata")
    reason = f"{kind}: {str(error) or type(error).__name__:.300}"
    if isinstance(error, ExpiredMetadataError):  # a clock that is far off is the likelier cause on a device
        return f"{reason}; the clock here says {datetime.now(UTC):%Y-%m-%d}"
    return reason


class _Updater(Updater):
    """python-tuf's client, in which a role is trusted for the delegator that led to it and for no other.

    tuf 7.0.1 remembers every (delegator, role) that it verified, yet one file a role: after a lookup through
    another delegator to a role of the same name, the first one's lookups would read the second one's file.
    """

    def _load_targets(self, role: str, parent_role: str) -> Targets:
        targets = super()._load_targets(role, parent_role)
        verified = self._trusted_set._trusted_delegations
        verified -= {pair for pair in verified if pair[1] == role and pair[0] != parent_role}
        return targets


def updater(
    metadata: Path,
    url: str,
    root: bytes,
    web: FetcherInterface,
    *,
    targets_url: str,
    targets: Path | None = None,
) -> Updater:
    """TUF's client with a device's limits and transport; nothing is asked of the network yet.

    `metadata`: the folder of what is trusted. `url`, `targets_url`: where metadata and targets are.
    `root`: trusted from the start. `targets`: where targets go that are given no path of their own.
    Raises tuf's `RepositoryError` for a root that its own keys did not sign, `OSError`.
    """
    return _Updater(
        str(metadata),
        url,
        None if targets is None else str(targets),
        targets_url,
        web,
        UpdaterConfig(max_root_rotations=64, max_delegations=8),
        bootstrap=root,
    )


@dataclass(frozen=True, slots=True)
class Trusted:
    """A refreshed view of the repository; every question is answered from signed metadata.

    Raises tuf's `RepositoryError` and `DownloadError`, and our `UpdateError`.
    """

    updater: Updater
    folder: Path
    url: str

    @staticmethod
    def refresh(folder: Path, url: str, web: FetcherInterface) -> Trusted:
        """Start from the embedded root in `folder` and bring all top-level metadata up to date."""
        metadata = folder / "metadata"
        make_folder(metadata)
        make_folder(metadata / "root_history")
        for path in (*metadata.glob("*.json"), *metadata.glob("root_history/*.json")):
            if path.name != "root.json" or not path.is_symlink():  # python-tuf's link to the newest root
                clear_unless_file(path)
        root = _embedded_root(folder / "root.json")
        client = updater(metadata, f"{url}/metadata/", root, web, targets_url=f"{url}/targets/")
        client.refresh()
        return Trusted(client, folder, url)

    def collections(self) -> tuple[str, ...]:
        """The collections that the repository's `targets` role delegates, in its order."""
        # The updater wrote this file when it had verified it, and offers no other way to read it.
        targets = Metadata[Targets].from_file(str(self.folder / "metadata" / "targets.json")).signed
        roles = (targets.delegations.roles if targets.delegations is not None else None) or {}
        names = (role.removesuffix("-members") for role in roles if role.endswith("-members"))
        return tuple(check_collection(name) for name in names)

    def index(self, collection: str, channel: str) -> Index:
        """What the channel offers: kept beside the state, fetched only when it changed."""
        data = self._small(index_path(collection, channel), "index.json")
        return Index.from_bytes(data, collection=collection, channel=channel)

    def halts(self, collection: str, channel: str) -> Halts:
        """What is halted in the channel: kept like the index."""
        data = self._small(halt_path(collection, channel), "halt.json")
        return Halts.from_bytes(data, collection=collection, channel=channel)

    def _small(self, path: str, name: str) -> bytes:
        info = self.updater.get_targetinfo(path)
        if info is None:
            raise UpdateError(f"the repository has no {path}")
        if info.length > MAX_INDEX_BYTES:
            raise UpdateError(f"{path} has {info.length} bytes, at most {MAX_INDEX_BYTES} are read")
        clear_unless_file(self.folder / name)
        file = str(self.folder / name)
        if self.updater.find_cached_target(info, file) is None:
            self.updater.download_target(info, file)
        return Path(file).read_bytes()

    def manifest_length(self, collection: str, sha256: str) -> int:
        """The signed length of a manifest."""
        length = self.member_length(collection, sha256)
        if length > MAX_MANIFEST_BYTES:
            raise UpdateError(f"the manifest has {length} bytes, at most {MAX_MANIFEST_BYTES} are read")
        return length

    def member_length(self, collection: str, sha256: str) -> int:
        """The signed length of a member."""
        info = self.updater.get_targetinfo(member_path(collection, sha256))
        if info is None or info.hashes.get("sha256") != sha256:
            raise UpdateError(f"member {sha256} is not signed by the collection's members role")
        return info.length

    def member_url(self, collection: str, sha256: str) -> str:
        """Where a member's file is (consistent snapshots: its hash stands before its name)."""
        return f"{self.url}/targets/{collection}/members/{sha256}.{sha256}"
