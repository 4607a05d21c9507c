from __future__ import annotations

from dataclasses import replace

import pytest

from coremlops.collection import Entry, Variant
from coremlops.errors import GateError, UsageError
from coremlops.telemetry.report import Report
from coremlops.telemetry.requirement import Requirement
from tests.telemetry.reports import FAIL, NOW, PASS, report

ENTRY = Entry(1, NOW, (Variant("default", "mlpackage", "a" * 64, "b" * 64, 10),))
OTHER = report(chip="M2", device_class="mac")
ASKED = Requirement.parse("golden:devices=3,classes=2")


def missing(asked: Requirement, *reports: Report) -> tuple[str, ...]:
    with pytest.raises(GateError) as caught:
        asked.judge("faces", ENTRY, reports)
    assert caught.value.exit_code == 3
    return caught.value.failed


def test_three_devices_of_two_kinds_are_enough_and_the_audit_log_says_which() -> None:
    found = ASKED.judge("faces", ENTRY, [PASS, PASS, OTHER])
    assert found | {"reports": ""} == {
        "require": "golden:devices=3,classes=2,failures=0,proof=device",
        "devices": 3,
        "classes": ["mac M2", "phone A17 Pro"],
        "failures": 0,
        "proofs": {"device": 3},
        "reports": "",
    }
    assert ASKED.judge("faces", ENTRY, [OTHER, PASS, PASS])["reports"] == found["reports"]


def test_too_few_devices_or_kinds() -> None:
    assert missing(ASKED, PASS, OTHER) == ("3 devices that passed expected, got 2",)
    assert missing(ASKED, PASS, PASS, PASS) == ("2 kinds of devices expected, got 1 (phone A17 Pro)",)
    assert len(missing(ASKED)) == 2


def test_a_chip_that_is_unknown_is_not_another_kind() -> None:
    unknown = replace(PASS, chip="")
    assert missing(ASKED, PASS, PASS, unknown) == ("2 kinds of devices expected, got 1 (phone A17 Pro)",)
    found = ASKED.judge("faces", ENTRY, [unknown, unknown, OTHER])
    assert found["classes"] == ["mac M2", "phone (chip unknown)"]


def test_an_emulated_pass_is_no_devices_unless_the_requirement_says_so() -> None:
    weak = [replace(each, proof="emulated") for each in (PASS, PASS, OTHER)]
    assert missing(ASKED, *weak)[0] == (
        "3 devices that passed expected, got 0 (3 more passed, with a proof below device)"
    )
    found = replace(ASKED, proof="emulated").judge("faces", ENTRY, [*weak, PASS])
    assert found["proofs"] == {"device": 1, "emulated": 3}
    assert missing(replace(ASKED, proof="mac"), *weak[:2], PASS)


def test_a_failure_refuses_whatever_it_rests_on_until_so_many_are_allowed() -> None:
    failed = replace(FAIL, proof="emulated")
    assert missing(ASKED, PASS, PASS, OTHER, failed) == (
        "at most 0 failed devices expected, got 1 (outputs 1)",
    )
    assert Requirement.parse("golden:devices=3,failures=1").judge("faces", ENTRY, [PASS, PASS, OTHER, failed])


def test_reports_of_another_manifest_or_model_are_not_counted() -> None:
    for other in (report(manifest="c" * 64), report(model="c" * 64), report(FAIL, manifest="c" * 64)):
        assert missing(ASKED, PASS, OTHER, other) == ("3 devices that passed expected, got 2",)


def test_what_was_said_of_another_models_version_of_that_number_is_not_counted() -> None:
    for other in (report(name="cats"), report(version=2), report(FAIL, name="cats")):
        assert missing(ASKED, PASS, OTHER, other) == ("3 devices that passed expected, got 2",)
    with pytest.raises(GateError, match="3 devices that passed expected, got 1"):
        ASKED.judge("cats", ENTRY, [PASS, OTHER, report(OTHER, name="cats")])


@pytest.mark.parametrize(
    "text",
    [
        "golden",
        "golden:classes=2",
        "golden:devices=0",
        "golden:devices=3,devices=3",
        "golden:devices=-1",
        "golden:devices=\u0663",
        "golden:devices=3,colour=2",
        "golden:devices=3,proof=sworn",
        "crashes:devices=3",
    ],
)
def test_a_requirement_that_is_none_is_a_mistake(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--require: "):
        Requirement.parse(text)
