from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coremlops.errors import ReportError
from coremlops.telemetry.count import Count, bucket
from coremlops.telemetry.report import MAX_REPORT_BYTES, Report, rounded
from coremlops.telemetry.signing import Signed
from tests.telemetry.reports import FAIL, PASS, report

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("whole", [PASS, FAIL, report(chip="", os_version="", agreement=None)])
def test_a_report_is_read_as_it_was_written(whole: Report) -> None:
    assert Report.from_bytes(whole.to_bytes()) == whole
    assert whole.to_bytes() == Report.from_bytes(whole.to_bytes()).to_bytes()


def test_the_bytes_of_a_report_are_these() -> None:
    assert PASS.to_bytes() == (
        b'{"agreement":1.0,"at":"2026-11-25T12:00:00Z","chip":"A17 Pro","client":"coremlops 0.1.0",'
        b'"collection":"faces","compute_units":"cpuAndNeuralEngine","device_class":"phone","failure":"",'
        b'"format":0,"latency_s":0.012,"load_cached_s":null,"load_s":0.25,"manifest":"' + b"b" * 64 + b'",'
        b'"memory_bytes":134217728,"model":"' + b"a" * 64 + b'","name":"faces","ok":true,"os":"iOS",'
        b'"os_version":"17.4","outputs":[{"error":0.01,"name":"probabilities","ok":true,"tolerance":0.1}],"proof":"device",'
        b'"variant":"default","version":1}\n'
    )


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("format", 1, "reads format 0 alone"),
        ("version", 0, "a whole number from 1"),
        ("collection", "../x", "a collection's name is"),
        ("name", "Faces", "a model's name is"),
        ("name", None, "a string"),
        ("manifest", "B" * 64, "64 lower-case hex digits"),
        ("at", "yesterday", "a time such as"),
        ("failure", "outputs", "'' when ok"),
        ("outputs", [], "1 or more, all ok"),
        ("outputs", [{"name": "p", "error": 2, "tolerance": 1, "ok": False}], "1 or more, all ok"),
        ("outputs", [{"name": "p\x1b[2J", "error": 0, "tolerance": 1, "ok": True}], "printable"),
        ("outputs", [{"name": "p", "error": 0, "tolerance": None, "ok": True}], "a number from 0"),
        ("outputs", [{"name": "p", "error": 0, "tolerance": 1, "ok": True}] * 2, "each name once"),
        ("outputs", [{}] * 33, "a list of at most 32"),
        ("agreement", 1.01, "a number from 0 to 1"),
        ("latency_s", -0.1, "a number from 0 to 86400"),
        ("load_s", True, "a number from 0 to 86400"),
        ("load_s", 10**400, "a number from 0 to 86400"),
        ("memory_bytes", 0.5, "a whole number"),
        ("compute_units", "gpu", "one of cpu, cpuOnly"),
        ("os", "Windows", "one of iOS"),
        ("os_version", "17.4-beta", "a version is 1 to 4 numbers"),
        ("device_class", "fridge", "one of phone"),
        ("chip", "<b>", "a name such as 'A17 Pro'"),
        ("client", "x" * 41, "a program and its version"),
        ("proof", "sworn", "one of emulated, mac, device"),
        ("serial_number", "C02", "unknown key 'serial_number'"),
    ],
)
def test_a_report_that_is_not_of_the_schema_is_refused(key: str, value: Any, expected: str) -> None:
    changed = json.loads(PASS.to_bytes()) | {key: value}
    with pytest.raises(ReportError) as caught:
        Report.from_bytes(json.dumps(changed).encode())
    assert expected in caught.value.message
    assert caught.value.reason == "schema"


def test_a_failed_report_names_one_of_the_known_failures() -> None:
    changed = json.loads(FAIL.to_bytes()) | {"failure": "my cat, Ada, at 12 Elm Street"}
    with pytest.raises(ReportError, match="one of outputs, model when not ok"):
        Report.from_bytes(json.dumps(changed).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b'{"ok":NaN}', b'{"a":1,"a":2}', b"[" * 5_000, b" " * (MAX_REPORT_BYTES + 1), b'"\\ud800"'],
)
def test_bytes_that_are_no_document_are_refused(data: bytes) -> None:
    for parse in (Report.from_bytes, Count.from_bytes, Signed.from_bytes):
        with pytest.raises(ReportError) as caught:
            parse(data)
        assert caught.value.reason == "schema"


@given(st.sampled_from(sorted(json.loads(PASS.to_bytes()))), JSON)
@settings(max_examples=300, deadline=None)
def test_no_value_anywhere_in_a_report_leads_to_anything_but_our_error(key: str, value: Any) -> None:
    changed = json.loads(FAIL.to_bytes()) | {key: value}
    with contextlib.suppress(ReportError):
        found = Report.from_bytes(json.dumps(changed).encode())
        assert Report.from_bytes(found.to_bytes()) == found


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()))
@settings(max_examples=300, deadline=None)
def test_no_bytes_lead_to_anything_but_our_error(data: bytes) -> None:
    for parse in (Report.from_bytes, Count.from_bytes, Signed.from_bytes):
        with pytest.raises(ReportError):
            parse(data)


def test_numbers_are_rounded_to_three_digits() -> None:
    assert [rounded(each) for each in (0.0123456, 98765.4, None, float("nan"), float("inf"))] == [
        *(0.0123, 98800.0),
        *(None, None, None),
    ]


def test_a_count_is_sums_that_stand_alone() -> None:
    count = Count("faces", "faces", 1, True, "iOS", load=bucket(0.3), latency=bucket(0.003))
    assert Count.from_bytes(count.to_bytes()) == count
    assert count.sums() == (
        *(("outcome", "pass"), ("os", "iOS")),
        *(("load", "512 ms"), ("latency", "4 ms")),
    )
    assert [bucket(each) for each in (0.0, 0.001, 0.0011, 1e9, None)] == [0, 0, 1, 24, None]


@pytest.mark.parametrize(
    ("key", "value"), [("load", 25), ("load", 0.3), ("os", "Bob's phone"), ("name", "../x"), ("who", 1)]
)
def test_a_count_that_says_more_is_refused(key: str, value: Any) -> None:
    changed = json.loads(Count("faces", "faces", 1, True, "iOS").to_bytes()) | {key: value}
    with pytest.raises(ReportError, match=key):
        Count.from_bytes(json.dumps(changed).encode())


def test_a_model_that_no_core_ml_ran_is_never_said_to_have_run_on_a_device() -> None:
    weak = replace(PASS, compute_units="cpu", proof="emulated", os="Linux", device_class="other", chip="")
    assert Report.from_bytes(weak.to_bytes()) == weak
    with pytest.raises(ReportError, match="'proof': expected emulated"):
        Report.from_bytes(replace(weak, proof="device").to_bytes())
