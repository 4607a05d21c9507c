"""What a device says of a version: a report that it signs when it is enrolled, else an anonymous count
when its user agreed to that, else nothing. A report that cannot be sent waits in `<device>/outbox/`.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tuf.api.exceptions import DownloadError

import coremlops
from coremlops.client.state import Installed, State
from coremlops.client.web import Limits, Web, check_url
from coremlops.collection import Profile, document
from coremlops.errors import CoremlopsError, ReportError, RepositoryError, UpdateError, UsageError
from coremlops.files import write_atomic
from coremlops.telemetry.count import Count, bucket
from coremlops.telemetry.report import MAX_NAME, MAX_OUTPUTS, Output, Report, rounded
from coremlops.telemetry.signing import ENROL, MAX_ENVELOPE_BYTES, REPORT, DeviceKey, Signed, plain_code

if TYPE_CHECKING:
    from coremlops.client.device import Device
    from coremlops.client.offer import UpdateResult
    from coremlops.golden import Judgement

ENROLMENT, COUNTING, OUTBOX = "enrolment.json", "counting.json", "outbox"
MAX_WAITING = 20
MAX_FILE_BYTES = 10_000
PATIENCE = Limits(connect_s=5.0, read_s=10.0, retries=0)
# What may be otherwise later: too slow, too often, not enrolled any more, or the intake's own trouble.
_LATER = frozenset({403, 408, 429, *range(500, 600)})
_REASON = re.compile(r"[a-z][a-z-]{0,29}")


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
            data = (folder / ENROLMENT).read_bytes()
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


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the reports that waited. `refused`: the intake's words for those it will never take;
    `why`: what those wait for that still do."""

    sent: int = 0
    refused: tuple[str, ...] = ()
    waiting: int = 0
    why: str = ""


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
        status, answer = Web(PATIENCE).post(f"{url}/enrol", Signed.make(key, ENROL, data).to_bytes())
    except DownloadError as error:
        raise ReportError(str(error), reason="unavailable", hint="the same code may be tried again") from None
    if status != 200 or _said(answer).get("ok") is not True:
        raise ReportError(
            f"{url} does not take this code: {_words(status, answer)}", reason=_words(status, answer)
        )
    replace(enrolment, enrolled=True).save(folder)
    return "present" if _said(answer).get("action") == "present" else "enrolled"


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
    """Say what an update found, and send what waits. Whatever goes wrong, the update is what it was."""
    with contextlib.suppress(CoremlopsError, DownloadError, OSError):
        enrolment, judged = Enrolment.load(folder), result.judged
        if enrolment is not None and enrolment.enrolled:
            if judged is not None:
                queue(folder, enrolment, report(state.collection, judged, result.judgement, profile()))
            if result.outcome not in ("offline", "cancelled"):
                send(folder, enrolment)
        elif judged is not None and (url := _counting(folder)) is not None:
            said = report(state.collection, judged, result.judgement, profile())
            times = bucket(said.load_s), bucket(said.latency_s)
            counted = Count(said.collection, said.version, said.ok, said.os, *times)
            Web(PATIENCE).post(
                f"{url}/count", counted.to_bytes()
            )  # lost is lost: sent twice, it counts twice


def after_return(folder: Path, state: State, left: Installed, profile: Profile) -> None:
    """Let it wait to be said that the device returned from a version: it takes the place of the pass that was
    reported when the golden set was checked. Nothing is sent here, and nothing is raised.
    """
    with contextlib.suppress(CoremlopsError, OSError):
        enrolment = Enrolment.load(folder)
        if enrolment is not None and enrolment.enrolled:
            queue(folder, enrolment, report(state.collection, left, None, profile))


def report_now(device: Device) -> tuple[Report, Sent]:
    """Judge the active model anew, and send what is found and what waits.

    Raises `UpdateError` for a device that is not enrolled or has no model, `ReportError`, `UsageError`.
    """
    from coremlops import golden

    folder, state = device.folder, device.status()
    enrolment = Enrolment.load(folder)
    if enrolment is None or not enrolment.enrolled:
        raise UpdateError(f"{folder} is not enrolled", hint="coremlops device enrol --device DIR --code CODE")
    model, active = device.model(), state.active
    if active is None:
        raise UpdateError(f"{folder} has no model yet")
    judgement = None
    try:
        judgement = golden.check(model, model.parent / "golden")
    except UsageError:
        raise  # something is not installed here: no verdict on the model
    except CoremlopsError:
        pass
    said = report(state.collection, active, judgement, device.profile())
    try:
        queue(folder, enrolment, said)
        return said, send(folder, enrolment)
    except OSError as error:
        raise UpdateError(f"{folder / OUTBOX}: {error.strerror}") from None


def report(collection: str, of: Installed, judgement: Judgement | None, profile: Profile) -> Report:
    """What this device says of a version, in few digits. `judgement`: None where a model could not be judged.

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


def queue(folder: Path, enrolment: Enrolment, said: Report) -> None:
    """Sign a report and let it wait; of more than `MAX_WAITING` the oldest goes. Raises `UpdateError`."""
    data = Signed.make(enrolment.key, REPORT, said.to_bytes()).to_bytes()
    outbox = folder / OUTBOX
    try:
        outbox.mkdir(exist_ok=True)
        _write(outbox / f"{said.at:%Y%m%dT%H%M%SZ}-{said.manifest[:16]}.json", data)
        for old in _waiting(folder)[:-MAX_WAITING]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise UpdateError(f"{outbox} cannot be written: {error.strerror}") from None


def send(folder: Path, enrolment: Enrolment) -> Sent:
    """Send what waits, oldest first, until the intake cannot be reached. Raises OSError."""
    web, sent = Web(PATIENCE), 0
    refused: list[str] = []
    for file in _waiting(folder):
        try:
            with file.open("rb") as opened:
                body = opened.read(MAX_ENVELOPE_BYTES + 1)
        except FileNotFoundError:  # another process sent it meanwhile
            continue
        try:
            status, answer = web.post(f"{enrolment.url}/report", body)
        except DownloadError as error:
            return Sent(sent, tuple(refused), len(_waiting(folder)), str(error))
        taken = _said(answer).get("ok")
        # Only an intake's own words lose a report: a portal, or a proxy's page, is no intake.
        if status in _LATER or taken is not (status == 200):
            return Sent(sent, tuple(refused), len(_waiting(folder)), _words(status, answer))
        if taken:
            sent += 1
        else:
            refused.append(_words(status, answer))
        file.unlink(missing_ok=True)
    return Sent(sent, tuple(refused), len(_waiting(folder)))


def _waiting(folder: Path) -> list[Path]:
    """Oldest first; what is no file of ours is not looked at."""
    found = sorted((folder / OUTBOX).glob("[0-9]*.json"))
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _counting(folder: Path) -> str | None:
    """The intake to count at, None when the user did not agree."""
    try:
        data = (folder / COUNTING).read_bytes()
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


def _said(answer: bytes) -> dict[str, object]:
    """An answer's object; what is none says nothing."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _words(status: int, answer: bytes) -> str:
    """The reason in one word; whatever else a server writes is not repeated."""
    reason = _said(answer).get("reason")
    return reason if isinstance(reason, str) and _REASON.fullmatch(reason) else f"status {status}"


def _peak_bytes() -> int | None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(rounded(float(peak * (1 if sys.platform == "darwin" else 1024))) or 0) or None
