"""Reports that wait in `<device>/outbox/` to be sent, one file each, and what an intake answers to them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from tuf.api.exceptions import DownloadError

from coremlops.client.web import Limits, Web
from coremlops.collection import MAX_MODELS
from coremlops.errors import UpdateError
from coremlops.files import read_regular, write_atomic
from coremlops.telemetry.report import Report
from coremlops.telemetry.signing import MAX_ENVELOPE_BYTES, REPORT, DeviceKey, Signed

OUTBOX = "outbox"
MAX_WAITING = 4 * MAX_MODELS
PATIENCE = Limits(connect_s=5.0, read_s=10.0, retries=0)
# What may be otherwise later: too slow, too often, not enrolled any more, or the intake's own trouble.
_LATER = frozenset({403, 408, 429, *range(500, 600)})
_REASON = re.compile(r"[a-z][a-z-]{0,29}")


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of the reports that waited. `refused`: the intake's words for those it will never take;
    `why`: what those wait for that still do."""

    sent: int = 0
    refused: tuple[str, ...] = ()
    waiting: int = 0
    why: str = ""


def put(folder: Path, key: DeviceKey, said: Report) -> None:
    """Sign a report and let it wait; of more than `MAX_WAITING` the oldest goes. Raises `UpdateError`."""
    data = Signed.make(key, REPORT, said.to_bytes()).to_bytes()
    outbox = folder / OUTBOX
    # Two models may be judged within a second; a later word on the same one takes the earlier one's place.
    name = f"{said.at:%Y%m%dT%H%M%SZ}-{said.name}-{said.manifest[:16]}.json"
    try:
        outbox.mkdir(exist_ok=True)
        write_atomic(outbox / name, data, mode=0o600)
        for old in _waiting(folder)[:-MAX_WAITING]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise UpdateError(f"{outbox} cannot be written: {error.strerror}") from None


def send(folder: Path, url: str) -> Sent:
    """Send what waits to the intake at `url`, oldest first, until it cannot be reached. Raises OSError."""
    web, sent = Web(PATIENCE), 0
    refused: list[str] = []
    for file in _waiting(folder):
        try:
            body = read_regular(file, MAX_ENVELOPE_BYTES + 1)
        except FileNotFoundError:  # another process sent it meanwhile
            continue
        try:
            status, answer = web.post(f"{url}/report", body)
        except DownloadError as error:
            return Sent(sent, tuple(refused), len(_waiting(folder)), str(error))
        taken = answered(answer).get("ok")
        # Only an intake's own words lose a report: a portal, or a proxy's page, is no intake.
        if status in _LATER or taken is not (status == 200):
            return Sent(sent, tuple(refused), len(_waiting(folder)), words(status, answer))
        if taken:
            sent += 1
        else:
            refused.append(words(status, answer))
        file.unlink(missing_ok=True)
    return Sent(sent, tuple(refused), len(_waiting(folder)))


def answered(answer: bytes) -> dict[str, object]:
    """An intake's answer, an object; what is none says nothing."""
    try:
        value = json.loads(answer)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def words(status: int, answer: bytes) -> str:
    """The reason in one word; whatever else a server writes is not repeated."""
    reason = answered(answer).get("reason")
    return reason if isinstance(reason, str) and _REASON.fullmatch(reason) else f"status {status}"


def _waiting(folder: Path) -> list[Path]:
    """Oldest first; what is no file of ours is not looked at."""
    found = sorted((folder / OUTBOX).glob("[0-9]*.json"))
    return [path for path in found if path.is_file() and not path.is_symlink()]
