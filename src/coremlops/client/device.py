"""A device: it follows one channel of a signed repository, and always keeps models that work."""

from __future__ import annotations

import contextlib
import platform
import re
import secrets
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tuf.api.exceptions import DownloadError
from tuf.api.exceptions import RepositoryError as TufError

from coremlops.client import reports
from coremlops.client.models import Models
from coremlops.client.offer import Offer
from coremlops.client.progress import Meter, Progress
from coremlops.client.results import Plan, UpdateResult, ended
from coremlops.client.slot import Slot
from coremlops.client.starts import Running, Starts, forgive, start, starts_file
from coremlops.client.state import Check, State, short
from coremlops.client.stopping import Stoppable
from coremlops.client.trust import MAX_ROOT_BYTES, Trusted, check_root, words
from coremlops.client.web import Limits, Web, check_url
from coremlops.collection import Profile, check_channel, check_collection, check_name, document
from coremlops.errors import InputError, RepositoryError, UpdateError, UsageError
from coremlops.files import exclusive_lock, read_regular, write_atomic

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
        self._loaded: dict[str, tuple[Path, Any]] = {}

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
                State(url, name, channel, secrets.token_hex(16)).save(device._state_file)
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
            data = read_regular(path, MAX_PROFILE_BYTES + 1) if path.exists() else b"{}"
            found = Profile.from_json(document.read(data, "profile", most_bytes=MAX_PROFILE_BYTES))
        except (OSError, RepositoryError) as error:
            raise UpdateError(f"{path} is damaged: {error}") from None
        if not found.os:
            system = _SYSTEMS.get(sys.platform, "")
            found = replace(found, os=system, os_version=_os_version(), device_class="other")
        return replace(found, install_id=self.status().install_id)

    def model(self, name: str | None = None) -> Path:
        """The active version of a model; `name` may be left out where there is one model alone.

        Raises `UpdateError` when there is none yet.
        """
        state = self.status()
        active = state.slot(name).active
        path = self._models.model(active.model) if active is not None else None
        if path is None:
            what = f"version of {name} yet" if name is not None and len(state.models) > 1 else "model yet"
            raise UpdateError(f"{self.folder} has no {what}", hint="coremlops device update --device DIR")
        return path

    def start(self, name: str | None = None) -> Running:
        """Which model the app is to load now; counts a start, until `started` confirms it. Needs no network.

        After three starts in a row that were not confirmed, and when its files are gone, the device returns
        to the model before, or to the app's own, and remembers why. A model that the app carries and the
        channel has not is the app's own. Raises `UpdateError`.
        """
        profile = self.profile()
        return start(self.folder, self._models, self._slot(name, profile), profile)

    def started(self, name: str | None = None) -> None:
        """The model that was started has answered: its count of starts begins anew."""
        with contextlib.suppress(OSError):  # a folder that takes nothing has no count either
            starts_file(self.folder, self._slot(name).name).unlink(missing_ok=True)

    def failed(self, reason: str, name: str | None = None) -> None:
        """The model that was started could not be loaded, or did not answer; `reason` is remembered."""
        slot = self._slot(name)
        if slot.active is not None:
            path = starts_file(self.folder, slot.name)
            with contextlib.suppress(OSError):
                replace(Starts.load(path, slot.active.manifest), reason=reason).save(path)

    @contextlib.contextmanager
    def running(self, name: str | None = None) -> Iterator[Running]:
        """`start`, then `started`; `failed` when the block raises.

        Ctrl-C, and what is not installed here, are no fault of the model: that start is not counted.
        """
        found = self.start(name)
        try:
            yield found
        except (KeyboardInterrupt, UsageError):
            forgive(self.folder, self._slot(name))
            raise
        except Exception as error:
            self.failed(f"{type(error).__name__}: {error}", name)
            raise
        self.started(name)

    def predict(
        self, inputs: Mapping[str, Any], name: str | None = None, *, image_option: str = "metadata"
    ) -> dict[str, Any]:
        """Run the active version of a model, which is started first. Images are prepared as its metadata
        says, unless `image_option` differs; states begin as zeros in each call. Raises `UpdateError` where
        there is none.
        """
        from coremlops import runtime

        given, name = dict(inputs), self._slot(name).name
        path, loaded = self._loaded.get(name, (None, None))
        if path is not None and path == self.model(name):
            return _answer(loaded, given, image_option)
        with self.running(name) as found:
            path = found.path
            if path is None:
                if not self.profile().carries(name):
                    self.model(name)  # which says that there is none, if so
                raise UpdateError(
                    f"{self.folder} is to use the app's own model, which is not here",
                    hint="coremlops device status --device DIR says why",
                )
            loaded = runtime.load(path)
            try:
                answer = _answer(loaded, given, image_option)
            except (InputError, UsageError):
                self.started(name)  # the question was wrong, not the model
                raise
        self._loaded[name] = (path, loaded)
        return answer

    def plan(self, names: Collection[str] | None = None) -> Plan:
        """What an update would fetch, without fetching it. Raises `UpdateError`."""
        with self._locked():
            try:
                return self._offer(self.status(), Meter(None), self._web, names).plan()
            except (DownloadError, TufError, OSError) as error:
                raise UpdateError(ended(error)[1]) from None

    def update(
        self,
        progress: Progress | None = None,
        *,
        cancelled: Callable[[], bool] | None = None,
        names: Collection[str] | None = None,
    ) -> UpdateResult:
        """Look at the channel once, and take the current version of each model, if it can be trusted and
        answers its golden set. `names`: of these models alone.

        Whatever is wrong with an offer or the network, what was active stays active and the result says why;
        what is wrong with one model keeps no other from being updated. A version that was judged and refused
        is not fetched again. `progress` is told each step, in bytes. `cancelled` is asked several times a
        second; what has come is kept for the next update. Raises `UpdateError` only when this folder is no
        device, or another process is updating it, `RepositoryError` for what cannot be a model's name.
        """
        web = self._web if cancelled is None else Stoppable(self._web, cancelled)
        with self._locked():
            offer = self._offer(self.status(), Meter(progress), web, names)
            result = offer.take()
            now = datetime.now(UTC).replace(microsecond=0)
            state = replace(offer.state, last=Check(now, result.outcome, short(result.reason)))
            with contextlib.suppress(OSError):  # A full disk must not hide why the update failed.
                state.save(self._state_file)
            reports.after_update(self.folder, state, self.profile, result)
            return result

    def _offer(
        self, state: State, meter: Meter, web: Web | Stoppable, names: Collection[str] | None
    ) -> Offer:
        only = (names,) if isinstance(names, str) else names
        only = None if only is None else tuple(check_name(name) for name in only)
        return Offer(self.folder, web, state, self.profile, datetime.now(UTC), meter, only)

    def _slot(self, name: str | None, profile: Profile | None = None) -> Slot:
        """What is here of a model; nothing of one that only the app has. Raises `UpdateError`."""
        state = self.status()
        if name is not None and name not in state.names and (profile or self.profile()).carries(name):
            return Slot(check_name(name))
        return state.slot(name)

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
        if other and any(slot.active is not None for slot in state.models):
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
            state = replace(state, url=url, collection=collection, channel=channel, models=())
            state.save(self._state_file)
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
