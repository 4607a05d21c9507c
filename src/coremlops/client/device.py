"""A device: it follows one channel of a signed repository, and always keeps a model that works."""

from __future__ import annotations

import contextlib
import platform
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError, DownloadLengthMismatchError
from tuf.api.exceptions import RepositoryError as TufError

from coremlops.client import reports
from coremlops.client.models import Models
from coremlops.client.offer import Judged, Offer, Plan, UpdateResult
from coremlops.client.offer import result as result_of
from coremlops.client.progress import Meter, Progress
from coremlops.client.starts import STARTS, Running, Starts, forgive, start
from coremlops.client.state import Check, State, short
from coremlops.client.stopping import CancelledError, Stoppable
from coremlops.client.trust import MAX_ROOT_BYTES, Trusted, check_root, words
from coremlops.client.web import Limits, Web, check_url
from coremlops.collection import Profile, check_channel, check_collection, document
from coremlops.errors import InputError, RepositoryError, UpdateError, UsageError
from coremlops.files import exclusive_lock, write_atomic

MAX_PROFILE_BYTES = 64_000
_SYSTEMS = {"linux": "Linux", "darwin": "macOS"}


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
        collection: str | None,
        channel: str,
        root: bytes | Path | str,
        *,
        limits: Limits | None = None,
    ) -> Device:
        """A device that follows `collection`/`channel` at `url`, and trusts `root` from the start.

        `collection`: None means the repository's only one, which the network must then tell. On a folder that
        is this device already only the URL may change, and what it follows while it never had a model.
        Raises `UpdateError`, `UsageError`.
        """
        device = Device(folder, limits=limits)
        url = check_url(url)
        check_channel(channel)
        data = root if isinstance(root, bytes) else _read_root(Path(root))
        check_root(data)
        try:
            device.folder.mkdir(parents=True, exist_ok=True)
            with device._locked():
                if device._state_file.exists():
                    device._move(url, collection, channel, data)
                    return device
                write_atomic(device.folder / "root.json", data)
                name = device._only_collection(url) if collection is None else check_collection(collection)
                State(url, name, channel).save(device._state_file)
        except OSError as error:
            raise UpdateError(f"{device.folder} cannot be written: {error.strerror}") from None
        return device

    def status(self) -> State:
        """Where the device looks, what it runs and ran, what it refused, and how the last check ended."""
        return State.load(self._state_file)

    def profile(self) -> Profile:
        """What this device says of itself to the rules: `profile.json` in its folder over what the system
        knows.

        The install ID is the state's. Raises `UpdateError` for a profile that is damaged.
        """
        path = self.folder / "profile.json"
        try:
            data = path.read_bytes() if path.exists() else b"{}"
            found = Profile.from_json(document.read(data, "profile", most_bytes=MAX_PROFILE_BYTES))
        except (OSError, RepositoryError) as error:
            raise UpdateError(f"{path} is damaged: {error}") from None
        if not found.os:
            system = _SYSTEMS.get(sys.platform, "")
            found = replace(found, os=system, os_version=_os_version(), device_class="other")
        return replace(found, install_id=self.status().install_id)

    def model(self) -> Path:
        """The active model. Raises `UpdateError` when there is none yet."""
        state = self.status()
        path = self._models.model(state.active.model) if state.active is not None else None
        if path is None:
            raise UpdateError(f"{self.folder} has no model yet", hint="coremlops device update --device DIR")
        return path

    def start(self) -> Running:
        """Which model the app is to load now; counts a start, until `started` confirms it. Needs no network.

        After three starts in a row that were not confirmed, and when its files are gone, the device returns
        to the model before, or to the app's own, and remembers why. Raises `UpdateError`.
        """
        return start(self.folder, self._models, self.status(), self.profile())

    def started(self) -> None:
        """The model that was started has answered: its count of starts begins anew."""
        with contextlib.suppress(OSError):  # a folder that takes nothing has no count either
            (self.folder / STARTS).unlink(missing_ok=True)

    def failed(self, reason: str) -> None:
        """The model that was started could not be loaded, or did not answer; `reason` is remembered."""
        active = self.status().active
        if active is not None:
            with contextlib.suppress(OSError):
                replace(Starts.load(self.folder, active.manifest), reason=reason).save(self.folder)

    @contextlib.contextmanager
    def running(self) -> Iterator[Running]:
        """`start`, then `started`; `failed` when the block raises.

        Ctrl-C, and what is not installed here, are no fault of the model: that start is not counted.
        """
        found = self.start()
        try:
            yield found
        except (KeyboardInterrupt, UsageError):
            forgive(self.folder)
            raise
        except Exception as error:
            self.failed(f"{type(error).__name__}: {error}")
            raise
        self.started()

    def predict(self, inputs: Mapping[str, Any], *, image_option: str = "metadata") -> dict[str, Any]:
        """Run the active model, which is started first. Images are prepared as its metadata says, unless
        `image_option` differs; states begin as zeros in each call. Raises `UpdateError` where there is none.
        """
        from coremlops import runtime

        given = dict(inputs)
        if self._loaded is not None and self._loaded[0] == str(self.model()):
            return _answer(self._loaded[1], given, image_option)
        with self.running() as found:
            path = found.path
            if path is None:
                self.model()  # which says that there is none, if so
                raise UpdateError(
                    f"{self.folder} is to use the app's own model, which is not here",
                    hint="coremlops device status --device DIR says why",
                )
            loaded = runtime.load(path)
            try:
                answer = _answer(loaded, given, image_option)
            except (InputError, UsageError):
                self.started()  # the question was wrong, not the model
                raise
        self._loaded = (str(path), loaded)
        return answer

    def plan(self) -> Plan:
        """What an update would fetch, without fetching it. Raises `UpdateError`."""
        with self._locked():
            try:
                return self._offer(self.status(), Meter(None), self._web).plan()
            except (DownloadError, TufError) as error:
                raise UpdateError(words(error)) from None
            except OSError as error:
                raise UpdateError(_disk(error)) from None
            except Judged as judged:
                return Plan("refused", judged.entry.version, reason=judged.reason)

    def update(
        self, progress: Progress | None = None, *, cancelled: Callable[[], bool] | None = None
    ) -> UpdateResult:
        """Look at the channel and take its current version, if it can be trusted and answers its golden set.

        Whatever is wrong with the offer or the network, the model that was active stays active and the result
        says why. A version that was judged and refused is not fetched again. `progress` is told each step, in
        bytes. `cancelled` is asked several times a second; what has come is kept for the next update. Raises
        `UpdateError` only when this folder is no device, or another process is updating it.
        """
        web = self._web if cancelled is None else Stoppable(self._web, cancelled)
        with self._locked():
            state = self.status()
            try:
                result, state = self._offer(state, Meter(progress), web).take()
            except CancelledError:
                result = result_of("cancelled", state, "cancelled; what has come is kept")
            except Judged as judged:
                state = judged.state
                refused = result_of("refused", state, judged.reason, judged.entry)
                result = replace(refused, judgement=judged.judgement, judged=judged.judged)
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
                result = result_of("refused", state, _disk(error))
            now = datetime.now(UTC).replace(microsecond=0)
            state = replace(state, last=Check(now, result.outcome, short(result.reason)))
            with contextlib.suppress(OSError):  # A full disk must not hide why the update failed.
                state.save(self._state_file)
            reports.after_update(self.folder, state, self.profile, result)
            return result

    def _offer(self, state: State, meter: Meter, web: Web | Stoppable) -> Offer:
        return Offer(self.folder, web, state, self.profile(), datetime.now(UTC), meter)

    @property
    def _state_file(self) -> Path:
        return self.folder / "state.json"

    def _move(self, url: str, collection: str | None, channel: str, root: bytes) -> None:
        """Follow the same channel of the same repository at another URL.

        A device that never had a model has nothing to lose by another channel: a name may be put right.
        """
        state = self.status()
        collection = check_collection(collection or state.collection)
        other = (state.collection, state.channel) != (collection, channel)
        if other and state.active is not None:
            raise UpdateError(
                f"{self.folder} follows {state.collection}/{state.channel}, not {collection}/{channel}",
                hint="use another folder for another channel",
            )
        if (self.folder / "root.json").read_bytes() != root:
            raise UpdateError(
                f"{self.folder} trusts another root",
                hint="newer roots come by update; another repository needs another folder",
            )
        if other:
            replace(state, url=url, collection=collection, channel=channel).save(self._state_file)
        elif state.url != url:
            replace(state, url=url).save(self._state_file)

    def _only_collection(self, url: str) -> str:
        """The collection that the repository's signed delegations name, if there is one alone."""
        try:
            found = Trusted.refresh(self.folder, url, self._web).collections()
        except (TufError, DownloadError) as error:
            raise UpdateError(words(error), hint="check --url and --root") from None
        if len(found) != 1:
            raise UpdateError(
                f"the repository has {', '.join(found) or 'no collection'}", hint="name --collection"
            )
        return found[0]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if not self.folder.is_dir():
            raise UpdateError(f"{self.folder} is no device yet", hint="name --url and --root the first time")
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive_lock(self.folder / "lock", wait_s=0.0))
            except BlockingIOError:
                raise UpdateError(f"another process is updating {self.folder}") from None
            except OSError as error:
                raise UpdateError(f"{self.folder} cannot be written: {error.strerror}") from None
            yield


def _answer(loaded: Any, inputs: dict[str, Any], image_option: str) -> dict[str, Any]:
    state = loaded.make_state() if loaded.description.states else None
    return dict(loaded.predict(inputs, state=state, image_option=image_option))


def _disk(error: OSError) -> str:
    name = f"{error.filename}: " if error.filename else ""
    return f"the disk: {name}{error.strerror or error}"


def _os_version() -> str:
    """The system's version, as far as it is numbers."""
    found = re.match(r"\d{1,5}(\.\d{1,5}){0,3}", platform.release())
    return found[0] if found else ""


def _read_root(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_ROOT_BYTES + 1)
    except OSError as error:
        raise UpdateError(f"the root {path} cannot be read: {error.strerror}") from None
