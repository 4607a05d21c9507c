"""Reports to build tests on."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from coremlops.telemetry.report import Output, Report
from coremlops.telemetry.signing import ENROL, REPORT, DeviceKey, Signed, plain_code
from coremlops.telemetry.store import Store

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
PASS = Report(
    collection="faces",
    name="faces",
    version=1,
    variant="default",
    model="a" * 64,
    manifest="b" * 64,
    at=NOW,
    ok=True,
    failure="",
    outputs=(Output("probabilities", 0.01, 0.1, True),),
    agreement=1.0,
    load_s=0.25,
    load_cached_s=None,
    latency_s=0.012,
    memory_bytes=1 << 27,
    compute_units="cpuAndNeuralEngine",
    os="iOS",
    os_version="17.4",
    device_class="phone",
    chip="A17 Pro",
    client="coremlops 0.1.0",
    proof="device",
)
FAIL = replace(PASS, ok=False, failure="outputs", outputs=(Output("probabilities", None, 0.1, False),))


def report(base: Report = PASS, **changes: Any) -> Report:
    return replace(base, **changes)


def signed(key: DeviceKey, base: Report = PASS, **changes: Any) -> Signed:
    return Signed.make(key, REPORT, report(base, **changes).to_bytes())


def enrolled(store: Store, now: datetime = NOW) -> DeviceKey:
    """A new device, enrolled."""
    (code,) = store.make_codes(1, now=now, lasts=timedelta(days=1))
    key = DeviceKey.make()
    assert store.enrol(Signed.make(key, ENROL, plain_code(code).encode()), now=now) == "enrolled"
    return key
