"""A device: it follows one channel of a signed repository, and always keeps a model that works."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, DownloadLengthMismatchError
from tuf.api.exceptions import RepositoryError as TufError

from coremlops.client.models import Models
from coremlops.client.offer import Judged, Offer, Progress, UpdateResult
from coremlops.client.offer import result as result_of
from coremlops.client.state import MAX_REASON, Check, State
from coremlops.client.trust import MAX_ROOT_BYTES, check_root, words
from coremlops.client.web import Limits, Web, check_url
from coremlops.collection import check_channel, check_collection
from coremlops.errors import RepositoryError, UpdateError
from coremlops.files import exclusive_lock, write_atomic


class Device:
    """A device's folder.

    >>> device = Device.install(Path("phone"), "https://models.example/repository", "faces", "staging",
    ...                         Path("root.json"))                                  # doctest: +SKIP
    >>> device.update().version                                                     # doctest: +SKIP
    2
    >>> device.predict({"image": Image.open("photo.jpg")})["label"]                 # doctest: +SKIP
    'ada'
    """

    def __init__(self, folder: Path | str, *, limits: Limits | None = None) -> None:
        self.folder = Path(folder).absolute()
        self._web = Web(limits)
        self._models = Models(self.folder / "models")
        self._loaded: tuple[str, Any] | None = None

    @staticmethod
    def install(
        folder: Path | str,
        url: str,
        collection: str,
        channel: str,
        root: bytes | Path,
        *,
        limits: Limits | None = None,
    ) -> Device:
        """A device that follows `collection`/`channel` at `url`, and trusts `root` from the start.

        On a folder that is this device already only the URL may change. Raises `UpdateError`, `UsageError`.
        """
        device = Device(folder, limits=limits)
        url = check_url(url)
        check_collection(collection)
        check_channel(channel)
        data = root if isinstance(root, bytes) else _read_root(root)
        check_root(data)
        device.folder.mkdir(parents=True, exist_ok=True)
        with device._locked():
            if (device.folder / "state.json").exists():
                state = device.status()
                if (state.collection, state.channel) != (collection, channel):
                    raise UpdateError(
                        f"{device.folder} follows {state.collection}/{state.channel}, "
                        f"not {collection}/{channel}",
                        hint="use another folder for another channel",
                    )
                if (device.folder / "root.json").read_bytes() != data:
                    raise UpdateError(
                        f"{device.folder} trusts another root",
                        hint="newer roots come by update; another repository needs another folder",
                    )
                if state.url != url:
                    replace(state, url=url).save(device.folder / "state.json")
                return device
            for name in ("metadata", "downloads", "models"):
                (device.folder / name).mkdir(exist_ok=True)
            write_atomic(device.folder / "root.json", data)
            State(url, collection, channel).save(device.folder / "state.json")
        return device

    def status(self) -> State:
        """Where the device looks, what it runs and ran, what it refused, and how the last check ended."""
        return State.load(self.folder / "state.json")

    def model(self) -> Path:
        """The active model. Raises `UpdateError` when there is none yet."""
        state = self.status()
        path = self._models.model(state.active.model) if state.active is not None else None
        if path is None:
            raise UpdateError(f"{self.folder} has no model yet", hint="coremlops device update --device DIR")
        return path

    def predict(self, inputs: Mapping[str, Any], *, image_option: str = "metadata") -> dict[str, Any]:
        """Run the active model. Images are prepared as its metadata says, unless `image_option` differs."""
        from coremlops import runtime

        path = self.model()
        if self._loaded is None or self._loaded[0] != str(path):
            self._loaded = (str(path), runtime.load(path))
        result: dict[str, Any] = dict(self._loaded[1].predict(dict(inputs), image_option=image_option))
        return result

    def update(self, progress: Progress | None = None) -> UpdateResult:
        """Look at the channel and take its current version, if it can be trusted and answers its golden set.

        Whatever is wrong with the offer or the network, the model that was active stays active and the result
        says why. A version that was judged and refused is not fetched again. `progress` gets lines to show.
        Raises `UpdateError` only when this folder is no device, or another process is updating it.
        """
        with self._locked():
            state = self.status()
            try:
                result, state = Offer(self.folder, self._web, state, progress or (lambda line: None)).take()
            except Judged as judged:
                state = judged.state
                result = result_of("refused", state, judged.reason, judged.entry)
            except DownloadLengthMismatchError as error:
                result = result_of("refused", state, words(error))
            except DownloadError as error:
                result = result_of("offline", state, words(error))
            except TufError as error:
                result = result_of("refused", state, words(error))
            except (UpdateError, RepositoryError) as error:
                result = result_of("refused", state, error.message)
            except MemoryError:
                result = result_of("refused", state, "not enough memory to check the model")
            except OSError as error:
                result = result_of("refused", state, f"the disk: {error.strerror or error}")
            now = datetime.now(UTC).replace(microsecond=0)
            state = replace(state, last=Check(now, result.outcome, result.reason[:MAX_REASON]))
            state.save(self.folder / "state.json")
            return result

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if not self.folder.is_dir():
            raise UpdateError(f"{self.folder} is no device yet", hint="name --url and --root the first time")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive_lock(self.folder / "lock", wait_s=0.0))
            except BlockingIOError:
                raise UpdateError(f"another process is updating {self.folder}") from None
            yield


def _read_root(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise UpdateError(f"the root {path} cannot be read: {error.strerror}") from None
