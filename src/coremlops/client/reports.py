"""What a device says of a model's version: a report that it signs when it is enrolled, else an anonymous
count when its user agreed to that, else nothing.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tuf.api.exceptions import DownloadError

import coremlops
from coremlops.client import outbox
from coremlops.client.outbox import Sent
from coremlops.client.state import Installed, State
from coremlops.client.web import Web, check_url
from coremlops.collection import Profile, document
from coremlops.errors import CoremlopsError, ReportError, RepositoryError, UpdateError, UsageError
from coremlops.files import read_regular, write_atomic
from coremlops.telemetry.count import Count, bucket
from coremlops.telemetry.report import MAX_NAME, MAX_OUTPUTS, Output, Report, rounded
from coremlops.telemetry.signing import ENROL, DeviceKey, Signed, plain_code

if TYPE_CHECKING:
    from coremlops.client.device import Device
    from coremlops.client.results import UpdateResult
    from coremlops.golden import Judgement

ENROLMENT, COUNTING = "enrolment.json", "counting.json"
MAX_FILE_BYTES = 10_000


@dataclass(frozen=True, slots=True)
class Enrolment:
    """`enrolment.json`, mode 0600. `enrolled`: whether the intake at `url` has said so."""

    url: str
    key: DeviceKey = field(repr=False)
    enrolled: bool

    @staticmethod
    def load(folder: Path) -> Enrolment | None:
        """The device's, None when there is none. Raises `UpdateError` for a damaged file."""
        try:
            data = read_regular(folder / ENROLMENT, MAX_FILE_BYTES + 1)
            value = document.read(data, ENROLMENT, most_bytes=MAX_FILE_BYTES)
            fields = document.Fields(value, ENROLMENT, ("format", "url", "key", "enrolled"))
            fields.format()
            key = DeviceKey.read(fields.text("key"))
            return Enrolment(_check(fields.text("url")), key, fields.truth("enrolled"))
        except FileNotFoundError:
            return None
        except (OSError, RepositoryError, ReportError, UsageError) as error:
            raise UpdateError(
                f"{folder / ENROLMENT} is damaged: {error}", hint="remove it and enrol again"
            ) from None

    def save(self, folder: Path) -> None:
        """Replace the file. Raises `UpdateError`."""
        value = {"format": 0, "url": self.url, "key": self.key.write(), "enrolled": self.enrolled}
        _write(folder / ENROLMENT, document.write(value))


def enrol(folder: Path, code: str, url: str | None = None) -> str:
    """Enrol this device with a one-time code: "enrolled", or "present" when its key was enrolled already.

    `url`: the intake's; without it, `intake` below the repository's. The key is on the disk before it is
    sent, so a lost answer costs no code. Raises `ReportError`, `UpdateError`, `UsageError`.
    """
    data = plain_code(code).encode("ascii")
    url = _check(url or _beside(folder))
    before = Enrolment.load(folder)
    if before is not None and before.enrolled and before.url != url:
        raise UpdateError(
            f"{folder} is enrolled at {before.url} already", hint=f"remove {folder / ENROLMENT} to leave it"
        )
    key = before.key if before is not None else DeviceKey.make()
    enrolment = Enrolment(url, key, before is not None and before.enrolled)
    enrolment.save(folder)
    try:
        status, answer = Web(outbox.PATIENCE).post(f"{url}/enrol", Signed.make(key, ENROL, data).to_bytes())
    except DownloadError as error:
        raise ReportError(str(error), reason="unavailable", hint="the same code may be tried again") from None
    said = outbox.answered(answer)
    if status != 200 or said.get("ok") is not True:
        reason = outbox.words(status, answer)
        raise ReportError(f"{url} does not take this code: {reason}", reason=reason)
    replace(enrolment, enrolled=True).save(folder)
    return "present" if said.get("action") == "present" else "enrolled"


def count(folder: Path, on: bool, url: str | None = None) -> None:
    """Whether this device adds to anonymous sums from now on; it does not unless its user agreed.

    Raises `UpdateError`, `UsageError`.
    """
    where = _check(url or _beside(folder))
    if on:
        _write(folder / COUNTING, document.write({"format": 0, "url": where}))
        return
    try:
        (folder / COUNTING).unlink(missing_ok=True)
    except OSError as error:
        raise UpdateError(f"{folder / COUNTING} cannot be removed: {error.strerror}") from None


def after_update(folder: Path, state: State, profile: Callable[[], Profile], result: UpdateResult) -> None:
    """Say what an update found of each model that it judged, and send what waits.

    Whatever goes wrong, the update is what it was.
    """
    with contextlib.suppress(CoremlopsError, DownloadError, OSError):
        enrolment = Enrolment.load(folder)
        if enrolment is not None and enrolment.enrolled:
            for said in _judged(state.collection, profile, result):
                outbox.put(folder, enrolment.key, said)
            unreached = result.outcome == "offline" and all(
                each.outcome == "offline" for each in result.models
            )
            if result.outcome != "cancelled" and not unreached:
                outbox.send(folder, enrolment.url)
        elif result.outcome != "cancelled" and (url := _counting(folder)) is not None:
            # What a device of another system found of what it runs was counted when that came.
            new = replace(result, models=tuple(each for each in result.models if each.outcome != "current"))
            for said in _judged(state.collection, profile, new):
                times = bucket(said.load_s), bucket(said.latency_s)
                counted = Count(said.collection, said.name, said.version, said.ok, said.os, *times)
                # Lost is lost, and the rest with it: sent twice, it counts twice.
                Web(outbox.PATIENCE).post(f"{url}/count", counted.to_bytes())


def _judged(collection: str, profile: Callable[[], Profile], result: UpdateResult) -> Iterator[Report]:
    """A report of each model that was judged; one that the format cannot hold keeps no other back."""
    for each in result.models:
        if each.judged is not None:
            with contextlib.suppress(ReportError):
                yield report(collection, each.name, each.judged, each.judgement, profile())


def after_return(folder: Path, collection: str, name: str, left: Installed, profile: Profile) -> None:
    """Let it wait to be said that the device returned from a version of a model: it takes the place of the
    pass that was reported when the golden set was checked. Nothing is sent here, and nothing is raised.
    """
    with contextlib.suppress(CoremlopsError, OSError):
        enrolment = Enrolment.load(folder)
        if enrolment is not None and enrolment.enrolled:
            outbox.put(folder, enrolment.key, report(collection, name, left, None, profile))


def report_now(device: Device, name: str | None = None) -> tuple[tuple[Report, ...], Sent]:
    """Judge each active model anew, or the one of this name, and send what is found and what waits.

    Raises `UpdateError` for a device that is not enrolled or has no model, `ReportError`, `UsageError`.
    """
    folder, state = device.folder, device.status()
    enrolment = Enrolment.load(folder)
    if enrolment is None or not enrolment.enrolled:
        raise UpdateError(f"{folder} is not enrolled", hint="coremlops device enrol --device DIR --code CODE")
    slots = state.models if name is None else (state.slot(name),)
    active = [(slot.name, slot.active) for slot in slots if slot.active is not None]
    if not active:
        raise UpdateError(f"{folder} has no model yet", hint="coremlops device update --device DIR")
    told = []
    for each, installed in active:
        for other in state.models:
            if other.name != each and other.active is not None and other.active.model == installed.model:
                raise UpdateError(
                    f"{each} and {other.name} are the same model, of which one golden set is here: it may be"
                    " the other's",
                    hint="what an update found of each was reported then; --model NAME for one of the others",
                )
        judgement = _check_again(device.model(each))
        told.append(report(state.collection, each, installed, judgement, device.profile()))
        outbox.put(folder, enrolment.key, told[-1])
    try:
        return tuple(told), outbox.send(folder, enrolment.url)
    except OSError as error:
        raise UpdateError(f"{folder / outbox.OUTBOX}: {error.strerror}") from None


def _check_again(model: Path) -> Judgement | None:
    """What its golden set finds now; None where the model does not run. Raises `UsageError`."""
    from coremlops import golden

    try:
        return golden.check(model, model.parent / "golden")
    except UsageError:
        raise  # something is not installed here: no verdict on the model
    except CoremlopsError:
        return None


def report(
    collection: str, name: str, of: Installed, judgement: Judgement | None, profile: Profile
) -> Report:
    """What this device says of a version of the model `name`, in few digits. `judgement`: None where it could
    not be judged.

    Everything runs on this CPU without Core ML, so it says `emulated`. Raises `ReportError` for what the
    format cannot say.
    """
    outputs: tuple[Output, ...] = ()
    if judgement is not None:
        worst = sorted(judgement.outputs, key=lambda each: (each.ok, -each.error))[:MAX_OUTPUTS]
        outputs = tuple(
            Output(each.name[:MAX_NAME], rounded(each.error), each.tolerance, each.ok) for each in worst
        )
    cached = None if judgement is None else judgement.load_cached_s
    said = Report(
        collection=collection,
        name=name,
        version=of.version,
        variant=of.variant,
        model=of.model,
        manifest=of.manifest,
        at=datetime.now(UTC).replace(microsecond=0),
        ok=judgement is not None and judgement.ok,
        failure="model" if judgement is None else "" if judgement.ok else "outputs",
        outputs=outputs,
        agreement=None if judgement is None else rounded(judgement.agreement),
        load_s=None if judgement is None or cached is not None else rounded(judgement.load_s),
        load_cached_s=rounded(cached),
        latency_s=None if judgement is None else rounded(judgement.latency_s),
        memory_bytes=_peak_bytes(),
        compute_units="cpu",
        os=profile.os,
        os_version=profile.os_version,
        device_class=profile.device_class or "other",
        chip=profile.chip,
        client=f"coremlops {coremlops.__version__}"[:40],
        proof="emulated",
    )
    return Report.from_bytes(said.to_bytes())


def _counting(folder: Path) -> str | None:
    """The intake to count at, None when the user did not agree."""
    try:
        data = read_regular(folder / COUNTING, MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        return None
    fields = document.Fields(
        document.read(data, COUNTING, most_bytes=MAX_FILE_BYTES), COUNTING, ("format", "url")
    )
    fields.format()
    return _check(fields.text("url"))


def _beside(folder: Path) -> str:
    """The intake of `coremlops repo serve --intake`, beside the repository. Raises `UpdateError`."""
    return f"{State.load(folder / 'state.json').url}/intake"


def _check(url: str) -> str:
    if not (url := check_url(url)).startswith("http"):
        raise UsageError(
            f"an intake's URL is http:// or https://, got {url!r:.200}", hint="name it with --url"
        )
    return url


def _write(path: Path, data: bytes) -> None:
    try:
        write_atomic(path, data, mode=0o600)
    except OSError as error:
        raise UpdateError(f"{path} cannot be written: {error.strerror}") from None


def _peak_bytes() -> int | None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(rounded(float(peak * (1 if sys.platform == "darwin" else 1024))) or 0) or None
