"""A report: how one variant of a model's version did on one device. Written once, and signed as these bytes.

It holds nothing that names a device: no install ID, no key, no text that somebody typed.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from datetime import datetime

from coremlops.collection import check_collection, check_name, check_variant, document
from coremlops.collection.rules import DEVICE_CLASSES, SYSTEMS, is_chip, version_key
from coremlops.errors import ReportError, RepositoryError

MAX_REPORT_BYTES = 16_000
MAX_OUTPUTS = 32
MAX_NAME = 128
MAX_SECONDS = 86_400.0
MAX_MEMORY_BYTES = 1 << 50
MAX_NUMBER = 1e38

PROOFS = ("emulated", "mac", "device")
FAILURES = ("outputs", "model")
COMPUTE_UNITS = ("cpu", "cpuOnly", "cpuAndGPU", "cpuAndNeuralEngine", "all")
_CLIENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9 .+-]{0,39}")


@dataclass(frozen=True, slots=True)
class Output:
    """One output. `error`: the largest over the golden set, None when it was no finite number."""

    name: str
    error: float | None
    tolerance: float
    ok: bool

    @staticmethod
    def from_json(value: object, what: str) -> Output:
        """Read one. Raises `RepositoryError`."""
        fields = document.Fields(value, what, ("name", "error", "tolerance", "ok"))
        name = fields.text("name")
        if not 0 < len(name) <= MAX_NAME or not name.isprintable():
            fields.refuse("name", f"1 to {MAX_NAME} printable characters")
        tolerance = _number(fields, "tolerance", 0.0, MAX_NUMBER)
        if tolerance is None:
            fields.refuse("tolerance", f"a number from 0 to {MAX_NUMBER:g}")
        return Output(name, _number(fields, "error", 0.0, MAX_NUMBER), tolerance, fields.truth("ok"))


@dataclass(frozen=True, slots=True)
class Report:
    """What a device found when it held a variant against its golden set.

    `name`: the model's in its collection. `model`, `manifest`: their SHA-256. `at`: the device's clock, UTC.
    `failure`: one of `FAILURES`, empty when it passed: wrong answers, or a model that is not as promised or
    does not run. `agreement`: share of equal top-1 answers. `load_s` uncached, `load_cached_s`, `latency_s`
    (median): seconds. `memory_bytes`: the process's peak. `compute_units`: Core ML's, or "cpu" where
    something else ran the model and `proof` is "emulated". None is "not measured".
    """

    collection: str
    name: str
    version: int
    variant: str
    model: str
    manifest: str
    at: datetime
    ok: bool
    failure: str
    outputs: tuple[Output, ...]
    agreement: float | None
    load_s: float | None
    load_cached_s: float | None
    latency_s: float | None
    memory_bytes: int | None
    compute_units: str
    os: str
    os_version: str
    device_class: str
    chip: str
    client: str
    proof: str

    @property
    def kind_of_device(self) -> str:
        """What `classes=` counts: the class and the chip, since chips differ in how they compute."""
        return f"{self.device_class} {self.chip}" if self.chip else f"{self.device_class} (chip unknown)"

    def to_bytes(self) -> bytes:
        """The document, the same bytes for the same report."""
        return document.write({"format": 0} | asdict(self) | {"at": document.time_text(self.at)})

    @staticmethod
    def from_bytes(data: bytes) -> Report:
        """Read a report of whoever sent it. Raises `ReportError`."""
        try:
            return _read(data)
        except RepositoryError as error:
            raise ReportError(error.message, reason="schema") from None


def _read(data: bytes) -> Report:
    keys = ("format", *Report.__dataclass_fields__)
    fields = document.Fields(document.read(data, "report", most_bytes=MAX_REPORT_BYTES), "report", keys)
    fields.format()
    outputs = tuple(
        Output.from_json(item, f"report: outputs[{place}]")
        for place, item in enumerate(fields.items("outputs", MAX_OUTPUTS))
    )
    if len({each.name for each in outputs}) != len(outputs):
        raise RepositoryError("report: 'outputs': expected each name once")
    ok, failure = fields.truth("ok"), fields.text("failure")
    if failure not in (("",) if ok else FAILURES):
        fields.refuse("failure", "'' when ok" if ok else f"one of {', '.join(FAILURES)} when not ok")
    if ok and not (outputs and all(each.ok for each in outputs)):
        raise RepositoryError("report: 'outputs': expected 1 or more, all ok, when the report is ok")
    if fields.text("proof") != "emulated" and fields.text("compute_units") == "cpu":
        fields.refuse("proof", "emulated, where no Core ML ran the model")
    memory = fields.raw("memory_bytes")
    return Report(
        collection=check_collection(fields.text("collection")),
        name=check_name(fields.text("name")),
        version=fields.version("version"),
        variant=check_variant(fields.text("variant")),
        model=fields.sha256("model"),
        manifest=fields.sha256("manifest"),
        at=fields.time("at"),
        ok=ok,
        failure=failure,
        outputs=outputs,
        agreement=_number(fields, "agreement", 0.0, 1.0),
        load_s=_number(fields, "load_s", 0.0, MAX_SECONDS),
        load_cached_s=_number(fields, "load_cached_s", 0.0, MAX_SECONDS),
        latency_s=_number(fields, "latency_s", 0.0, MAX_SECONDS),
        memory_bytes=None if memory is None else fields.integer("memory_bytes", 0, MAX_MEMORY_BYTES),
        compute_units=_one_of(fields, "compute_units", COMPUTE_UNITS),
        os=_one_of(fields, "os", SYSTEMS),
        os_version=_os_version(fields),
        device_class=_one_of(fields, "device_class", DEVICE_CLASSES),
        chip=_chip(fields),
        client=_client(fields),
        proof=_one_of(fields, "proof", PROOFS),
    )


def _number(fields: document.Fields, key: str, low: float, high: float) -> float | None:
    """A finite number from `low` to `high`, or null."""
    value = fields.raw(key)
    if value is None:
        return None
    # A whole number may be beyond all floats, and NaN compares as false.
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        fields.refuse(key, f"a number from {low:g} to {high:g}, or null")
    return float(value)


def _one_of(fields: document.Fields, key: str, values: tuple[str, ...]) -> str:
    value = fields.text(key)
    if value not in values:
        fields.refuse(key, f"one of {', '.join(values)}")
    return value


def _os_version(fields: document.Fields) -> str:
    text = fields.text("os_version")
    if text:
        version_key(text)
    return text


def _chip(fields: document.Fields) -> str:
    text = fields.text("chip")
    if text and not is_chip(text):
        fields.refuse("chip", "a name such as 'A17 Pro', or '' when it is unknown")
    return text


def _client(fields: document.Fields) -> str:
    text = fields.text("client")
    if not _CLIENT.fullmatch(text):
        fields.refuse("client", "a program and its version such as 'coremlops 0.1.0'")
    return text


def rounded(value: float | None) -> float | None:
    """Three significant digits: enough to compare, too few to tell a device by. None for no number."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.3g}")
