"""A client of any TUF repository: a device's trust and transport, without its collections and models.

TUF's conformance suite drives it through `coremlops tuf-client`. The folder of metadata holds what is trusted
and nothing else: `root.json`, `timestamp.json`, `snapshot.json`, `targets.json` and delegated roles, as the
repository sent them, under their URL-quoted names.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tuf.api.exceptions import DownloadError
from tuf.api.exceptions import RepositoryError as TufError
from tuf.ngclient import Updater

from coremlops.client.trust import MAX_ROOT_BYTES, updater, words
from coremlops.client.web import Web, check_url
from coremlops.errors import UpdateError
from coremlops.files import write_atomic


def init(metadata: Path, root: Path) -> None:
    """Trust `root` from now on; the network is not asked. Raises `UpdateError`, `OSError`."""
    write_atomic(_folder(metadata) / "root.json", _read_root(root))


def refresh(metadata: Path, url: str, *, web: Web | None = None) -> None:
    """Bring all top-level metadata up to date. Raises `UpdateError`, `UsageError`, `OSError`."""
    with _updater(metadata, url, targets_url=url, web=web) as client:
        client.refresh()


def download(
    metadata: Path, url: str, names: Iterable[str], targets_url: str, folder: Path, *, web: Web | None = None
) -> tuple[Path, ...]:
    """Refresh, then fetch the targets in this order; return their files, named by the URL-quoted paths.

    A target that is there with the right length and hashes is not fetched again. Raises `UpdateError`,
    `UsageError`, `OSError`; targets before the one that failed stay.
    """
    files = []
    with _updater(metadata, url, targets_url=targets_url, targets=_folder(folder), web=web) as client:
        client.refresh()
        for name in names:
            info = client.get_targetinfo(name)
            if info is None:
                raise UpdateError(f"the repository has no {name}")
            files.append(Path(client.find_cached_target(info) or client.download_target(info)))
    return tuple(files)


@contextmanager
def _updater(
    metadata: Path, url: str, *, targets_url: str, targets: Path | None = None, web: Web | None
) -> Iterator[Updater]:
    """An updater; afterwards `root.json` is a plain file again, whatever happened."""
    urls = check_url(url), check_url(targets_url)
    root = metadata / "root.json"
    data = _read_root(root)
    try:
        yield updater(metadata, urls[0], data, web or Web(), targets_url=urls[1], targets=targets)
    except (TufError, DownloadError) as error:
        raise UpdateError(words(error)) from None
    finally:
        # python-tuf keeps every root in `root_history/` and makes `root.json` a link into it.
        if root.is_symlink():
            write_atomic(root, root.read_bytes())
        shutil.rmtree(metadata / "root_history", ignore_errors=True)


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _read_root(path: Path) -> bytes:
    with path.open("rb") as file:
        data = file.read(MAX_ROOT_BYTES + 1)
    if len(data) > MAX_ROOT_BYTES:
        raise UpdateError(f"{path} has more than {MAX_ROOT_BYTES} bytes, no root has")
    return data
